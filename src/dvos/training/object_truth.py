"""What is true of the objects of a query: where their centres are, and where they were before.

The centre of an object is the centre of gravity of its pixels in the frame, hidden and cut parts
left out: of all points this is the one that a network can see, and it stays the same thing where
prediction cuts objects at the frame's edge. The motion of an object is told where it is as large in
both frames and touches no edge in either, as else the centre moves with what hides the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dvos.media.mask import IGNORE
from dvos.training.clips.clip import Clip, known_objects

Singles = NDArray[np.float32]

#: Of the maps, against the frame.
OBJECT_STRIDE = 2
#: Objects of fewer pixels are scraps that others leave free; nothing is learnt of them.
_SCRAP = 8
#: Weight of objects that touch others: where an object stands alone, its outline tells its centre.
_CROWDED = 3
#: The larger of two areas of an object over the smaller, at most, where its motion is told.
_ALIKE = 1.3


class TruthChannels(IntEnum):
    """Channels of :func:`object_truth`; lengths in pixels, weights 0 where nothing is known."""

    OFFSET_X = 0
    OFFSET_Y = 1
    MOTION_X = 2
    MOTION_Y = 3
    #: Side of a square of the object's area.
    SIZE = 4
    #: One over the root of the object's area: one a quarter as large counts half as much.
    WEIGHT = 5
    MOTION_WEIGHT = 6
    #: 1 where it is known whether there is a centre.
    KNOWN = 7


WEIGHTS = (TruthChannels.WEIGHT, TruthChannels.MOTION_WEIGHT, TruthChannels.KNOWN)


def object_truth(clip: Clip) -> Singles:
    """What is known of the objects in the last frame of a clip, which is labelled.

    float32 (8, ceil(H / 2), ceil(W / 2)), see :class:`TruthChannels`. Position (i, j) has the
    object of the pixel (2 i, 2 j), and offsets are from the middle of the four pixels from there.
    """
    ids = clip.ids[-1]
    near = ids[::OBJECT_STRIDE, ::OBJECT_STRIDE]
    truth = np.zeros((len(TruthChannels), *near.shape), np.float32)
    background, channel = near == 0, TruthChannels
    truth[channel.KNOWN] = background
    if not clip.tells_apart or background.all():
        return truth
    now = _Objects.of(ids)
    there = known_objects(near) & (now.area[near] >= _SCRAP)
    truth[channel.KNOWN] += there
    owner, side = near[there], np.sqrt(now.area[near[there]])
    rows, columns = np.nonzero(there)
    middle = (OBJECT_STRIDE - 1) / 2
    truth[channel.OFFSET_X][there] = now.x[owner] - (OBJECT_STRIDE * columns + middle)
    truth[channel.OFFSET_Y][there] = now.y[owner] - (OBJECT_STRIDE * rows + middle)
    truth[channel.SIZE][there] = side
    truth[channel.WEIGHT][there] = np.where(touching(near)[owner], _CROWDED, 1) / side
    if len(clip.ids) > 1 and clip.labelled[-2]:
        before = _Objects.of(clip.ids[-2])
        # Of which objects the centres in both frames are of the same part.
        larger, smaller = np.maximum(now.area, before.area), np.minimum(now.area, before.area)
        alike = now.whole & before.whole & (larger <= _ALIKE * smaller)
        moved = alike[near] & there
        truth[channel.MOTION_X][moved] = (before.x - now.x)[near[moved]]
        truth[channel.MOTION_Y][moved] = (before.y - now.y)[near[moved]]
        truth[channel.MOTION_WEIGHT] = truth[channel.WEIGHT] * moved
    return truth


def object_count(truth: Singles) -> int | None:
    """Objects that :func:`object_truth` tells of; None where it tells none apart."""
    there = truth[TruthChannels.WEIGHT] > 0
    if not there.any():
        return None
    # An object takes up a quarter of its pixels, each of which is that part of it.
    return round(float((OBJECT_STRIDE**2 / truth[TruthChannels.SIZE][there] ** 2).sum()))


def touching(ids: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Which objects of a mask (H, W) touch another one, bool by id."""
    found = np.zeros(IGNORE + 1, np.bool_)
    for one, other in ((ids[:, 1:], ids[:, :-1]), (ids[1:], ids[:-1])):
        meet = (one != other) & known_objects(one) & known_objects(other)
        found[one[meet]] = True
        found[other[meet]] = True
    return found


@dataclass(frozen=True)
class _Objects:
    """Area, centre (x, y) and whether it is whole of the object of each id, in pixels."""

    area: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    whole: NDArray[np.bool_]

    @classmethod
    def of(cls, ids: NDArray[np.uint16]) -> _Objects:
        """Of a mask (H, W)."""
        places = np.flatnonzero(known_objects(ids))
        owners = ids.ravel()[places]
        rows, columns = np.divmod(places, ids.shape[1])
        area, x, y = (
            np.bincount(owners, values, minlength=IGNORE + 1) for values in (None, columns, rows)
        )
        present = np.maximum(area, 1)
        whole = area > 0
        for edge in (ids[0], ids[-1], ids[:, 0], ids[:, -1]):
            whole[edge] = False
        return cls(area.astype(np.float64), x / present, y / present, whole)
