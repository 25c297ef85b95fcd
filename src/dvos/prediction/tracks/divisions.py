"""Which tracks divide: a mother, seen in one frame, and two daughters that both last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.motion import Centres, Motion
from dvos.prediction.tracks.state import TrackState

Ids = NDArray[np.int64]

#: Frames that both daughters must be seen in, at least.
_LASTING = 3
#: Of a daughter: its area in the mother's, and that of both together.
_DAUGHTER, _DAUGHTERS = (0.15, 0.9), (0.4, 1.8)
#: Least area of the smaller in that of the larger.
_SISTERS = 0.4
#: Of the mother's length: how far from her a daughter may lie, and the middle of both.
_BESIDE, _BETWEEN = 1.3, 0.6
#: Mothers near a new object that are looked at.
_NEAR = 4


@dataclass(eq=False)
class Pending:
    """A frame that waits for its links to be settled."""

    frame: int
    keys: Ids  # int64 (N,): the track of each object by its key in the state
    motion: Motion | None  # the common motion since the frame before; None where it is not known
    centres: Centres  # of its objects, which tell whether the motion was lost


class _Division(NamedTuple):
    """What may be one: keys of the mother and of the daughters, one of which may still be hers."""

    frame: int
    mother: int
    daughters: tuple[int, int]


class Divisions:
    """Divisions that were noted and wait until both daughters have lasted.

    Attributes:
        needed: Frames that both daughters must be seen in.
        parents: Key of the mother by the key of each daughter.
    """

    def __init__(self, sightings: int) -> None:
        self.needed = max(sightings, _LASTING)
        self.parents: dict[int, int] = {}
        self._noted: list[_Division] = []

    def note(
        self,
        before: tuple[FrameObjects, Ids],
        now: tuple[FrameObjects, Ids],
        new: NDArray[np.intp],
        motion: Motion,
        frame: int,
    ) -> None:
        """Note what may be divisions between two frames: objects and keys of their tracks.

        Tracks of the later one's objects at the places ``new`` begin; ``motion`` is common to the
        objects since.
        """
        if not len(new) or not before[0].count:
            return
        mothers, keys_before = before
        objects, keys = now
        where = motion(mothers.centre)
        _, near = cKDTree(where).query(objects.centre[new], k=min(_NEAR, len(where)))
        beside: dict[int, list[int]] = {}
        for place, candidates in zip(new.tolist(), near.reshape(len(new), -1), strict=True):
            for mother in candidates.tolist():
                beside.setdefault(mother, []).append(place)
        object_of = {key: place for place, key in enumerate(keys.tolist())}
        found = []
        for mother, places in sorted(beside.items()):
            # Her own track may go on in one of them.
            own = object_of.get(int(keys_before[mother]))
            pairs: Iterable[tuple[int, int]] = combinations(places, 2)
            if own is not None:
                pairs = ((own, place) for place in places)
            for pair in pairs:
                away = _apart(mothers, mother, where[mother], objects, pair)
                if away is not None:
                    found.append((away, mother, pair))
        taken: set[int] = set()
        for _, mother, pair in sorted(found):
            if not taken & {*pair, -1 - mother}:
                taken |= {*pair, -1 - mother}
                daughters = int(keys[pair[0]]), int(keys[pair[1]])
                self._noted.append(_Division(frame, int(keys_before[mother]), daughters))

    def settle(self, state: TrackState, pending: Iterable[Pending], frame: int) -> list[int]:
        """Take for divisions those whose daughters have lasted; gives these, tracks from now on.

        The mother's track ends where a daughter goes on with it, which gets a key of its own in the
        state and in the frames that wait.
        """
        confirmed: list[int] = []
        left = []
        for one in self._noted:
            if not np.isin(one.daughters, state.keys).all():
                continue
            since = [waiting.keys for waiting in pending if waiting.frame >= one.frame]
            seen = min(sum(key in keys for keys in since) for key in one.daughters)
            if seen >= self.needed:
                confirmed += [self._parted(state, pending, key, one) for key in one.daughters]
            elif frame - one.frame < self.needed:
                left.append(one)
        self._noted = left
        return confirmed

    def _parted(
        self, state: TrackState, pending: Iterable[Pending], key: int, division: _Division
    ) -> int:
        """The daughter's own key."""
        own = int(state.new_keys(1)[0]) if key == division.mother else key
        if own != key:
            state.rename(key, own)
            for waiting in pending:
                if waiting.frame >= division.frame:
                    waiting.keys[waiting.keys == key] = own
        place = int(np.searchsorted(state.keys, own))
        state.confirmed[place], state.first[place] = True, division.frame
        self.parents[own] = division.mother
        return own


def _apart(
    mothers: FrameObjects,
    mother: int,
    where: NDArray[np.float64],
    objects: FrameObjects,
    pair: tuple[int, int],
) -> float | None:
    """How far the middle of two objects is from the mother, in her length; None if not her own."""
    area, length = float(mothers.area[mother]), float(mothers.length[mother])
    areas, centres = objects.area[list(pair)] / area, objects.centre[list(pair)]
    middle = float(np.hypot(*(centres.mean(axis=0) - where)))
    beside = np.hypot(*(centres - where).T)
    fits = (
        _DAUGHTER[0] <= areas.min() <= areas.max() <= _DAUGHTER[1]
        and _DAUGHTERS[0] <= areas.sum() <= _DAUGHTERS[1]
        and areas.min() >= _SISTERS * areas.max()
        and middle <= _BETWEEN * length
        and beside.max() <= _BESIDE * length
    )
    return middle / length if fits else None
