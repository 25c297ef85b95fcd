"""Labelled objects of a mask: their boxes, areas and neighbours, in one pass; and their cutouts.

The mask is turned into horizontal runs of one id, which a mask has thousands
of times fewer than pixels; boxes and areas then come from the runs. No step
looks at the whole mask once per object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Box", "LabelledObject", "cut_out", "find_objects"]

#: (top, left, height, width) in pixels.
Box = tuple[int, int, int, int]

Ids = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabelledObject:
    """One object of a mask.

    Attributes:
        object_id: Its value in the mask.
        box: Smallest box around it.
        area: Its pixels.
        touching: How many other objects it touches, diagonally included.
        at_border: Whether it reaches the image's border, and so may be cut off.
    """

    object_id: int
    box: Box
    area: int
    touching: int
    at_border: bool


def find_objects(ids: Ids) -> list[LabelledObject]:
    """Find all objects of an instance mask, in the order of their ids.

    Args:
        ids: (H, W), whole numbers, 0 for background. The pixels of an object
            need not be connected.
    """
    run_ids, rows, starts, ends = _runs(ids)
    if not len(run_ids):
        return []
    order = np.argsort(run_ids, kind="stable")
    run_ids, rows, starts, ends = run_ids[order], rows[order], starts[order], ends[order]
    first = np.flatnonzero(np.r_[True, run_ids[1:] != run_ids[:-1]])
    object_ids = run_ids[first]
    top, bottom = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first) + 1
    left, right = np.minimum.reduceat(starts, first), np.maximum.reduceat(ends, first)
    areas = np.add.reduceat(ends - starts, first)
    neighbours = _neighbour_counts(ids, object_ids)
    height, width = ids.shape
    at_border = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    return [
        LabelledObject(
            object_id=int(object_ids[k]),
            box=(int(top[k]), int(left[k]), int(bottom[k] - top[k]), int(right[k] - left[k])),
            area=int(areas[k]),
            touching=int(neighbours[k]),
            at_border=bool(at_border[k]),
        )
        for k in range(len(object_ids))
    ]


def cut_out(image: npt.NDArray[np.uint8], ids: Ids, found: LabelledObject) -> npt.NDArray[np.uint8]:
    """The object's box of the image as RGBA (h, w, 4): alpha 255 inside the object, else 0.

    Outside the object the colour stays the photo's own, so that whoever
    interpolates at its border meets no foreign colour.
    """
    top, left, height, width = found.box
    window = np.s_[top : top + height, left : left + width]
    alpha = (ids[window] == found.object_id) * np.uint8(255)
    return np.dstack([image[window], alpha])


def _runs(
    ids: Ids,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Horizontal runs of one id, background left out: id, row, first column, end column."""
    width = ids.shape[1]
    begins = np.empty(ids.shape, dtype=np.bool_)
    begins[:, :1] = True
    np.not_equal(ids[:, 1:], ids[:, :-1], out=begins[:, 1:])
    places = np.flatnonzero(begins)
    # A row's first pixel always begins a run, so the next begin ends a run.
    ends = np.r_[places[1:], ids.size]
    values = ids.reshape(-1)[places]
    objects = values != 0
    places, ends, values = places[objects], ends[objects], values[objects]
    rows = places // width if width else places
    return values, rows, places - rows * width, ends - rows * width


def _neighbour_counts(ids: Ids, object_ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """For each of the sorted ``object_ids``, how many other objects touch it."""
    pairs = [pair for shifted in _shifts(ids) for pair in _touching_pairs(*shifted)]
    codes = np.unique(np.concatenate(pairs)) if pairs else np.empty(0, dtype=np.int64)
    low, high = codes >> 32, codes & 0xFFFFFFFF
    counts = np.zeros(len(object_ids), dtype=np.int64)
    for side in (low, high):
        np.add.at(counts, np.searchsorted(object_ids, side), 1)
    return counts


def _shifts(ids: Ids) -> Iterator[tuple[Ids, Ids]]:
    """The mask against itself, moved by each of the four half-neighbourhood steps."""
    yield ids[:, :-1], ids[:, 1:]
    yield ids[:-1], ids[1:]
    yield ids[:-1, :-1], ids[1:, 1:]
    yield ids[:-1, 1:], ids[1:, :-1]


def _touching_pairs(one: Ids, other: Ids) -> Iterator[npt.NDArray[np.int64]]:
    """Pairs of different ids that lie at the same place, as ``smaller << 32 | larger``."""
    places = np.nonzero((one != other) & (one != 0) & (other != 0))
    a, b = one[places].astype(np.int64), other[places].astype(np.int64)
    yield np.unique(np.minimum(a, b) << 32 | np.maximum(a, b))
