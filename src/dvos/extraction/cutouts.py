"""Labelled objects of a mask, their cutouts, and distractors of the same shapes.

The mask is turned into horizontal runs of one id, which a mask has thousands
of times fewer than pixels; boxes and areas then come from the runs. No step
looks at the whole mask once per object.

Distractors are patches of an object's shape, taken where there is no object: they teach a network
that shape and paste marks alone do not make an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

#: (top, left, height, width) in pixels.
Box = tuple[int, int, int, int]

_FIRST_TRIES = 16

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
    return _patch(image[window], ids[window] == found.object_id)


def _patch(pixels: npt.NDArray[np.uint8], shape: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """RGBA of the pixels (h, w, 3), opaque where ``shape`` is true."""
    patch = np.empty((*shape.shape, 4), np.uint8)
    patch[..., :3] = pixels
    np.multiply(shape, np.uint8(255), out=patch[..., 3])
    return patch


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
    """Finds places of an image for shapes, away from its labelled objects.

    The labelled area of any box comes from an integral image; only a place
    that this leaves open costs a look at the pixels of its box.

    Args:
        image: uint8 RGB (H, W, 3).
        labelled: bool (H, W), true on every labelled object.
        max_iou: The IoU of a shape with the labelled pixels of its box must
            stay below this.
        tries: Places tried for each patch.
    """

    def __init__(
        self,
        image: npt.NDArray[np.uint8],
        labelled: npt.NDArray[np.bool_],
        *,
        max_iou: float,
        tries: int,
    ) -> None:
        self._image = image
        self._labelled = labelled
        self._max_iou = max_iou
        self._tries = tries
        # One row and column of zeros on top and at the left; int32 holds
        # images of up to two thousand million pixels.
        self._sums = cv2.integral(labelled.view(np.uint8), sdepth=cv2.CV_32S).ravel()

    def find(
        self, shape: npt.NDArray[np.bool_], count: int, rng: np.random.Generator
    ) -> list[npt.NDArray[np.uint8]]:
        """Find up to ``count`` patches of one shape.

        Args:
            shape: bool (h, w), no larger than the image.
            count: Patches wanted.
            rng: Source of the places.

        Returns:
            uint8 RGBA (h, w, 4) patches, alpha 255 on the shape; fewer than
            ``count`` where the tries ran out.
        """
        height, width = shape.shape
        rows, columns = (x - y + 1 for x, y in zip(self._image.shape, shape.shape, strict=False))
        # All places are drawn first: those of several patches are weighed at once.
        places = np.empty((2, count, self._tries), np.int64)
        for patch in range(count):
            places[0, patch] = rng.integers(0, rows, self._tries)
            places[1, patch] = rng.integers(0, columns, self._tries)
        patches = []
        for top, left in self._places(shape, places):
            pixels = self._image[top : top + height, left : left + width]
            patches.append(_patch(pixels, shape))
        return patches

    def _places(
        self, shape: npt.NDArray[np.bool_], places: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        """The first of each patch's places that is open, int64 (2, patches, tries)."""
        area = int(np.count_nonzero(shape))
        # Most shapes find a place within a few tries: the rest is looked at only if need be.
        weighed = self._weighed(shape, area, places[..., :_FIRST_TRIES])
        for patch in range(places.shape[1]):
            tried = places[:, patch, :_FIRST_TRIES]
            place = self._first_open(shape, area, tried, *(part[patch] for part in weighed))
            if place is None and self._tries > _FIRST_TRIES:
                tried = places[:, patch, _FIRST_TRIES:]
                place = self._first_open(shape, area, tried, *self._weighed(shape, area, tried))
            if place is not None:
                yield place

    def _weighed(
        self, shape: npt.NDArray[np.bool_], area: int, places: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
        """Which places (2, ...) may be open, and the labelled pixels of the box at each."""
        height, width = shape.shape
        sums, line = self._sums, self._image.shape[1] + 1
        corner = places[0] * line + places[1]
        inside = sums[corner + (height * line + width)] - sums[corner + width]
        inside += sums[corner] - sums[corner + height * line]
        # What of the shape must lie on labelled pixels for lack of others.
        overlap = np.maximum(0, inside + area - height * width)
        return self._below(overlap, inside, area), inside

    def _first_open(
        self,
        shape: npt.NDArray[np.bool_],
        area: int,
        places: npt.NDArray[np.int64],
        maybe: npt.NDArray[np.bool_],
        inside: npt.NDArray[np.int32],
    ) -> tuple[int, int] | None:
        height, width = shape.shape
        for k in maybe.nonzero()[0].tolist():
            top, left = int(places[0, k]), int(places[1, k])
            if inside[k]:
                window = self._labelled[top : top + height, left : left + width]
                overlap_here = int(np.count_nonzero(window & shape))
                if not self._below(overlap_here, int(inside[k]), area):
                    continue
            return top, left
        return None

    def _below(
        self,
        overlap: npt.NDArray[Any] | int,
        inside: npt.NDArray[Any] | int,
        area: int,
    ) -> npt.NDArray[np.bool_]:
        return np.asarray(overlap < self._max_iou * (area + inside - overlap))
