"""Objects as run lengths: COCO annotation files, written of finished clips and read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError, check_size
from dvos.files import atomic_path, parse_json, stem_of
from dvos.media.limits import MOST_PIXELS
from dvos.media.mask import read_mask

# What run lengths look like: groups of six bits, the highest telling that more follow. A run of
# a mask has at most eight groups: 2**35 pixels and a sign.
_RUNS = re.compile(r"(?:[P-o]{0,7}[0-O])+")


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """A mask, bool (H, W), as the compressed run lengths of COCO (``pycocotools.mask``)."""
    from pycocotools import mask as coco

    counts: bytes = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return counts.decode("ascii")


def decode_runs(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask, bool (H, W), of what :func:`encode_runs` wrote.

    Raises:
        ValueError: If the text is no such code, or its runs do not fill
            ``size`` (height, width).
    """
    from pycocotools import mask as coco

    # The library reads beyond the end of what is no such text, and takes too few runs.
    if not _RUNS.fullmatch(text):
        raise ValueError("it is no text of run lengths")
    unfit = ValueError(f"its runs do not fill {size[1]} x {size[0]} pixels")
    try:
        mask = np.asarray(coco.decode({"size": list(size), "counts": text.encode("ascii")}) > 0)
    except ValueError as error:
        raise unfit from error
    if encode_runs(mask) != text:
        raise unfit
    return mask


def write_run_lengths(
    path: Path, pictures: Mapping[str, str], masks_folder: Path, size: tuple[int, int]
) -> None:
    """Write the finished objects of a clip as one COCO annotation file.

    An image for each frame, an annotation for each object of it, ids counting
    from 1; ``object`` is its number in ``instances/<frame>.png``. Memory does not grow with the
    clip.

    Args:
        path: ``<clip>.json``.
        pictures: By the names of the frames, in order, those of their pictures.
        masks_folder: Holds ``instances/<frame>.png`` of each.
        size: (height, width) of the masks.

    Raises:
        MediaError: If a mask is missing, damaged or of another size.
        OutputError: If the file cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write('{"categories": [{"id": 1, "name": "object"}],\n"images": [')
        images = (
            {"id": number, "file_name": name, "height": size[0], "width": size[1]}
            for number, name in enumerate(pictures.values(), 1)
        )
        stream.writelines(_joined(images))
        stream.write('],\n"annotations": [')
        annotations = (
            {"image_id": number, "category_id": 1, "iscrowd": 0, **one}
            for number, frame in enumerate(pictures, 1)
            for one in _annotations(masks_folder / "instances" / f"{frame}.png", size)
        )
        stream.writelines(_joined({"id": n, **one} for n, one in enumerate(annotations, 1)))
        stream.write("]}\n")


def read_run_lengths(path: Path) -> dict[str, NDArray[np.bool_]]:
    """The masks of a COCO annotation file, bool (H, W), by the stems of the pictures' names.

    All annotations of a picture are joined: run lengths, compressed or not, and polygons.

    Raises:
        MediaError: If the file is missing or no such file, or two pictures have one stem.
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        of_image = {}
        for image in content["images"]:
            name = stem_of(Path(image["file_name"]))
            if name in masks:
                raise ValueError(f"two pictures are named {name!r}")
            height, width = int(image["height"]), int(image["width"])
            if height * width > MOST_PIXELS:
                raise ValueError(f"a picture of {width} x {height} pixels")
            masks[name] = np.zeros((height, width), np.bool_)
            of_image[image["id"]] = masks[name]
        for annotation in content["annotations"]:
            mask = of_image[annotation["image_id"]]
            mask |= _segmentation(annotation["segmentation"], (mask.shape[0], mask.shape[1]))
    except (
        *(OSError, UnicodeError, ValueError, KeyError, TypeError, AttributeError),
        *(IndexError, RecursionError, MemoryError, OverflowError),
    ) as error:
        raise MediaError.at(
            path,
            f"is no file of run lengths ({type(error).__name__}: {error})",
            "a <clip>.json of dvos predict, or another COCO annotation file",
        ) from error
    return masks


def _segmentation(coded: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of an annotation; ValueError, TypeError and the like if it is none of this size."""
    from pycocotools import mask as coco

    if isinstance(coded, Mapping):
        height, width = coded["size"]
        if (int(height), int(width)) != size:
            raise ValueError(f"an annotation of {width} x {height} pixels")
        counts = coded["counts"]
        if not isinstance(counts, str):
            if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
                raise ValueError(f"its runs do not fill {width} x {height} pixels")
            counts = coco.frPyObjects(coded, *size)["counts"].decode("ascii")
        return decode_runs(counts, size)
    parts = coded if isinstance(coded[0], list) else [coded]
    if any(len(part) < 6 or len(part) % 2 for part in parts):
        raise ValueError("a polygon without three points")
    # The library walks along each edge pixel by pixel, however far away it leads.
    farthest = 4 * max(size)
    if not all(abs(place) <= farthest for part in parts for place in part):
        raise ValueError("a polygon that leads far out of its picture")
    return np.asarray(coco.decode(coco.merge(coco.frPyObjects(parts, *size))) > 0)


def _joined(values: Iterable[dict[str, Any]]) -> Iterator[str]:
    for number, value in enumerate(values):
        yield (",\n" if number else "\n") + json.dumps(value)


def _annotations(path: Path, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """What COCO tells of each object in a picture of numbers: area, box and runs, whole columns.

    All are found in one pass, as a frame may hold tens of thousands.
    """
    from pycocotools import mask as coco

    numbers = read_mask(path)
    check_size(path, numbers.shape, size, "its clip")
    flat = numbers.T.ravel()
    places = np.flatnonzero(flat)
    if not places.size:
        return
    places = places[np.argsort(flat[places], kind="stable")]
    owners = flat[places]
    first = np.flatnonzero((np.diff(places, prepend=-2) != 1) | (np.diff(owners, prepend=0) != 0))
    starts, lengths = places[first], np.diff(first, append=places.size)
    of_object = np.flatnonzero(np.diff(owners[first], prepend=0))
    rows, columns = starts % size[0], starts // size[0]
    for begin, end in pairwise([*of_object.tolist(), len(starts)]):
        run = slice(begin, end)
        ends = starts[run] + lengths[run]
        gaps = starts[run] - np.append(0, ends[:-1])
        counts = [*np.stack([gaps, lengths[run]], 1).ravel().tolist(), flat.size - int(ends[-1])]
        coded = {"size": list(size), "counts": counts if counts[-1] else counts[:-1]}
        text: bytes = coco.frPyObjects(coded, *size)["counts"]
        bottoms = rows[run] + lengths[run]
        # A run that goes on into the next column covers the whole height.
        whole = bool((bottoms > size[0]).any())
        top = 0 if whole else int(rows[run].min())
        height = (size[0] if whole else int(bottoms.max())) - top
        left, last = int(columns[begin]), int((ends[-1] - 1) // size[0])
        yield {
            "object": int(owners[first[begin]]),
            "area": int(lengths[run].sum()),
            "bbox": [left, top, last + 1 - left, height],
            "segmentation": {"size": list(size), "counts": text.decode("ascii")},
        }
