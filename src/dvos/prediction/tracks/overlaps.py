"""How far the objects of two frames overlap, once the motion that they share is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit
from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.motion import Motion

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

#: Places looked at across an object of the usual size, which tell its overlap well enough.
_ACROSS = 6
_MOST = 8
#: Earlier objects that a later one may share places with; further ones are left out.
_PARTNERS = 8


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of an object of the earlier frame and one of the later that share places, (P,)."""

    before: Places  # of the earlier objects
    now: Places
    union: Doubles  # shared places over those of either
    of_before: Doubles  # over those of the earlier object
    of_now: Doubles

    def joined(
        self, track_of: Places, rows: Places, columns: Places, least: float
    ) -> tuple[Places, Places, Doubles]:
        """Links possible by distance and those possible by overlap, with the overlap of each.

        ``track_of`` are the places of the tracks of earlier objects. From an overlap of ``least``
        of the smaller on a link is possible however far.
        """
        width = int(max(self.now.max(initial=0), columns.max(initial=0))) + 1
        own = track_of[self.before] * width + self.now
        near = np.maximum(self.of_before, self.of_now) >= least
        codes = np.union1d(rows * width + columns, own[near])
        shared = np.zeros(len(codes))
        _, link, pair = np.intersect1d(codes, own, assume_unique=True, return_indices=True)
        shared[link] = self.union[pair]
        return codes // width, codes % width, shared


def find_overlaps(before: FrameObjects, now: FrameObjects, motion: Motion) -> Overlaps:
    """Compare the labels of two frames at places on a grid, dense enough for the usual object."""
    count = now.count
    side = float(np.sqrt(now.area.mean())) if count else 0.0
    step = int(np.clip(round(side / _ACROSS), 1, _MOST))
    back = np.column_stack([motion.inverse.matrix, motion.inverse.shift])
    met, shared = np.zeros((2, count + 1, _PARTNERS), np.int32)
    places_now, places_before = (np.zeros(n + 1, np.int64) for n in (count, before.count))
    _meet(before.labels, now.labels, step, back, met, shared, places_now, places_before)
    second, slot = np.nonzero(met)
    first, number = met[second, slot], shared[second, slot].astype(np.float64)
    # A sampled object may have fewer places than it shares with a moved one.
    of_first = np.maximum(places_before[first], number)
    union = of_first + places_now[second] - number
    shares = (number / whole for whole in (union, of_first, places_now[second]))
    return Overlaps((first - 1).astype(np.intp), second - 1, *shares)


@jit
def _meet(
    before: NDArray[np.int32],
    now: NDArray[np.int32],
    step: int,
    back: Doubles,
    met: NDArray[np.int32],
    shared: NDArray[np.int32],
    places_now: NDArray[np.int64],
    places_before: NDArray[np.int64],
) -> None:
    """Count the places that objects of two frames share, and those of each, on a grid.

    ``back``, float64 (2, 3), leads from x, y, 1 of the later frame to x, y of the earlier. Filled
    in are, for each later object, the earlier ones that it ``met``, the places ``shared`` with
    each, and the numbers of places of all.
    """
    height, width = now.shape
    for y in range(0, height, step):
        for x in range(0, width, step):
            places_before[before[y, x]] += 1
            label = now[y, x]
            if label == 0:
                continue
            places_now[label] += 1
            # To the nearest pixel, as what follows the point is cut off.
            at_x = back[0, 0] * x + back[0, 1] * y + back[0, 2] + 0.5
            at_y = back[1, 0] * x + back[1, 1] * y + back[1, 2] + 0.5
            if not (0 <= at_x < width and 0 <= at_y < height):
                continue
            other = before[int(at_y), int(at_x)]
            if other == 0:
                continue
            for slot in range(met.shape[1]):
                if met[label, slot] == 0:
                    met[label, slot] = other
                if met[label, slot] == other:
                    shared[label, slot] += 1
                    break
