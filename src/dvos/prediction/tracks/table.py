"""The tracks of a clip, a row for each: when and where it was seen, and how large it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.linking import LinkedFrame
from dvos.prediction.tracks.motion import Motion

#: Columns of ``<clip>.tracks.csv``.
TRACK_COLUMNS = (
    *("id", "parent", "first_frame", "last_frame", "first_time_s", "last_time_s", "frames"),
    *("mean_area", "mean_length", "mean_width", "path_length", "confidence"),
    *("sway", "relative_height"),
)
#: Area, length, width, probability; the way of the ground (x, y) and of the object, their squares,
#: and their product.
_SUMS = 4 + 7
_DECIMALS = 2
#: Frames, and lengths of the object that the ground must have moved by (a standard deviation), from
#: which height is told.
_FEWEST, _PASSED = 5, 1.0


#: What :class:`TrackTable` keeps of each track.
_ARRAYS = (
    *("_frames", "_times", "_seen", "_sums", "_path", "_centre", "_begun", "_place"),
    *("_inside", "_order"),
)


class TrackTable:
    """Gathers the rows of all tracks of a clip from its frames, in order."""

    def __init__(self) -> None:
        self._frames = np.zeros((0, 2), np.int64)
        self._times = np.zeros((0, 2))
        self._seen = np.zeros(0, np.int64)
        self._sums = np.zeros((0, _SUMS))
        self._path = np.zeros(0)
        self._centre, self._begun = np.zeros((0, 2)), np.zeros((0, 2))
        self._place = np.zeros((0, 2))
        self._inside, self._order = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        self._added = 0
        self._parents: dict[int, int] = {}
        self._first: int | None = None

    def add(
        self, row: Mapping[str, Any], objects: FrameObjects, linked: LinkedFrame, pose: Motion
    ) -> None:
        """Add the next frame.

        Args:
            row: Its ``time_s``, None where it has none.
            objects: Its objects.
            linked: Its number, the tracks of its objects, and which of them come from divisions.
            pose: Leads from it to the ground of the first.
        """
        frame, ids, parents = linked.frame, linked.ids, linked.parents
        self._first = frame if self._first is None else self._first
        tracked = np.flatnonzero(ids)
        places = ids[tracked] - 1
        self._grow(int(places.max(initial=-1)) + 1)
        time = np.nan if row["time_s"] is None else row["time_s"]
        new = self._seen[places] == 0
        begun, centre = places[new], objects.centre[tracked]
        self._frames[begun, 0], self._times[begun, 0] = frame, time
        if frame > self._first:
            entered = objects.touches_border[tracked[new]]
            born = np.isin(begun + 1, [*parents])
            self._inside[begun] = ~entered & ~born
        self._order[begun] = self._added
        self._added += 1
        self._begun[begun], self._place[begun] = centre[new], pose(centre[new])
        step = np.hypot(*(centre - self._centre[places]).T)
        self._path[places] += np.where(new, 0.0, step)
        self._frames[places, 1], self._times[places, 1] = frame, time
        self._seen[places] += 1
        values = (objects.area, objects.length, objects.width, objects.probability)
        sizes = np.stack(values, axis=1)[tracked].astype(np.float64)
        # How far its first place on the ground has moved through the picture, and it itself.
        ground = pose.inverse(self._place[places]) - self._begun[places]
        own = centre - self._begun[places]
        products = ((a * b).sum(axis=1) for a, b in ((ground, ground), (own, own), (ground, own)))
        self._sums[places] += np.column_stack([sizes, ground, own, *products])
        self._centre[places] = centre
        self._parents |= parents

    @property
    def count(self) -> int:
        """Number of tracks."""
        return int(np.count_nonzero(self._seen))

    def inside(self, ids: NDArray[np.int64] | None = None) -> int:
        """How many tracks, of some or of all, begin inside the picture.

        Those that are there in the clip's first frame, or come from a division, do not.
        """
        return int(np.count_nonzero(self._inside if ids is None else self._inside[ids - 1]))

    def came_back(self, poses: Sequence[Motion], size: tuple[int, int]) -> NDArray[np.int64]:
        """Ids of the tracks that enter from the edge on ground that was seen, and left, before.

        What stands there has had a track already.

        Args:
            poses: Of the frames that were added.
            size: Height and width of a frame.
        """
        count = len(self._seen)
        seen, left = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        # In the order of their beginning, those that are still to begin are the last ones.
        by_order = np.argsort(self._order, kind="stable")
        begins, places = self._order[by_order], self._place[by_order]
        for number, pose in enumerate(poses):
            later = slice(int(np.searchsorted(begins, number, "right")), None)
            at = pose.inverse(places[later])
            within = ((at >= 0) & (at < size[::-1])).all(axis=1)
            left[later] |= seen[later] & ~within
            seen[later] |= within
        found = by_order[left]
        return np.sort(found[(self._seen[found] > 0) & ~self._inside[found]]) + 1

    def _grow(self, count: int) -> None:
        more = count - len(self._seen)
        if more <= 0:
            return
        more = max(more, len(self._seen) // 2)
        for name in _ARRAYS:
            values = getattr(self, name)
            empty = np.zeros((more, *values.shape[1:]), values.dtype)
            setattr(self, name, np.concatenate([values, empty]))

    def rows(self) -> Iterator[Sequence[object]]:
        """A row for each track, in order of ids, as :data:`TRACK_COLUMNS` has it."""
        for place in np.flatnonzero(self._seen).tolist():
            (first, last), times = self._frames[place].tolist(), self._times[place]
            seen = int(self._seen[place])
            means = self._sums[place] / seen
            area, length, width, sure = means[:4].tolist()
            yield (
                *(place + 1, self._parents.get(place + 1, 0), first, last),
                *(None if np.isnan(time) else round(float(time), 6) for time in times),
                seen,
                *(round(value, _DECIMALS) for value in (area, length, width)),
                round(float(self._path[place]), _DECIMALS),
                # How sure its objects are, and how many of its frames it was found in.
                round(sure * seen / (last - first + 1), 4),
                *_moved(means[4:], seen, length),
            )


def _moved(means: NDArray[np.float64], seen: int, length: float) -> tuple[float, float | None]:
    """Sway and relative height, by the means of ways, of their squares and of their product.

    What stands higher than the others is nearer to the camera: the distance from the camera being 1
    and the height h, it moves through the picture 1 / (1 - h) times as far as they do (parallax).
    What is left of its way is sway.
    """
    ground, own = means[:2], means[2:4]
    of_ground, of_own = means[4] - ground @ ground, means[5] - own @ own
    slope, height = 1.0, None
    if seen >= _FEWEST and of_ground > (_PASSED * length) ** 2:
        slope = float((means[6] - ground @ own) / of_ground)
        height = round(1 - 1 / slope, 4) if slope > 0 else None
    left = of_own - 2 * slope * (means[6] - ground @ own) + slope**2 * of_ground
    return round(float(np.sqrt(max(0.0, left))), _DECIMALS), height
