"""Edits of a mask of ids: functions that say what a box of it becomes, and patches to undo them.

No edit changes the mask it is given. Each gives a box (top, left, bottom, right) and its new
content; a :class:`Patch` made of that does it, and done again undoes it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dvos.errors import UsageError
from dvos.media.mask import IGNORE, label_components

Ids = NDArray[np.uint16]
#: top, left, bottom, right; the last two are past the end.
Box = tuple[int, int, int, int]
#: A box of a mask, and the ids it is to hold.
Edit = tuple[Box, Ids]

#: Ids that readers of masks may take for another program's "unknown", and so are not given out.
_AMBIGUOUS = (255, 10000)


@dataclass(frozen=True)
class Region:
    """Some pixels of a mask: ``mask``, bool, lies at ``box`` and has its size."""

    box: Box
    mask: NDArray[np.bool_]

    @classmethod
    def of_runs(cls, box: Box, runs: Sequence[int], size: tuple[int, int]) -> Region:
        """A region sent as run lengths, row by row within its box: outside, inside, outside ...

        Args:
            box: Of the region.
            runs: Lengths of the runs in pixels.
            size: (height, width) of the mask.

        Raises:
            UsageError: If the box does not lie in the mask, or the runs do not fill it.
        """
        top, left, bottom, right = box
        if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
            raise UsageError.at("box", str(list(box)), f"a box in {size[0]} x {size[1]} pixels")
        lengths = np.asarray(runs, np.int64)
        area = (bottom - top) * (right - left)
        if (lengths < 0).any() or (lengths > area).any() or int(lengths.sum()) != area:
            raise UsageError.at("runs", f"{len(runs)} lengths", f"lengths that add up to {area}")
        inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return cls(box, inside.reshape(bottom - top, right - left))


@dataclass(frozen=True)
class Patch:
    """The difference that an edit made: exclusive or of the ids in a box, zlib-compressed.

    Done twice it is undone, so that undo and redo are the same.
    """

    box: Box
    data: bytes

    @classmethod
    def of(cls, ids: Ids, edit: Edit) -> Patch | None:
        """The patch that an edit of ``ids`` is; None where it changes nothing."""
        (top, left, bottom, right), new = edit
        change = ids[top:bottom, left:right] ^ new
        inner = _bounds(change != 0)
        if inner is None:
            return None
        part = change[inner[0] : inner[2], inner[1] : inner[3]]
        box = (top + inner[0], left + inner[1], top + inner[2], left + inner[3])
        return cls(box, zlib.compress(part.astype("<u2").tobytes(), 1))

    def apply(self, ids: Ids) -> None:
        """Do it, or undo it, in place.

        Raises:
            ValueError: If it is not of a mask of this size, or damaged.
        """
        top, left, bottom, right = self.box
        part = ids[top:bottom, left:right]
        try:
            change = np.frombuffer(zlib.decompress(self.data), "<u2")
        except zlib.error as error:
            raise ValueError(f"damaged patch ({error})") from error
        part ^= change.reshape(bottom - top, right - left)


def paint(ids: Ids, region: Region, value: int, only: Collection[int] | None = None) -> Edit:
    """Brush, eraser and polygon: the pixels of a region become ``value``.

    Args:
        ids: The mask.
        region: The pixels.
        value: An id, 0 to erase, or ``IGNORE``.
        only: Ids, among them 0, whose pixels are painted over; None for all.
    """
    top, left, bottom, right = region.box
    old = ids[top:bottom, left:right]
    where = region.mask if only is None else region.mask & np.isin(old, [*only])
    return region.box, np.where(where, np.uint16(value), old)


def add(ids: Ids, objects: Iterable[tuple[Region, int]]) -> Edit:
    """Objects with their ids, painted on background alone: the first of several has the pixel."""
    found = [(region, value) for region, value in objects if region.mask.any()]
    if not found:
        return (0, 0, 0, 0), ids[:0, :0]
    corners = np.array([region.box for region, _ in found])
    top, left = corners[:, :2].min(0).tolist()
    bottom, right = corners[:, 2:].max(0).tolist()
    new = ids[top:bottom, left:right].copy()
    for region, value in found:
        t, le, b, r = region.box
        part = new[t - top : b - top, le - left : r - left]
        part[region.mask & (part == 0)] = value
    return (top, left, bottom, right), new


def add_new(ids: Ids, regions: Sequence[Region], first: int) -> Edit:
    """New objects on background, with ids from ``first`` on that no object has."""
    return add(ids, zip(regions, free_ids(present(ids), first, len(regions)), strict=True))


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
    box = _bounds(table[ids] != ids)
    if box is None:
        return (0, 0, 0, 0), ids[:0, :0]
    return box, table[ids[box[0] : box[2], box[1] : box[3]]]


def split(ids: Ids, object_id: int, cut: Region | None, first: int) -> Edit:
    """Part an object along a line, or into its connected parts.

    The largest part keeps the id; parts that the line does not touch stay with it. Pixels under
    the line go to the part that is nearest, so that none is lost.

    Args:
        ids: The mask.
        object_id: The object.
        cut: The line, a brush stroke; None for the connected parts.
        first: The lowest id that a new part may get.

    Raises:
        UsageError: If there is no such object, or it stays in one piece.
    """
    box = _bounds(ids == object_id)
    if box is None:
        raise UsageError.at("object", f"{object_id} is not in this frame", "one that is")
    old = ids[box[0] : box[2], box[1] : box[3]]
    own = old == object_id
    line = np.zeros_like(own) if cut is None else _within(cut, box) & own
    # Of pixels that touch by a corner, a line one pixel wide parts four neighbours only.
    parts = label_components(own & ~line, 8 if cut is None else 4)
    count = int(parts.max(initial=0))
    touched = np.arange(1, count + 1)
    if cut is not None:
        touched = np.unique(parts[_grown(line)])
        touched = touched[touched > 0]
    if len(touched) < 2:
        remedy = "draw the line from edge to edge of the object" if cut else ""
        raise UsageError.at("object", f"{object_id} stays in one piece", "parts", remedy)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    order = touched[np.argsort(-areas[touched], kind="stable")]
    table = np.full(count + 1, object_id, np.uint16)
    table[order[1:]] = free_ids(present(ids), first, len(order) - 1)
    new = np.where(own, table[parts], old)
    if line.any():
        _fill_line(new, line, np.where(np.isin(parts, touched), parts, 0), table)
    return box, new


def copy_objects(ids: Ids, other: Ids, chosen: Collection[int] | None = None) -> Edit:
    """Objects of another frame, where this one has background: nothing here is overwritten.

    Args:
        ids: The mask.
        other: The mask of the other frame, of the same size.
        chosen: Their ids; None for all, without what is unknown.
    """
    wanted = (other != 0) & (other != IGNORE) if chosen is None else np.isin(other, [*chosen])
    box = _bounds(wanted & (ids == 0))
    if box is None:
        return (0, 0, 0, 0), ids[:0, :0]
    part = (slice(box[0], box[2]), slice(box[1], box[3]))
    return box, np.where(wanted[part] & (ids[part] == 0), other[part], ids[part])


def present(mask: NDArray[np.uint8] | Ids) -> list[int]:
    """The values that a mask holds, rising."""
    found = np.zeros(IGNORE + 1, np.bool_)
    found[mask.ravel()] = True  # a tenth of the time that sorting takes
    return np.flatnonzero(found).tolist()


def free_ids(taken: Collection[int], first: int, count: int) -> list[int]:
    """Ids that no object has: above all that are taken and from ``first`` on, else the lowest.

    Args:
        taken: The values of the mask.
        first: The lowest that is wanted.
        count: How many.

    Raises:
        UsageError: If there are none left.
    """
    taken = {*taken, *_AMBIGUOUS}
    first = max(first, max(taken - {IGNORE, *_AMBIGUOUS}, default=0) + 1)
    candidates = (n for n in (*range(first, IGNORE), *range(1, first)) if n not in taken)
    found = list(islice(candidates, count))
    if len(found) < count:
        raise UsageError.at("ids", f"all {IGNORE - 1} are taken", "at most as many objects")
    return found


def _within(region: Region, box: Box) -> NDArray[np.bool_]:
    """The part of a region that lies in a box, as the box's mask."""
    inside = np.zeros((box[2] - box[0], box[3] - box[1]), np.bool_)
    top, left = max(box[0], region.box[0]), max(box[1], region.box[1])
    bottom, right = min(box[2], region.box[2]), min(box[3], region.box[3])
    if top < bottom and left < right:
        t, le = region.box[:2]
        part = region.mask[top - t : bottom - t, left - le : right - le]
        inside[top - box[0] : bottom - box[0], left - box[1] : right - box[1]] = part
    return inside


def _fill_line(new: Ids, line: NDArray[np.bool_], parts: NDArray[np.int_], table: Ids) -> None:
    """Give each pixel of a line the id of the nearest part, in place."""
    from scipy.ndimage import distance_transform_edt

    top, left, bottom, right = _bounds(_grown(line)) or (0, 0, 0, 0)
    part = (slice(top, bottom), slice(left, right))
    rows, columns = distance_transform_edt(
        parts[part] == 0, return_distances=False, return_indices=True
    )
    nearest = table[parts[part][rows, columns]]
    new[part][line[part]] = nearest[line[part]]


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its four neighbours."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _bounds(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box around all that is true."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
