"""Tracks being followed, and the frames whose links wait to be settled."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.motion import Centres, Motion
from dvos.prediction.tracks.nearest import Doubles, Places

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Keyed = tuple[FrameObjects, Ints]  # objects of a frame, and keys of their tracks, 0 without one

#: Weight of the newest sighting in a track's area, and in how far it departs from foresight.
_NEWEST = 0.3


@dataclass(eq=False)
class TrackState:
    """The tracks, by rising key; positions are x, y in the current frame, float64 (K, 2)."""

    keys: Ints  # from 1, never given twice: what tracks are called before they have ids
    position: Doubles  # where each is foreseen
    carried: Doubles  # where the common motion alone has taken it
    velocity: Doubles  # of its own, beside the common motion, pixels a frame
    seen_at: Doubles  # centre of the object that it was last seen in, carried likewise
    area: Doubles
    shape: Doubles  # second moments xx, yy, xy of the object that it was last seen in alone, (K, 3)
    spread: Doubles  # mean square of its departures from where it was foreseen, along one axis
    first: Ints  # frame first seen
    last: Ints  # frame last seen
    kept: Ints  # frame last seen, or last known to be inside another one's object
    sightings: Ints  # number of frames seen
    within: Ints  # key of the track in whose object it is hidden; 0 for none
    merged: Flags  # whether the object it was last seen in stands for others, too
    late: Flags  # whether it began as a piece of another's object: it counts once it has lasted
    confirmed: Flags  # whether it is a track, and no chance find

    @classmethod
    def begun(
        cls, keys: Ints, centre: Doubles, area: Ints, shape: Doubles, late: Flags, frame: int
    ) -> "TrackState":
        """A track for each object, first seen in a frame."""
        ints, flags = np.zeros_like(keys), np.zeros(len(keys), np.bool_)
        places, frames = np.array(centre, np.float64).reshape(-1, 2), ints + frame
        sizes = np.array(area, np.float64), np.reshape(shape, (-1, 3)), np.zeros(len(keys))
        return cls(
            *(keys, places, places.copy(), 0 * places, places.copy(), *sizes),
            *(frames, frames.copy(), frames.copy(), ints + 1, ints),
            *(flags, late, flags.copy()),
        )

    @classmethod
    def empty(cls) -> "TrackState":
        """No track."""
        ints, none = np.zeros(0, np.int64), np.zeros(0)
        return cls.begun(ints, none, ints, none, none > 0, 0)

    def __post_init__(self) -> None:
        self._next = 1

    def __len__(self) -> int:
        return len(self.keys)

    def new_keys(self, count: int) -> Ints:
        """Keys that no track has had."""
        self._next += count
        return np.arange(self._next - count, self._next)

    def place_of(self, keys: Ints) -> Places:
        """Places of tracks, all of which are there."""
        return np.searchsorted(self.keys, keys)

    def move(self, motion: Motion, persistence: float, passed: int) -> None:
        """Carry all tracks on to a frame: by the common motion, then as far as they keep theirs.

        ``persistence`` is the share of its own velocity that a track keeps from frame to frame.
        """
        # A velocity is that of the last sighting: with each frame missed less of it is left.
        fresh = self.last == self.last.max(initial=-1)
        self.velocity[~fresh] *= persistence
        steps = sum(persistence**k for k in range(1, passed + 1))
        self.carried, self.seen_at = motion(self.position), motion(self.seen_at)
        self.position = self.carried + self.velocity * steps

    def see(
        self, places: Places, objects: FrameObjects, found: Places, merged: Flags, frame: int
    ) -> None:
        """Note the objects that tracks were found in; of a merged one only how far it moved."""
        centre, single = objects.centre[found], found[~merged]
        alone, own = places[~merged], objects.centre[single]
        square = ((own - self.position[alone]) ** 2).sum(axis=1) / 2
        known = np.where(self.sightings[alone] < 2, square, self.spread[alone])
        self.spread[alone] = known + _NEWEST * (square - known)
        just = self.last[alone] == frame - 1
        self.velocity[alone[just]] = (own - self.carried[alone])[just]
        self.position[alone] = self.carried[alone] = own
        self.area[alone] += _NEWEST * (objects.area[single] - self.area[alone])
        self.shape[alone] = objects.moments[single]
        if merged.any():
            self._follow(places[merged], centre[merged], frame)
        self.seen_at[places], self.last[places], self.kept[places] = centre, frame, frame
        self.merged[places] = merged
        self.sightings[places] += 1

    def _follow(self, shared: Places, centre: Doubles, frame: int) -> None:
        """Move tracks that share an object, and those hidden in it, as the object moved."""
        moved = np.where(self.merged[shared, None], centre - self.seen_at[shared], 0.0)
        self.position[shared] = self.carried[shared] + moved
        self.velocity[shared] = 0.0
        hidden = np.flatnonzero(np.isin(self.within, self.keys[shared]) & (self.within > 0))
        host = np.searchsorted(self.keys[shared], self.within[hidden])
        self.position[hidden] = self.carried[hidden] + moved[host]
        self.velocity[hidden] = 0.0
        self.kept[hidden] = frame

    def add(self, objects: FrameObjects, new: Places, late: Flags, frame: int) -> Ints:
        """Begin a track for each object at these places; gives their keys."""
        keys, own = self.new_keys(len(new)), objects.moments[new]
        more = TrackState.begun(keys, objects.centre[new], objects.area[new], own, late, frame)
        for one in fields(self) if len(keys) else ():
            both = (getattr(self, one.name), getattr(more, one.name))
            setattr(self, one.name, np.concatenate(both))
        return keys

    def keep(self, places: NDArray[Any]) -> None:
        """Keep the tracks at these places, or of this mask, in that order."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name)[places])

    def end(self, ended: Flags) -> None:
        """Forget the tracks of this mask, and that others were hidden in their objects."""
        if ended.any():
            self.keep(~ended)
            self.within[~np.isin(self.within, self.keys)] = 0

    def rename(self, key: int, new: int) -> None:
        """Give a track another key."""
        self.keys[self.keys == key] = new
        self.keep(np.argsort(self.keys, kind="stable"))


@dataclass(frozen=True, eq=False)
class LinkedFrame:
    """A frame whose links are settled, with the number that it was pushed with."""

    frame: int
    ids: Ints  # int64 (N,): the track of each object, from 1; 0 of objects that are in none
    parents: dict[int, int]  # of tracks that begin here by a division, the track they come from
    motion: Motion | None  # the common motion since the frame before; None where it is not known
    #: The frame's; after them, of each that several tracks share, all parts but one.
    objects: FrameObjects
    lost: bool = False  # whether objects are found, and no motion that explains where they went


@dataclass(eq=False)
class Pending:
    """A frame that waits for its links to be settled."""

    frame: int
    keys: Ints  # int64 (N,): the track of each object by its key in the state
    motion: Motion | None  # the common motion since the frame before; None where it is not known
    centres: Centres  # of its objects, which tell whether the motion was lost
    objects: FrameObjects
