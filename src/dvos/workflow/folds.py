"""How what is labelled is parted for cross-validation, each part with objects."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.config.workflow import MethodSettings
from dvos.files import make_folder, write_bytes
from dvos.media.clip_store import read_image_at, read_mask_at
from dvos.media.image import read_image, write_image
from dvos.media.mask import object_pixels, read_mask, write_mask
from dvos.tables import StillRow, frame_stem, split_address
from dvos.workflow.data_folder import DataFolder

#: Most frames of clips that take part, and most parts.
_MOST_UNITS = 40


def most_folds(data: DataFolder, void: str) -> int:
    """How many parts of what is labelled there can be; below two there is no cross-validation."""
    if len(data.labelled) == 1 and data.annotated:
        mask = read_mask(data.annotated[0].mask, void)
        return sum(bool(object_pixels(mask[place]).any()) for place in _quarters_of(mask))
    return min(sum(_has_objects(row, void) for row in taking_part(data)), _MOST_UNITS)


def part(
    data: DataFolder, folds: int, folder: Path, settings: MethodSettings
) -> list[list[StillRow]]:
    """The stills in so many parts of about one size, by their names alone, each with an object.

    Frames of clips are parted in blocks; a single still into quarters, written into ``folder``.
    """

    def order(row: StillRow) -> bytes:
        name = row.image.stem.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(name, digest_size=8).digest()

    if data.annotated:
        rows = sorted(data.annotated, key=order)
        if len(rows) == 1:
            rows = _quarters(rows[0], folder, settings)
        # Those without objects are shared out apart, so that each part has some with them.
        shown = [row for row in rows if _has_objects(row, settings.void)]
        bare = [row for row in rows if row not in shown]
        return [one for n in range(folds) if (one := shown[n::folds] + bare[n::folds])]
    rows = taking_part(data)
    shown_at = [place for place, row in enumerate(rows) if _has_objects(row, settings.void)]
    rows = _with_own_names(rows, folder, settings)
    edges = [shown_at[len(shown_at) * number // folds] for number in range(1, folds)]
    return [rows[a:b] for a, b in pairwise([0, *edges, len(rows)])]


def taking_part(data: DataFolder) -> list[StillRow]:
    """All stills, or so many frames of clips as take part."""
    rows = data.labelled
    return list(rows if data.annotated else rows[:: -(-len(rows) // _MOST_UNITS) or 1])


def _has_objects(row: StillRow, void: str) -> bool:
    return bool(object_pixels(read_mask_at(row.mask, void)).any())


def _quarters_of(mask: NDArray[np.generic]) -> Iterator[tuple[slice, slice]]:
    middle = mask.shape[0] // 2, mask.shape[1] // 2
    for number in range(4):
        sides = zip(divmod(number, 2), middle, strict=True)
        down, across = (slice(half, None) if later else slice(half) for later, half in sides)
        yield down, across


def _quarters(still: StillRow, folder: Path, settings: MethodSettings) -> list[StillRow]:
    """The quarters of a still that hold objects, as files."""
    image = read_image(still.image, settings.intensity)
    mask = read_mask(still.mask, settings.void)
    make_folder(folder)
    rows = []
    for number, place in enumerate(_quarters_of(mask)):
        if not object_pixels(mask[place]).any():
            continue
        row = StillRow(*(folder / f"{still.image.stem}_{number}{end}.png" for end in ("", "_mask")))
        write_image(row.image, image[place])
        write_mask(row.mask, mask[place])
        rows.append(row)
    return rows


def _with_own_names(
    rows: Sequence[StillRow], folder: Path, settings: MethodSettings
) -> list[StillRow]:
    """Frames of clips as photos, each under a name of its own, by which it is scored.

    Where frames of several clips share names, or lie in clip stores, they become files in
    ``folder``.
    """
    places = defaultdict(set)
    for row in rows:
        places[frame_stem(row.image)].add(row.image)
    stored = any(split_address(path) for row in rows for path in (row.image, row.mask))
    if not stored and all(len(each) == 1 for each in places.values()):
        return list(rows)
    make_folder(folder)
    named = []
    for number, row in enumerate(rows):
        name, mask = f"{number:03d}_{frame_stem(row.image)}", row.mask
        if split_address(row.image):
            image = folder / f"{name}.png"
            write_image(image, read_image_at(row.image))
        else:
            image = folder / f"{name}{row.image.suffix}"
            write_bytes(image, row.image.read_bytes())
        if split_address(row.mask):
            mask = folder / f"{name}_mask.png"
            write_mask(mask, read_mask_at(row.mask, settings.void))
        named.append(StillRow(image, mask))
    return named
