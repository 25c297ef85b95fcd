"""The tracks of a clip, a row for each: when and where it was seen, and how large it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.objects import FrameObjects

#: Columns of ``<clip>.tracks.csv``.
TRACK_COLUMNS = (
    *("id", "parent", "first_frame", "last_frame", "first_time_s", "last_time_s", "frames"),
    *("mean_area", "mean_length", "mean_width", "path_length", "confidence"),
)
_SUMS = 4
_DECIMALS = 2


class TrackTable:
    """Gathers the rows of all tracks of a clip from its frames, in order.

    Attributes:
        inside: Number of those that begin inside the picture, after the clip's first frame, and not
            by a division.
    """

    def __init__(self) -> None:
        self.inside = 0
        self._frames = np.zeros((0, 2), np.int64)
        self._times = np.zeros((0, 2))
        self._seen = np.zeros(0, np.int64)
        self._sums = np.zeros((0, _SUMS))
        self._path = np.zeros(0)
        self._centre = np.zeros((0, 2))
        self._parents: dict[int, int] = {}
        self._first: int | None = None

    def add(
        self,
        frame: int,
        time_s: float | None,
        objects: FrameObjects,
        ids: NDArray[np.int64],
        parents: Mapping[int, int],
    ) -> None:
        """Add the next frame.

        Args:
            frame: Its index.
            time_s: Its time; None where it has none.
            objects: Its objects.
            ids: int64 (N,): the track of each; 0 for none.
            parents: Of tracks that begin here by a division, the track they come from.
        """
        self._first = frame if self._first is None else self._first
        tracked = np.flatnonzero(ids)
        places = ids[tracked] - 1
        self._grow(int(places.max(initial=-1)) + 1)
        time = np.nan if time_s is None else time_s
        new = self._seen[places] == 0
        begun, centre = places[new], objects.centre[tracked]
        self._frames[begun, 0], self._times[begun, 0] = frame, time
        if frame > self._first:
            entered = objects.touches_border[tracked[new]]
            born = np.isin(begun + 1, [*parents])
            self.inside += int(np.count_nonzero(~entered & ~born))
        step = np.hypot(*(centre - self._centre[places]).T)
        self._path[places] += np.where(new, 0.0, step)
        self._frames[places, 1], self._times[places, 1] = frame, time
        self._seen[places] += 1
        values = (objects.area, objects.length, objects.width, objects.probability)
        self._sums[places] += np.stack(values, axis=1)[tracked].astype(np.float64)
        self._centre[places] = centre
        self._parents |= parents

    @property
    def count(self) -> int:
        """Number of tracks."""
        return int(np.count_nonzero(self._seen))

    def _grow(self, count: int) -> None:
        more = count - len(self._seen)
        if more <= 0:
            return
        more = max(more, len(self._seen) // 2)
        for name in ("_frames", "_times", "_seen", "_sums", "_path", "_centre"):
            values = getattr(self, name)
            empty = np.zeros((more, *values.shape[1:]), values.dtype)
            setattr(self, name, np.concatenate([values, empty]))

    def rows(self) -> Iterator[Sequence[object]]:
        """A row for each track, in order of ids, as :data:`TRACK_COLUMNS` has it."""
        for place in np.flatnonzero(self._seen).tolist():
            (first, last), times = self._frames[place].tolist(), self._times[place]
            seen = int(self._seen[place])
            area, length, width, sure = (self._sums[place] / seen).tolist()
            yield (
                *(place + 1, self._parents.get(place + 1, 0), first, last),
                *(None if np.isnan(time) else round(float(time), 6) for time in times),
                seen,
                *(round(value, _DECIMALS) for value in (area, length, width)),
                round(float(self._path[place]), _DECIMALS),
                # How sure its objects are, and how many of its frames it was found in.
                round(sure * seen / (last - first + 1), 4),
            )
