"""Masks of a clip as run lengths in one JSON file, as the COCO data set stores them.

A mask is read column by column; its runs of zeros and ones alternate,
beginning with zeros. The runs are kept as the short text that ``pycocotools``
writes and reads ("compressed RLE", ``maskApi.c`` of cocodataset/cocoapi): each
run from the fourth on as the difference to the one before the last, in groups of five bits from
the lowest, a sixth bit telling that more follow, plus 48 to be printable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import atomic_path
from dvos.media.mask import read_mask

__all__ = ["decode_runs", "encode_runs", "read_run_lengths", "write_run_lengths"]

_BITS = 5
_MORE = 1 << _BITS
_OFFSET = 48
# A run of a mask has at most this many groups: 2**35 pixels and a sign.
_GROUPS = 8


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """The compressed run lengths of a mask, bool (H, W)."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    # A mask that begins with object begins with a run of no zeros.
    begins = [0, 0] if pixels.size and pixels[0] else [0]
    runs = np.diff(np.concatenate([begins, edges, [pixels.size]]))
    steps = runs.astype(np.int64)
    steps[3:] -= runs[1:-2]
    groups = np.zeros((len(steps), _GROUPS), np.uint8)
    lengths = np.zeros(len(steps), np.int64)
    rest, open_ = steps.copy(), np.ones(len(steps), np.bool_)
    for place in range(_GROUPS):
        low = rest & (_MORE - 1)
        rest >>= _BITS
        # The highest bit of the last group is the sign of what is left out.
        more = np.where(low & (_MORE >> 1), rest != -1, rest != 0)
        groups[:, place] = low + np.where(more, _MORE, 0) + _OFFSET
        lengths += open_
        open_ &= more
        if not open_.any():
            break
    written: NDArray[np.uint8] = groups[np.arange(_GROUPS) < lengths[:, None]]
    return written.tobytes().decode("ascii")


def decode_runs(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask, bool (H, W), of what :func:`encode_runs` wrote.

    Raises:
        ValueError: If the text is no such code, or its runs do not fill
            ``size`` (height, width).
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _OFFSET
    if codes.size and (codes.min() < 0 or codes.max() >= 2 * _MORE):
        raise ValueError("it has characters that are no run lengths")
    last = codes < _MORE
    if codes.size and not last[-1]:
        raise ValueError("it ends within a run length")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    if ends.size and int((ends - starts).max()) >= _GROUPS:
        raise ValueError("it has a run length beyond any mask")
    place = np.arange(codes.size) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * place), starts) if ends.size else ends
    negative = (codes[ends] & (_MORE >> 1)) > 0
    runs = runs - np.where(negative, 1 << (_BITS * (ends - starts + 1)), 0)
    for offset in (1, 2):
        # Run k >= 3 is the sum of the steps k, k - 2, ... down to 1 or 2.
        runs[offset::2] = np.cumsum(runs[offset::2])
    if (runs < 0).any() or int(runs.sum()) != size[0] * size[1]:
        raise ValueError(f"its runs do not fill {size[1]} x {size[0]} pixels")
    values = np.arange(runs.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(size, order="F"))


def write_run_lengths(
    path: Path, names: Iterable[str], masks_folder: Path, size: tuple[int, int]
) -> None:
    """Write the finished masks of a clip as one COCO annotation file.

    An image and an annotation for each frame, ids counting from 1; empty
    masks have an annotation too. Memory does not grow with the clip.

    Args:
        path: ``<clip>.json``.
        names: Of the frames, in order.
        masks_folder: Holds ``<name>.png`` of each.
        size: (height, width) of the masks.

    Raises:
        MediaError: If a mask is missing, damaged or of another size.
        OutputError: If the file cannot be written.
    """
    kept = list(names)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write('{"categories": [{"id": 1, "name": "object"}],\n"images": [')
        images = (
            {"id": number, "file_name": f"{name}.png", "height": size[0], "width": size[1]}
            for number, name in enumerate(kept, 1)
        )
        stream.writelines(_joined(images))
        stream.write('],\n"annotations": [')
        stream.writelines(_joined(_annotations(kept, masks_folder, size)))
        stream.write("]}\n")


def read_run_lengths(path: Path) -> dict[str, NDArray[np.bool_]]:
    """The masks of a file of :func:`write_run_lengths`, bool (H, W), by frame name.

    Raises:
        MediaError: If the file is missing or no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        masks = {}
        for annotation in content["annotations"]:
            coded = annotation["segmentation"]
            height, width = coded["size"]
            mask = decode_runs(coded["counts"], (int(height), int(width)))
            masks[names[annotation["image_id"]]] = mask
    except (OSError, UnicodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError.at(
            path,
            f"is no file of run lengths ({type(error).__name__}: {error})",
            "a <clip>.json of dvos predict",
        ) from error
    return masks


def _joined(values: Iterable[dict[str, Any]]) -> Iterator[str]:
    for number, value in enumerate(values):
        yield (",\n" if number else "\n") + json.dumps(value)


def _annotations(
    names: Sequence[str], folder: Path, size: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    for number, name in enumerate(names, 1):
        mask = read_mask(folder / f"{name}.png") > 0
        if mask.shape != size:
            raise MediaError.at(
                folder / f"{name}.png",
                f"is {mask.shape[1]} x {mask.shape[0]} pixels",
                f"{size[1]} x {size[0]} as its clip",
            )
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [0, 0, 0, 0]
        if rows.size:
            box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        yield {
            "id": number,
            "image_id": number,
            "category_id": 1,
            # All objects of the frame together, which COCO calls a crowd.
            "iscrowd": 1,
            "area": int(mask.sum()),
            "bbox": box,
            "segmentation": {"size": [size[0], size[1]], "counts": encode_runs(mask)},
        }
