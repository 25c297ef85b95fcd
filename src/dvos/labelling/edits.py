"""Edits of a mask of ids: functions that say what a part of it becomes, and patches to undo them.

Each gives a window of the mask and its new content; a :class:`Patch` of that does and undoes it.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import UsageError
from dvos.formats.labels import Region, cropped, joined
from dvos.media.mask import IGNORE, label_components
from dvos.media.mask_values import SEMANTIC

Ids = NDArray[np.uint16]
Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are past the end
Edit = tuple[tuple[slice, slice], Ids]  # rows and columns of a mask, and the ids they are to hold

#: Ids that readers of masks may take for another program's "unknown", and so are not given out.
_AMBIGUOUS = (255, 10000)


class Patch(NamedTuple):
    """The difference that an edit made: exclusive or of the ids in a box, zlib-compressed.

    Done twice it is undone, so that undo and redo are the same.
    """

    box: Box
    data: bytes

    @classmethod
    def of(cls, ids: Ids, edit: Edit) -> Self | None:
        """The patch that an edit of ``ids`` is; None where it changes nothing."""
        (rows, columns), new = edit
        change = ids[rows, columns] ^ new
        part = cropped(change != 0, rows.start, columns.start)
        if not part.area:
            return None
        inner = change[cropped(change != 0).window]
        return cls(part.box, zlib.compress(inner.astype("<u2").tobytes(), 1))

    def apply(self, ids: Ids) -> None:
        """Do it, or undo it, in place; a ValueError if it is of another size, or damaged."""
        top, left, bottom, right = self.box
        part = ids[top:bottom, left:right]
        try:
            # Hardly more than the box holds, whatever was packed.
            change = zlib.decompressobj().decompress(self.data, 2 * part.size + 1)
        except zlib.error as error:
            raise ValueError(f"damaged patch ({error})") from error
        part ^= np.frombuffer(change, "<u2").reshape(bottom - top, right - left)


def paint(ids: Ids, region: Region, value: int, only: Collection[int] | None = None) -> Edit:
    """Brush, eraser, polygon: pixels become an id, 0 or ``IGNORE``, perhaps only over some ids."""
    old = ids[region.window]
    where = region.mask if only is None else region.mask & np.isin(old, [*only])
    return region.window, np.where(where, np.uint16(value), old)


def add(ids: Ids, objects: Iterable[tuple[Region, int]]) -> Edit:
    """Objects with their ids, painted on background alone: the first of several has the pixel."""
    found = list(objects)
    whole = joined(region for region, _ in found)
    new = ids[whole.window].copy()
    for region, value in found:
        part = new[Region(region.top - whole.top, region.left - whole.left, region.mask).window]
        part[region.mask & (part == 0)] = value
    return whole.window, new


def add_new(ids: Ids, regions: Sequence[Region], first: int) -> Edit:
    """New objects on background, with ids from ``first`` on that no object has."""
    return add(ids, zip(regions, free_ids(present(ids), first, len(regions)), strict=True))


def add_one(ids: Ids, region: Region | None, value: int) -> Edit:
    """A new object, or none, on background: with the first free id from ``value`` on.

    255 stays: it is every object's in a mask that does not tell them apart, and else none's.
    """
    if region is None:
        return add(ids, [])
    return add(ids, [(region, value)]) if value == SEMANTIC[2] else add_new(ids, [region], value)


def adopt(ids: Ids, predicted: Ids, first: int) -> Edit:
    """The objects of a prediction on background, with ids from ``first`` on that none here has."""
    found = [value for value in present(predicted) if 0 < value < IGNORE]
    table = np.arange(IGNORE + 1, dtype=np.uint16)
    table[found] = free_ids(present(ids), first, len(found))
    return copy_objects(ids, table[predicted])


def recolour(ids: Ids, new_ids: Mapping[int, int]) -> Edit:
    """Merge, delete, make unknown: the pixels of each id get another id, 0 or ``IGNORE``."""
    table = np.arange(IGNORE + 1, dtype=np.uint16)
    table[[*new_ids]] = [*new_ids.values()]
    window = cropped(table[ids] != ids).window
    return window, table[ids[window]]


def copy_objects(ids: Ids, other: Ids, chosen: Collection[int] | None = None) -> Edit:
    """Objects of another frame of the same size, all or chosen ones, where this has background."""
    if other.shape != ids.shape:
        (height, width), (own_height, own_width) = other.shape, ids.shape
        found = f"the other frame is {width} x {height} pixels"
        raise UsageError.at("source", found, f"{own_width} x {own_height}, as this one")
    wanted = (other != 0) & (other != IGNORE) if chosen is None else np.isin(other, [*chosen])
    wanted &= ids == 0
    window = cropped(wanted).window
    return window, np.where(wanted[window], other[window], ids[window])


def split(ids: Ids, object_id: int, cut: Region | None, first: int) -> Edit:
    """Part an object along a line, a brush stroke, or without one into its connected parts.

    The largest part keeps the id, others get free ones from ``first`` on; parts that the line does
    not touch stay with it, its own pixels go to the nearest part. A UsageError if it stays whole.
    """
    window = cropped(ids == object_id).window
    old = ids[window]
    own = old == object_id
    if not own.size:
        raise UsageError.at("object", f"{object_id} is not in this frame", "one that is")
    line = np.zeros_like(own) if cut is None else cut.whole(ids.shape)[window] & own
    # Of pixels that touch by a corner, a line one pixel wide parts four neighbours only.
    parts = label_components(own & ~line, 8 if cut is None else 4)
    touched = np.unique(parts if cut is None else parts[_grown(line)]).astype(np.int64)
    touched = touched[touched > 0]
    if len(touched) < 2:
        remedy = "draw the line from edge to edge of the object" if cut else ""
        raise UsageError.at("object", f"{object_id} stays in one piece", "parts", remedy)
    areas = np.bincount(parts.ravel())
    order = touched[np.argsort(-areas[touched], kind="stable")]
    table = np.full(len(areas), object_id, np.uint16)
    table[order[1:]] = free_ids(present(ids), first, len(order) - 1)
    new = np.where(own, table[parts], old)
    if line.any():
        near = cropped(_grown(line)).window
        nearest = _nearest(np.where(np.isin(parts[near], touched), parts[near], 0))
        new[near][line[near]] = table[nearest][line[near]]
    return window, new


def present(mask: NDArray[np.uint8] | Ids) -> list[int]:
    """The values that a mask holds, rising."""
    found = np.zeros(IGNORE + 1, np.bool_)
    found[mask.ravel()] = True  # a tenth of the time that sorting takes
    return np.flatnonzero(found).tolist()


def areas_of(ids: Ids) -> NDArray[np.int64]:
    """Pixels of each id."""
    values, lengths = runs_of(ids).T
    return np.bincount(values, lengths, IGNORE + 1).astype(np.int64)


def runs_of(ids: Ids) -> NDArray[np.uint32]:
    """A mask as runs: uint32 (N, 2), the id and the length of each, row by row."""
    flat = ids.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths = np.diff(np.append(starts, flat.size))
    return np.stack([flat[starts].astype("<u4"), lengths.astype("<u4")], axis=1)


def free_ids(taken: Collection[int], first: int, count: int) -> list[int]:
    """Ids that no object has: above all that are taken and from ``first`` on, else the lowest."""
    taken = {*taken, *_AMBIGUOUS}
    first = max(first, max(taken - {IGNORE, *_AMBIGUOUS}, default=0) + 1)
    candidates = (n for n in (*range(first, IGNORE), *range(1, first)) if n not in taken)
    found = list(islice(candidates, count))
    if len(found) < count:
        raise UsageError.at("ids", f"all {IGNORE - 1} are taken", "at most as many objects")
    return found


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its four neighbours."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.asarray(cv2.dilate(mask.view(np.uint8), cross), np.bool_)


def _nearest(parts: NDArray[np.int_]) -> NDArray[np.int_]:
    from scipy.ndimage import distance_transform_edt

    places = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return np.asarray(parts[tuple(places)])
