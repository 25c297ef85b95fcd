"""Values of masks that mean no object, as other programs write them.

What a value means is judged over the folder of a mask, in which objects keep their numbers. Where
that is wrong, the setting ``void`` says what holds, or a file :data:`DECLARATION` among the masks
or in the folder around theirs.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.base import checked_void
from dvos.errors import MediaError
from dvos.media.layout import MASK_SUFFIXES, evenly, list_files

Mask = NDArray[np.uint8] | NDArray[np.uint16]
#: Reads the mask of a path as stored, (H, W).
Reader = Callable[[Path], Mask]

#: Id of pixels whose label is unknown: they count in no loss and no score.
IGNORE = 65535
#: Stored values of a semantic mask with unknown pixels: background, unknown, object.
SEMANTIC = (0, 128, 255)
#: Name of the file in a folder of masks that says which values mean "unknown" there.
DECLARATION = "void.txt"

_log = logging.getLogger(__name__)

#: What was said of masks already.
_TOLD: set[str] = set()
#: Full values of samples of 8, 10, 12, 14 and 16 bit.
_FULL = (255, 1023, 4095, 16383, 65535)
#: Values that other data sets have for "unknown", and how they are known.
_VOID = {
    255: "255 beside lower ids is taken for unknown, as VOC marks borders",
    10000: "10000 is taken for a region of unknown label, as MOTS has it",
}
#: What 8 bit are multiplied by to fill 16.
_STRETCH = 257
_ROWS = 64
#: Masks of a folder that are looked at, evenly spread.
_MOST = 32


def recognised(mask: Mask, path: Path, read: Reader, void: str = "auto") -> Mask:
    """A mask in the package's own terms, where other programs mark what is no object.

    - 8 bit stretched to 16, judged by the folder: multiples of 257, 65535 among them.
    - Soft edges, judged by each mask: the full value, of 8, 10, 12, 14 or 16 bit, lies within rims
      of many lower values, not all of them far lower, that part it from the background.
    - "Unknown", judged by the folder: VOC's border of 255, the ignored regions of MOTS, 10000.
    """
    declared = declared_void(path.parent, void)
    if declared is not None:
        return _without(mask.astype(np.uint16), declared)
    stretched = _is_stretched(mask, path, read)
    if stretched:
        mask = (mask // _STRETCH).astype(np.uint8)
    top = int(mask.max(initial=0))
    full = next(full for full in _FULL if full >= top)
    nearly = full - full // 50
    # Too few pixels tell nothing; 0 and 255, with or without 128, is semantic.
    if mask.size < 256 or not (top in _VOID or top >= nearly):
        return mask
    # 0 and 255 alone, as most are, at a glance: 255 + 1 is 0 in 8 bit.
    if mask.dtype == np.uint8 and int((mask + np.uint8(1)).max()) <= 1:
        return mask
    values = _values(mask)
    if set(values) <= set(SEMANTIC):
        return mask
    others = values[(values > 0) & (values < top)]
    # Ids about pixels of unknown label are low numbers all, unlike the values of a rim.
    is_graded = len(others) >= 4 and others[-1] >= full // 4
    if is_graded and top >= nearly and _has_soft_edges(mask, nearly):
        _tell("soft edges are cut at half of the full value", path)
        return (mask > full // 2) * np.uint8(255)
    if top not in _VOID or (top == 255 and not len(others)):
        return mask
    looks = _looks_void(mask, values)
    judged = _judged(*_as_is(path.parent), top, read, stretched)
    if looks if judged is None else judged:
        remedy = f"set void=none, or write none into {DECLARATION} there"
        _tell(f"{_VOID[top]} (to take it for an object, {remedy})", path)
        return _without(mask, (top,))
    if looks:
        _tell(f"{top} is taken for an object, as other masks of the folder show it", path)
    return mask


def declared_void(folder: Path, void: str = "auto") -> tuple[int, ...] | None:
    """The values declared "unknown" in a folder's masks, or None; a MediaError if it is amiss."""
    if void != "auto":
        return () if void == "none" else tuple(map(int, void.split(",")))
    inner = str(folder)  # text: each of some ten thousand masks is asked about
    places = (f"{one}/{DECLARATION}" for one in (inner, os.path.dirname(inner) or "."))  # noqa: PTH120
    found = next(filter(os.path.isfile, places), None)
    if found is None:
        return None
    path = Path(found)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise MediaError.at(path, f"cannot be read ({error})") from error
    try:
        # "auto" is for the setting alone.
        return declared_void(folder, checked_void(text.lower().replace("auto", "?")))
    except ValueError:
        expected = "none, or the values that mean unknown, from 1 to 65535"
        raise MediaError.at(path, f"holds {text!r}", expected, "correct or remove it") from None


def _as_is(folder: Path) -> tuple[Path, int]:
    """A folder and when it was changed: what is known of it holds until then."""
    try:
        return folder, folder.stat().st_mtime_ns
    except OSError:
        return folder, 0


def _is_stretched(mask: Mask, path: Path, read: Reader) -> bool:
    """Whether a mask is 8 bit stretched to 16, as all of its folder are; a line tells it."""
    if not _could_be_stretched(mask):
        return False
    stretched = _are_stretched(*_as_is(path.parent), read)
    if stretched:
        _tell("multiples of 257 up to 65535 are taken for values of 8 bit, times 257", path)
    elif np.isin(mask, (0, IGNORE)).all():
        remedy = "save it with 8 bit, as others of the folder are"
        _tell(f"65535 alone is taken for unknown (to take it for an object, {remedy})", path)
    return stretched


def _could_be_stretched(mask: Mask) -> bool:
    """Whether a mask of 16 bit holds multiples of 257 alone."""
    if mask.dtype != np.uint16 or mask.size < 256:
        return False
    top = int(mask.max())
    return top > 0 and top % _STRETCH == 0 and not (mask % _STRETCH).any()


@lru_cache(maxsize=256)
def _are_stretched(folder: Path, _changed: int, read: Reader) -> bool:
    """Whether the masks of a folder are 8 bit stretched to 16: 65535 is no "unknown" there."""
    highest = 0
    for path in evenly(list_files(folder, MASK_SUFFIXES), _MOST):
        with suppress(MediaError):  # told by whoever reads it for itself
            mask = read(path)
            if mask.any() and not _could_be_stretched(mask):
                return False
            highest = max(highest, int(mask.max(initial=0)))
    return highest == _FULL[-1]


@lru_cache(maxsize=256)
def _judged(folder: Path, _changed: int, value: int, read: Reader, stretched: bool) -> bool | None:
    """Whether most masks of a folder tell that a value means "unknown"; None if none tells."""
    votes = []
    for path in evenly(list_files(folder, MASK_SUFFIXES), _MOST):
        with suppress(MediaError):
            mask = read(path)
            if stretched:
                mask = (mask // _STRETCH).astype(np.uint8)
            values = _values(mask)
            if mask.size < 256 or not (values > 0).any():
                continue
            # Ids that reach up to it, or beyond, show that it is an id as others.
            if value - 1 in values or ((values > value) & (values < IGNORE)).any():
                return False
            if value in values and not set(values) <= set(SEMANTIC):
                votes.append(_looks_void(mask, values))
    return 2 * sum(votes) >= len(votes) if votes else None


def _looks_void(mask: Mask, values: NDArray[np.intp]) -> bool:
    """Whether the highest value of a mask, by the mask alone, seems to mean "unknown".

    It fences off objects that hardly touch the background, or is 255 beside ids 1, 2, 3 ... in 8
    bit: VOC's border, and what else has 255 for "unknown". 10000 beside ids 1, 2, 3 ..., class 1 or
    2 times 1000 with the number of the object, or nothing: MOTS.
    """
    top = int(values[values < IGNORE][-1])
    others = values[(values > 0) & (values < top)]
    counted = len(others) + 1 < top and np.array_equal(others, np.arange(1, len(others) + 1))
    if top != 255:
        return counted or bool(((others > 1000) & (others < 3000)).all())
    contacts = _contacts(mask, top)
    ground, inner, edge = range(3)
    fenced = 10 * contacts[inner, ground] < contacts[inner, edge] < contacts[edge, ground]
    return bool(fenced) or (counted and mask.dtype == np.uint8)


def _values(mask: Mask) -> NDArray[np.intp]:
    """The values of a mask, rising."""
    count = int(np.iinfo(mask.dtype).max) + 1
    return np.flatnonzero(cv2.calcHist([mask], [0], None, [count], [0, count]))


def _without(mask: Mask, void: tuple[int, ...]) -> Mask:
    """The mask, unknown where it has one of some values."""
    if not void:
        return mask
    where = np.isin(mask, np.array(void, np.int32))
    if not where.any():
        return mask
    ids = mask.astype(np.uint16)
    ids[where] = IGNORE
    return ids


def _has_soft_edges(mask: Mask, nearly: int) -> bool:
    """Whether values from ``nearly`` up are parted from background by rims of lower values."""
    core, rims = mask >= nearly, (mask > 0) & (mask < nearly)
    area = np.count_nonzero(rims)
    if 2 * area > mask.size:
        return False
    contacts = _contacts(mask, nearly)
    if contacts[2, 0] > 0.8 * contacts[2, 1]:
        return False
    near = cv2.dilate(core.view(np.uint8), np.ones((21, 21), np.uint8))
    return bool(np.count_nonzero(near[rims]) > 0.9 * area)


def _contacts(mask: Mask, top: int) -> NDArray[np.int64]:
    """How often ground (0), what lies below ``top`` (1) and the rest (2) share sides, (3, 3)."""
    counts = np.zeros(9, np.int64)
    # Some rows at a time: what is worked out is many times as large as the mask.
    for start in range(0, len(mask), _ROWS):
        rows = mask[start : start + _ROWS + 1]
        kinds = (rows > 0).astype(np.uint8) + (rows >= top)
        own = kinds[:_ROWS]
        for first, second in ((kinds[:-1], kinds[1:]), (own[:, :-1], own[:, 1:])):
            counts += np.bincount((3 * first + second).ravel(), minlength=9)
    table = counts.reshape(3, 3)
    return table + table.T


def _tell(words: str, path: Path) -> None:
    # Once, not for each of a thousand masks.
    if words not in _TOLD:
        _TOLD.add(words)
        _log.warning("%s: %s; so it is in other masks like it", path, words, extra={"once": words})
