"""What is known of the tracks that are being followed: an array for each thing, by place."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.tracks.motion import Motion

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Weight of the newest sighting in a track's area, and in how far it departs from foresight.
_NEWEST = 0.3


def _ints() -> Ints:
    return np.zeros(0, np.int64)


def _doubles() -> Doubles:
    return np.zeros(0)


def _points() -> Doubles:
    return np.zeros((0, 2))


def _flags() -> Flags:
    return np.zeros(0, np.bool_)


@dataclass(eq=False)
class TrackState:
    """The tracks, by rising key; positions are of the current frame, x and y.

    Attributes:
        keys: int64 (K,): from 1, never given twice; what they are called before they have ids.
        position: float64 (K, 2): where each is foreseen.
        carried: Where the common motion alone has taken it.
        velocity: Of its own, beside the common motion, pixels a frame.
        seen_at: Centre of the object that it was last seen in, carried likewise.
        area: Pixels.
        length: Pixels.
        spread: Mean square of its departures from where it was foreseen, along one axis.
        first: Frame first seen.
        last: Frame last seen.
        kept: Frame last seen, or last known to be inside another one's object.
        sightings: Number of frames seen.
        within: Key of the track in whose object it is hidden; 0 for none.
        merged: Whether the object it was last seen in stands for others, too.
        late: Whether it began as a piece of another one's object: it counts once it has lasted.
        confirmed: Whether it is a track, and no chance find.
    """

    keys: Ints = field(default_factory=_ints)
    position: Doubles = field(default_factory=_points)
    carried: Doubles = field(default_factory=_points)
    velocity: Doubles = field(default_factory=_points)
    seen_at: Doubles = field(default_factory=_points)
    area: Doubles = field(default_factory=_doubles)
    length: Doubles = field(default_factory=_doubles)
    spread: Doubles = field(default_factory=_doubles)
    first: Ints = field(default_factory=_ints)
    last: Ints = field(default_factory=_ints)
    kept: Ints = field(default_factory=_ints)
    sightings: Ints = field(default_factory=_ints)
    within: Ints = field(default_factory=_ints)
    merged: Flags = field(default_factory=_flags)
    late: Flags = field(default_factory=_flags)
    confirmed: Flags = field(default_factory=_flags)

    def __post_init__(self) -> None:
        self._next = 1

    def __len__(self) -> int:
        return len(self.keys)

    def new_key(self) -> int:
        """A key that no track has had."""
        self._next += 1
        return self._next - 1

    def place_of(self, keys: Ints) -> NDArray[np.intp]:
        """Places of tracks, all of which are there."""
        return np.searchsorted(self.keys, keys)

    def move(self, motion: Motion, persistence: float, passed: int) -> None:
        """Carry all tracks on to a frame: by the common motion, then as far as they keep theirs.

        Args:
            motion: Common to the objects since the last frame.
            persistence: Share of its own velocity that a track keeps from frame to frame.
            passed: Frames since.
        """
        # A velocity is that of the last sighting: with each frame missed less of it is left.
        fresh = self.last == self.last.max(initial=-1)
        self.velocity[~fresh] *= persistence
        steps = sum(persistence**k for k in range(1, passed + 1))
        self.carried, self.seen_at = motion(self.position), motion(self.seen_at)
        self.position = self.carried + self.velocity * steps

    def see(
        self, places: NDArray[np.intp], area: Ints, centre: Doubles, merged: Flags, frame: int
    ) -> None:
        """Note the objects that tracks were found in; of a merged one only how far it moved."""
        alone, shared = places[~merged], places[merged]
        away = centre[~merged] - self.position[alone]
        square = (away**2).sum(axis=1) / 2
        first = self.sightings[alone] < 2
        self.spread[alone] = np.where(
            first, square, (1 - _NEWEST) * self.spread[alone] + _NEWEST * square
        )
        just = self.last[alone] == frame - 1
        own = centre[~merged] - self.carried[alone]
        self.velocity[alone] = np.where(just[:, None], own, self.velocity[alone])
        self.position[alone] = self.carried[alone] = centre[~merged]
        self.area[alone] += _NEWEST * (area[~merged] - self.area[alone])
        self._follow(shared, centre[merged], frame)
        self.seen_at[places], self.last[places], self.kept[places] = centre, frame, frame
        self.merged[places] = merged
        self.sightings[places] += 1

    def _follow(self, shared: NDArray[np.intp], centre: Doubles, frame: int) -> None:
        """Move tracks that share an object, and those hidden in it, as the object moved."""
        moved = np.where(self.merged[shared, None], centre - self.seen_at[shared], 0.0)
        self.position[shared] = self.carried[shared] + moved
        self.velocity[shared] = 0.0
        hidden = np.flatnonzero(np.isin(self.within, self.keys[shared]) & (self.within > 0))
        host = np.searchsorted(self.keys[shared], self.within[hidden])
        self.position[hidden] = self.carried[hidden] + moved[host]
        self.velocity[hidden] = 0.0
        self.kept[hidden] = frame

    def add(self, centre: Doubles, area: Ints, length: Doubles, late: Flags, frame: int) -> Ints:
        """Begin a track for each object; gives their keys."""
        count = len(area)
        keys = np.arange(self._next, self._next + count)
        self._next += count
        none, frames = np.zeros(count, np.int64), np.full(count, frame)
        more = TrackState(
            keys=keys,
            position=centre.astype(np.float64),
            carried=centre.astype(np.float64),
            velocity=np.zeros((count, 2)),
            seen_at=centre.astype(np.float64),
            area=area.astype(np.float64),
            length=length.astype(np.float64),
            spread=np.zeros(count),
            first=frames,
            last=frames.copy(),
            kept=frames.copy(),
            sightings=none + 1,
            within=none.copy(),
            merged=np.zeros(count, np.bool_),
            late=late,
            confirmed=np.zeros(count, np.bool_),
        )
        for one in fields(self):
            both = (getattr(self, one.name), getattr(more, one.name))
            setattr(self, one.name, np.concatenate(both))
        return keys

    def keep(self, places: NDArray[Any]) -> None:
        """Keep the tracks at these places, or of this mask, in that order."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name)[places])

    def rename(self, key: int, new: int) -> None:
        """Give a track another key."""
        self.keys[self.keys == key] = new
        self.keep(np.argsort(self.keys, kind="stable"))
