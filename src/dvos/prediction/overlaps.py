"""How far the objects of two frames overlap, once the motion that they share is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.common_motion import Motion

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

#: Places looked at across an object of the usual size, which tell its overlap well enough.
_ACROSS = 7
_MOST = 8


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of an object of the earlier frame and one of the later that share places.

    Attributes:
        before: Places of the earlier objects, (P,).
        now: Of the later ones.
        union: Shared places over those of either, float64 (P,).
        of_before: Shared places over those of the earlier object.
        of_now: Over those of the later one.
    """

    before: Places
    now: Places
    union: Doubles
    of_before: Doubles
    of_now: Doubles

    def joined(
        self, track_of: Places, rows: Places, columns: Places, least: float
    ) -> tuple[Places, Places, Doubles]:
        """Links possible by distance and those possible by overlap, with the overlap of each.

        Args:
            track_of: The place of the track of each earlier object.
            rows: Tracks of the links that are possible by distance.
            columns: Their objects.
            least: Overlap of the smaller from which a link is possible however far.
        """
        track, width = (
            track_of[self.before],
            int(max(self.now.max(initial=0), columns.max(initial=0))),
        )
        codes, own = rows * (width + 1) + columns, track * (width + 1) + self.now
        near = np.maximum(self.of_before, self.of_now) >= least
        known = np.isin(own, codes)
        rows = np.concatenate([rows, track[near & ~known]])
        columns = np.concatenate([columns, self.now[near & ~known]])
        codes = rows * (width + 1) + columns
        order = np.argsort(own, kind="stable")
        shared = np.zeros(len(rows))
        if len(own):
            place = np.minimum(np.searchsorted(own[order], codes), len(own) - 1)
            hit = own[order][place] == codes
            shared[hit] = self.union[order][place[hit]]
        return rows, columns, shared


def find_overlaps(before: NDArray[np.int32], now: NDArray[np.int32], motion: Motion) -> Overlaps:
    """Compare the labels of two frames at places on a grid, dense enough for the usual object.

    Args:
        before: int32 (H, W), 0 background, objects from 1.
        now: Likewise, of the later frame and the same size.
        motion: Common to the objects since.
    """
    step = _step(now)
    sampled = now[::step, ::step]
    y, x = np.nonzero(sampled)
    later = sampled[y, x]
    # Rows run on side by side: the place before a pixel is told once for all of a shift.
    points = motion.back(np.stack([x * step, y * step], axis=1).astype(np.float64))
    at = np.rint(points).astype(np.intp)
    inside = (at >= 0).all(axis=1) & (at[:, 0] < before.shape[1]) & (at[:, 1] < before.shape[0])
    earlier = np.zeros(len(later), before.dtype)
    earlier[inside] = before[at[inside, 1], at[inside, 0]]
    places_now = np.bincount(later, minlength=1)
    places_before = np.bincount(before[::step, ::step].ravel(), minlength=1)
    on = earlier > 0
    codes = earlier[on].astype(np.int64) * (int(later.max(initial=0)) + 1) + later[on]
    if not len(codes):
        none = np.zeros(0)
        return Overlaps(none.astype(np.intp), none.astype(np.intp), none, none, none)
    # Pairs come in runs along the rows: sorting the runs is several times less.
    starts = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
    pairs, place = np.unique(codes[starts], return_inverse=True)
    shared = np.bincount(place, weights=np.diff(starts, append=len(codes)))
    first, second = np.divmod(pairs, int(later.max()) + 1)
    # A sampled object may have fewer places than it shares with a moved one.
    of_first = np.maximum(places_before[np.minimum(first, len(places_before) - 1)], shared)
    of_second = np.maximum(places_now[second], shared)
    return Overlaps(
        (first - 1).astype(np.intp),
        (second - 1).astype(np.intp),
        shared / (of_first + of_second - shared),
        shared / of_first,
        shared / of_second,
    )


def _step(labels: NDArray[np.int32]) -> int:
    count = int(labels.max(initial=0))
    if not count:
        return 1
    side = float(np.sqrt(np.count_nonzero(labels) / count))
    return int(np.clip(side / _ACROSS, 1, _MOST))
