"""Which tracks divide: a mother in one frame, and two daughters that both last.

One of the daughters may be seen some frames after the other, or both after the mother was last
seen: cells that divide are dim, round and out of focus.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.motion import REST
from dvos.prediction.tracks.nearest import Doubles, Grid, Places
from dvos.prediction.tracks.state import Ints, Pending, TrackState

#: Frames before a daughter's first in which her mother is looked for.
_BEFORE = 5
_LASTING = 3  # frames that both daughters must be seen in, at least
#: Of a daughter: its area in the mother's, and that of both together.
_DAUGHTER, _DAUGHTERS = (0.15, 0.9), (0.4, 1.8)
#: Of the mother's area: the most of a daughter who was seen for some frames before her sister.
_LATER = 0.65
_SISTERS = 0.4  # least area of the smaller in that of the larger
#: Of the mother's length: how far from her a daughter may lie, and the middle of both where she was
#: seen in the frame before, or earlier.
_BESIDE, _BETWEEN, _BETWEEN_LATER = 1.3, 0.6, 0.33
_NEAR = 4  # mothers near a new object that are looked at


class _Division(NamedTuple):
    """What may be one: keys of the mother and of the daughters, one of which may still be hers."""

    frame: int  # in which both daughters are seen first
    last: int  # in which the mother is seen last
    mother: int
    daughters: tuple[int, int]


class _Mothers(NamedTuple):
    """Objects of an earlier frame that may be mothers of what begins in this one."""

    frame: int
    objects: FrameObjects
    places: Places
    keys: Ints
    where: Doubles  # where the common motion has taken them
    between: float  # how far from them the middle of their daughters may lie, in their length


class Divisions:
    """Divisions that were noted and wait until both daughters have lasted."""

    def __init__(self, sightings: int) -> None:
        self._sightings = sightings  # frames that a mother must have been seen in
        self.needed = max(sightings, _LASTING)  # frames that both daughters must be seen in
        #: Frames that must wait: from the mother's last until both daughters have lasted.
        self.delay = _BEFORE + self.needed - 1
        self.parents: dict[int, int] = {}  # key of the mother by that of each daughter
        self._first: int | None = None  # the clip's first frame
        self._noted: list[_Division] = []

    def note(self, pending: Sequence[Pending], new: Places) -> None:
        """Note what may be divisions before the last of the frames that wait.

        Tracks of that frame's objects at the places ``new`` begin there.
        """
        self._first = pending[0].frame if self._first is None else self._first
        if not len(new):
            return
        now, taken = pending[-1], {*self.parents.values()}
        for mothers in _earlier(pending):
            found = []
            for mother, pair in _pairs(mothers, now, new):
                away = _apart(mothers, mother, now.objects, pair)
                if away is not None:
                    daughters = int(now.keys[pair[0]]), int(now.keys[pair[1]])
                    found.append((away, int(mothers.keys[mother]), daughters))
            for _, key, daughters in sorted(found):
                if not taken & {key, *daughters}:
                    taken |= {key, *daughters}
                    self._noted.append(_Division(now.frame, mothers.frame, key, daughters))

    def settle(
        self, state: TrackState, pending: Sequence[Pending], tracks: Container[int]
    ) -> list[int]:
        """Take for divisions those whose daughters have lasted; gives these, tracks from now on.

        The mother's track ends. Where a daughter has gone on with it, she gets a key of her own in
        the state and in the frames that wait. ``tracks`` are the keys that are confirmed.
        """
        confirmed: list[int] = []
        left = []
        for one in self._noted:
            if not np.isin(one.daughters, state.keys).all():
                continue
            since = [waiting for waiting in pending if waiting.frame > one.last]
            if not self._may_be(one, state, pending, tracks):
                continue
            seen = min(_seen(key, since) for key in one.daughters)
            if seen >= self.needed:
                own = [self._parted(state, since, key, one) for key in one.daughters]
                confirmed += [one.mother, *own]
                state.end(state.keys == one.mother)
            elif pending[-1].frame - one.frame < self.needed:
                left.append(one)
        self._noted = left
        return confirmed

    def _may_be(
        self,
        one: _Division,
        state: TrackState,
        pending: Sequence[Pending],
        tracks: Container[int],
    ) -> bool:
        """Whether the mother was a track and is gone, and it is known what moved where.

        Of one who was there when the clip began nobody can say how long she had been.
        """
        since = [waiting for waiting in pending if waiting.frame > one.last]
        goes_on, seen = one.mother in one.daughters, _seen(one.mother, since)
        if any(waiting.centres.lost for waiting in since if waiting.frame <= one.frame):
            return False
        if seen and not goes_on:
            return False
        if _seen(one.mother, (waiting for waiting in pending if waiting.frame == self._first)):
            return True
        if not goes_on:
            return one.mother in tracks
        sightings = state.sightings[state.place_of(np.array([one.mother]))]
        return int(sightings[0]) - seen >= self._sightings

    def _parted(
        self, state: TrackState, since: list[Pending], key: int, division: _Division
    ) -> int:
        """The daughter's own key."""
        own = int(state.new_keys(1)[0]) if key == division.mother else key
        if own != key:
            state.rename(key, own)
        for waiting in since:
            waiting.keys[waiting.keys == key] = own
        place = int(state.place_of(np.array([own]))[0])
        state.confirmed[place] = True
        state.first[place] = next(waiting.frame for waiting in since if own in waiting.keys)
        self.parents[own] = division.mother
        return own


def _seen(key: int, frames: Iterable[Pending]) -> int:
    """Number of frames that a track is seen in."""
    return sum(key in waiting.keys for waiting in frames)


def _earlier(pending: Sequence[Pending]) -> Iterator[_Mothers]:
    """What may be mothers of what begins in the last frame; the nearest frame first.

    All of the frame before; of others those not seen since, and those last seen whole, whose track
    goes on in what may be a daughter.
    """
    now, motion = pending[-1], pending[-1].motion or REST
    area = dict(zip(now.keys.tolist(), now.objects.area.tolist(), strict=True))
    since, told = np.zeros((2, 0), np.int64)  # keys seen after this frame, and not to be told again
    for one in reversed(list(pending)[:-1]):
        if now.frame - one.frame > _BEFORE:
            return
        left = np.array([area.get(key, 0) for key in one.keys.tolist()]) / one.objects.area
        part = (left > 0) & (left <= _LATER)
        places = np.flatnonzero((part | ~np.isin(one.keys, since)) & ~np.isin(one.keys, told))
        if len(places):
            where, keys = motion(one.objects.centre[places]), one.keys[places]
            between = _BETWEEN if now.frame - one.frame == 1 else _BETWEEN_LATER
            yield _Mothers(one.frame, one.objects, places, keys, where, between)
            told = np.append(told, keys[part[places] | (left[places] == 0)])
        motion, since = motion.after(one.motion or REST), np.append(since, one.keys)


def _pairs(mothers: _Mothers, now: Pending, new: Places) -> Iterator[tuple[int, tuple[int, int]]]:
    """Each mother with two objects that may be her daughters, one or both of which begin now."""
    reach, area = _BESIDE * mothers.objects.length, mothers.objects.area
    farthest = float(reach[mothers.places].max())
    away, near = Grid(mothers.where).nearest(now.objects.centre[new], _NEAR, farthest)
    row, rank = np.nonzero(np.isfinite(away))
    beside, mother_of = new[row], near[row, rank]
    # Else a few mothers would be paired with all that is new in a frame.
    place_of = mothers.places[mother_of]
    share = now.objects.area[beside] / area[place_of]
    fits = (away[row, rank] <= reach[place_of]) & (share >= _DAUGHTER[0]) & (share <= _DAUGHTER[1])
    around: dict[int, list[int]] = {}
    for place, mother in zip(beside[fits].tolist(), mother_of[fits].tolist(), strict=True):
        around.setdefault(mother, []).append(place)
    object_of = {key: place for place, key in enumerate(now.keys.tolist())}
    for mother, places in sorted(around.items()):
        # Her own track may go on in one of them.
        own = object_of.get(int(mothers.keys[mother]))
        pairs = combinations(places, 2) if own is None else product([own], places)
        for one, other in pairs:
            yield mother, (one, other)


def _apart(
    mothers: _Mothers, mother: int, objects: FrameObjects, pair: tuple[int, int]
) -> float | None:
    """How far the middle of two objects is from the mother, in her length; None if not her own."""
    place, where = mothers.places[mother], mothers.where[mother]
    area, length = float(mothers.objects.area[place]), float(mothers.objects.length[place])
    areas, centres = objects.area[list(pair)] / area, objects.centre[list(pair)]
    middle = float(np.hypot(*(centres.mean(axis=0) - where)))
    beside = np.hypot(*(centres - where).T)
    fits = (
        _DAUGHTER[0] <= areas.min() <= areas.max() <= _DAUGHTER[1]
        and _DAUGHTERS[0] <= areas.sum() <= _DAUGHTERS[1]
        and areas.min() >= _SISTERS * areas.max()
        and middle <= mothers.between * length
        and beside.max() <= _BESIDE * length
    )
    return middle / length if fits else None
