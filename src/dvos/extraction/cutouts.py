"""Labelled objects of a mask, their cutouts, and distractors: their shapes cut where none is.

The mask is turned into horizontal runs of one id: no step looks at the whole mask once per object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: (top, left, height, width) in pixels.
Box = tuple[int, int, int, int]

Bytes = NDArray[np.uint8]
Ids = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int32]


@dataclass(frozen=True)
class LabelledObject:
    """One object of a mask: its value there, smallest box and pixels."""

    object_id: int
    box: Box
    area: int
    touching: int  # Other objects that it touches, diagonally included
    at_border: bool  # Whether it reaches the image's border, and so may be cut off


def find_objects(ids: Ids) -> list[LabelledObject]:
    """Find all objects of an instance mask (H, W), in the order of their ids; 0 is background.

    The pixels of an object need not be connected.
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
    boxes = np.stack([top, left, bottom - top, right - left], 1)
    columns = (object_ids, boxes, areas, neighbours, at_border)
    rows_of = zip(*(column.tolist() for column in columns), strict=True)
    return [LabelledObject(number, tuple(box), *rest) for number, box, *rest in rows_of]


def cut_out(image: Bytes, ids: Ids, found: LabelledObject) -> Bytes:
    """The object's box of the image as RGBA (h, w, 4): alpha 255 inside the object, else 0."""
    top, left, height, width = found.box
    window = np.s_[top : top + height, left : left + width]
    return _patch(image[window], ids[window] == found.object_id)


def _patch(pixels: Bytes, shape: NDArray[np.bool_]) -> Bytes:
    """RGBA of the pixels (h, w, 3), their own colours also where ``shape`` is not."""
    return np.dstack([pixels, shape * np.uint8(255)])


def _runs(ids: Ids) -> tuple[NDArray[Any], ...]:
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


def _neighbour_counts(ids: Ids, object_ids: NDArray[Any]) -> NDArray[np.int64]:
    """For each of the sorted ``object_ids``, how many other objects touch it."""
    # The mask against itself, moved by each of the four half-neighbourhood steps.
    moved = (
        (ids[:, :-1], ids[:, 1:]),
        (ids[:-1], ids[1:]),
        (ids[:-1, :-1], ids[1:, 1:]),
        (ids[:-1, 1:], ids[1:, :-1]),
    )
    pairs = []
    for one, other in moved:
        places = np.nonzero((one != other) & (one != 0) & (other != 0))
        a, b = one[places].astype(np.int64), other[places].astype(np.int64)
        pairs.append(np.unique(np.minimum(a, b) << 32 | np.maximum(a, b)))
    codes = np.unique(np.concatenate(pairs))
    counts = np.zeros(len(object_ids), dtype=np.int64)
    for side in (codes >> 32, codes & 0xFFFFFFFF):
        np.add.at(counts, np.searchsorted(object_ids, side), 1)
    return counts


class DistractorFinder:
    """Finds places of an image, uint8 RGB (H, W, 3), for shapes, away from its labelled objects.

    Of so many places tried for each patch, the first is taken where the IoU of the shape with the
    labelled pixels of its box, of which an integral image tells the number, is below ``max_iou``.
    """

    def __init__(
        self, image: Bytes, labelled: NDArray[np.bool_], *, max_iou: float, tries: int
    ) -> None:
        self._image = image
        self._labelled = labelled
        self._max_iou = max_iou
        self._tries = tries
        # One row and column of zeros on top and at the left.
        self._sums = cv2.integral(labelled.view(np.uint8), sdepth=cv2.CV_32S).ravel()

    def find(self, shape: NDArray[np.bool_], count: int, rng: np.random.Generator) -> list[Bytes]:
        """Up to ``count`` patches of one shape, bool (h, w), no larger than the image.

        They are uint8 RGBA (h, w, 4), alpha 255 on the shape; fewer where the tries ran out.
        """
        height, width = shape.shape
        area = int(np.count_nonzero(shape))
        room = [x - y + 1 for x, y in zip(self._image.shape, shape.shape, strict=False)]
        drawn = [[rng.integers(0, free, self._tries) for free in room] for _ in range(count)]
        tops, lefts = np.moveaxis(np.reshape(drawn, (count, 2, self._tries)), 1, 0)
        line = self._image.shape[1] + 1
        corner, below = tops * line + lefts, (tops + height) * line + lefts
        sums = self._sums
        inside = sums[below + width] - sums[below] - sums[corner + width] + sums[corner]
        # What of the shape must lie on labelled pixels for lack of others.
        maybe = self._is_open(np.maximum(0, inside + area - height * width), inside, area)
        patches = []
        for patch in range(count):
            for k in maybe[patch].nonzero()[0].tolist():
                top, left, labelled = tops[patch, k], lefts[patch, k], inside[patch, k]
                window = np.s_[top : top + height, left : left + width]
                overlap = np.count_nonzero(self._labelled[window] & shape) if labelled else 0
                if self._is_open(overlap, labelled, area):
                    patches.append(_patch(self._image[window], shape))
                    break
        return patches

    def _is_open(self, overlap: Any, labelled: Any, area: int) -> Any:
        """Whether the IoU of a shape with the labelled pixels of its box is low enough."""
        return overlap < self._max_iou * (area + labelled - overlap)
