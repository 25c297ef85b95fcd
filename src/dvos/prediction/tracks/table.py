"""The tables of a clip: of its tracks, when, where and how large they were seen; of its regions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import shortened
from dvos.formats.regions import NamedRegion
from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.ground import CORNER, Rings, seen_share
from dvos.prediction.tracks.motion import REST, Motion
from dvos.prediction.tracks.state import LinkedFrame

#: Columns of ``<clip>.tracks.csv``.
TRACK_COLUMNS = (
    *("id", "parent", "first_frame", "last_frame", "first_time_s", "last_time_s", "frames"),
    *("mean_area", "mean_length", "mean_width", "path_length", "confidence"),
    *("sway", "relative_height"),
)
#: Columns of ``<clip>.regions.csv``.
REGION_COLUMNS = (
    *("frame_index", "time_s", "frame", "region", "shown"),
    *("count", "mean_area", "mean_length", "mean_width"),
)
_REGION = REGION_COLUMNS.index("region")
_DECIMALS = 2
#: Frames, and lengths of the object that the ground must have moved by (a standard deviation), from
#: which height is told.
_FEWEST, _PASSED = 5, 1.0
_CUT = 0.5  # of an object's length: nearer to the edge than this it is cut, and may not be found
#: What is kept of each track: first and last frame and time; number of sightings; whether it
#: begins inside the picture, and was last seen whole there; as which of the frames added it
#: begins and ends; where it began in the picture and on the ground of the clip's first frame, and
#: where it was last; its path's length.
_TRACK = np.dtype(
    [
        *(("frames", np.int64, 2), ("times", np.float64, 2), ("seen", np.int64)),
        *(("inside", np.bool_), ("whole", np.bool_), ("order", np.int64, 2)),
        *(("begun", np.float64, 2), ("place", np.float64, 2), ("centre", np.float64, 2)),
        ("path", np.float64),
        # Sums of area, length, width, probability; of the way of the ground (x, y) and of the
        # object, of their squares, and of their product.
        ("sums", np.float64, 4 + 7),
    ]
)


@dataclass(frozen=True)
class TotalRow:
    """Distinct objects of a clip, or of a region of it, in ``totals.csv``."""

    clip: str
    region: str  # empty for the whole clip
    distinct: int
    low: int  # the ends of the interval of 95 %
    high: int
    area_m2: float | None  # ground that was seen; None where a pixel's size or the path is unknown
    per_m2: float | None  # distinct objects on each square metre of it
    frames: int


TOTAL_COLUMNS = tuple(field.name for field in fields(TotalRow))  # the header of ``totals.csv``


class TrackTable:
    """Gathers the rows of all tracks of a clip from its frames, in order."""

    def __init__(self) -> None:
        self._tracks = np.zeros(0, _TRACK)
        self._added, self._last = 0, 0
        self._parents: dict[int, int] = {}

    def add(self, row: Mapping[str, Any], linked: LinkedFrame, pose: Motion) -> None:
        """Add the next frame: its ``time_s`` and links; ``pose`` leads to the first."""
        objects, tracked = linked.objects, np.flatnonzero(linked.ids)
        places, centre = linked.ids[tracked] - 1, objects.centre[tracked]
        missing = int(places.max(initial=-1)) + 1 - len(self._tracks)
        if missing > 0:
            more = np.zeros(max(missing, len(self._tracks) // 2), _TRACK)
            self._tracks = np.concatenate([self._tracks, more])
        time = np.nan if row["time_s"] is None else row["time_s"]
        now = self._tracks[places]
        new = now["seen"] == 0
        now["frames"][new, 0], now["times"][new, 0] = linked.frame, time
        now["frames"][:, 1], now["times"][:, 1] = linked.frame, time
        if self._added:
            born = np.isin(places + 1, [*linked.parents])
            now["inside"][new] = ~(objects.touches_border[tracked] | born)[new]
        now["whole"] = ~objects.touches_border[tracked]
        now["order"][new, 0], now["order"][:, 1] = self._added, self._added
        now["begun"][new], now["place"][new] = centre[new], pose(centre[new])
        now["path"] += np.where(new, 0.0, np.hypot(*(centre - now["centre"]).T))
        now["centre"] = centre
        now["seen"] += 1
        values = (objects.area, objects.length, objects.width, objects.probability)
        sizes = np.stack(values, axis=1)[tracked].astype(np.float64)
        # How far its first place on the ground has moved through the picture, and it itself.
        ground, own = pose.inverse(now["place"]) - now["begun"], centre - now["begun"]
        products = ((a * b).sum(axis=1) for a, b in ((ground, ground), (own, own), (ground, own)))
        now["sums"] += np.column_stack([sizes, ground, own, *products])
        self._tracks[places] = now
        self._added, self._last = self._added + 1, linked.frame
        self._parents |= linked.parents

    @property
    def count(self) -> int:
        """Number of tracks."""
        return int(np.count_nonzero(self._tracks["seen"]))

    @property
    def entered(self) -> NDArray[np.bool_]:
        """Of each track, by place, whether it enters from the edge after the first frame."""
        seen, order, inside = (self._tracks[name] for name in ("seen", "order", "inside"))
        entered = (seen > 0) & (order[:, 0] > 0) & ~inside
        entered[np.array([*self._parents], np.intp) - 1] = False  # born inside, by a division
        return np.asarray(entered, np.bool_)

    def loose(self, ids: NDArray[np.int64] | None = None) -> float:
        """How many tracks may be parts of one: those that begin inside and those that end there.

        It is the geometric mean of both numbers: of tracks that begin inside the picture after the
        first frame, and of those that end inside it before the last, by no division either.
        """
        places = np.arange(len(self._tracks)) if ids is None else ids - 1
        tracks = self._tracks[places]
        ended = tracks["whole"] & (tracks["frames"][:, 1] < self._last)
        ended &= ~np.isin(places + 1, [*self._parents.values()])
        return float(np.sqrt(np.count_nonzero(tracks["inside"]) * np.count_nonzero(ended)))

    def came_back(
        self, poses: Sequence[Motion], size: tuple[int, int], sightings: int
    ) -> NDArray[np.int64]:
        """Ids of the tracks that enter from the edge on ground that was seen, and left, before.

        It was seen if it was in as many frames as a track takes, ``sightings``, in one of them
        whole. ``poses`` lead from each frame to the first, whose ``size`` is (height, width).
        """
        # In the order of their beginning, those that are still to begin are the last ones.
        by_order = np.argsort(self._tracks["order"][:, 0], kind="stable")
        begins, begun = self._tracks["order"][by_order, 0], self._tracks["begun"][by_order]
        lengths = self._tracks["sums"][by_order, 1] / np.maximum(self._tracks["seen"][by_order], 1)
        cut = _CUT * lengths[:, None]
        placed = (poses[k](at) for k, at in zip(begins.tolist(), begun, strict=True))
        places = np.array([*placed]).reshape(-1, 2)
        seen, (whole, left) = np.zeros(len(places), np.int64), np.zeros((2, len(places)), np.bool_)
        for number, pose in enumerate(poses):
            later = slice(int(np.searchsorted(begins, number, "right")), None)
            at = pose.inverse(places[later])
            within = ((at >= 0) & (at < size[::-1])).all(axis=1)
            left[later] |= (seen[later] >= sightings) & whole[later] & ~within
            seen[later] += within
            whole[later] |= ((at >= cut[later]) & (at < size[::-1] - cut[later])).all(axis=1)
        return np.sort(by_order[left & self.entered[by_order]]) + 1

    def rows(self) -> Iterator[Sequence[object]]:
        """A row for each track, in order of ids, as :data:`TRACK_COLUMNS` has it."""
        for place in np.flatnonzero(self._tracks["seen"]).tolist():
            track = self._tracks[place]
            (first, last), seen = track["frames"].tolist(), int(track["seen"])
            means = track["sums"] / seen
            area, length, width, sure = means[:4].tolist()
            yield (
                *(place + 1, self._parents.get(place + 1, 0), first, last),
                *(None if np.isnan(time) else round(float(time), 6) for time in track["times"]),
                seen,
                *(round(value, _DECIMALS) for value in (area, length, width)),
                round(float(track["path"]), _DECIMALS),
                # How sure its objects are, and how many of the frames predicted it was found in.
                round(sure * seen / (1 + int(np.diff(track["order"])[0])), 4),
                *_moved(means[4:], seen, length),
            )


def _moved(means: NDArray[np.float64], seen: int, length: float) -> tuple[float, float | None]:
    """Sway and relative height, by the means of ways, of their squares and of their product.

    What stands higher is nearer to the camera: its distance being 1 and the height h, it moves
    through the picture 1 / (1 - h) times as far as others (parallax). What is left is sway.
    """
    ground, own = means[:2], means[2:4]
    of_ground, of_own = means[4] - ground @ ground, means[5] - own @ own
    shared = means[6] - ground @ own
    slope, height = 1.0, None
    if seen >= _FEWEST and of_ground > (_PASSED * length) ** 2:
        slope = float(shared / of_ground)
        height = round(1 - 1 / slope, 4) if slope > 0 else None
    left = of_own - 2 * slope * shared + slope**2 * of_ground
    return round(float(np.sqrt(max(0.0, left))), _DECIMALS), height


class RegionTally:
    """Gathers what lies in each region from the frames of a clip, in order.

    An object lies where its centre does; what regions share is the first one's. A track lies in the
    region of the ground that it was seen in most often, if it is not outside yet more often; of
    regions of the picture, which other objects pass through, in each that it was seen in. Regions
    of the ground, in pixels of the first frame, move through the picture with it.
    """

    def __init__(self, regions: Sequence[NamedRegion], *, on_ground: bool) -> None:
        self.regions, self.on_ground = regions, on_ground
        #: As :data:`REGION_COLUMNS` has it, for each frame and each region that it shows.
        self.rows: list[Sequence[object]] = []
        self._earlier = [*_overlapped(regions)]
        self._seen: Counter[tuple[int, int]] = Counter()
        self._shown: set[str] = set()

    def add(
        self, row: Mapping[str, Any], objects: FrameObjects, ids: NDArray[np.int64], pose: Motion
    ) -> list[str]:
        """Add the next frame, with its objects' tracks; the region of each, empty outside all."""
        height, width = objects.labels.shape
        pose = pose if self.on_ground else REST
        places = pose(objects.centre) + CORNER
        number = np.zeros(objects.count, np.int64)
        for place, region in enumerate(self.regions, 1):
            number[(number == 0) & region.contains(places)] = place
        self._seen.update(zip(ids[ids > 0].tolist(), number[ids > 0].tolist(), strict=True))
        for place, region in enumerate(self.regions, 1):
            share = seen_share(region.rings, pose, (height, width), self._earlier[place - 1])
            if share or seen_share(region.rings, pose, (height, width)):
                self._shown.add(region.name)
            if share:
                inside = number == place
                sizes = (objects.area[inside], objects.length[inside], objects.width[inside])
                means = [round(float(one.mean()), 2) if one.size else None for one in sizes]
                told = (row["frame_index"], row["time_s"], row["frame"], region.name)
                self.rows.append((*told, round(share, 4), len(sizes[0]), *means))
        names = ["", *(region.name for region in self.regions)]
        return [names[one] for one in number.tolist()]

    def empty(self) -> Iterator[str]:
        """What is to be said of regions without a row: covered by earlier ones, or not seen."""
        own = {row[_REGION] for row in self.rows}
        names = [region.name for region in self.regions if region.name not in own]
        if covered := [name for name in names if name in self._shown]:
            yield (
                f"of what frames show of {shortened(covered)} all lies in regions before, which "
                "take what they share: nothing is counted there; put smaller ones first"
            )
        if unseen := [name for name in names if name not in self._shown]:
            yield (
                f"no frame shows {shortened(unseen)}, of {len(self.regions)} regions; their "
                "corners are pixels of the first frame, x and y from its upper left corner, not "
                "degrees or metres"
            )

    def areas(self) -> Iterator[tuple[NamedRegion, Sequence[Rings]]]:
        """Each region, with the areas of earlier ones that may take a part of it."""
        return zip(self.regions, self._earlier, strict=True)

    def tracks(self) -> list[NDArray[np.int64]]:
        """The ids of the tracks of each region."""
        chosen = [*self._seen]
        if self.on_ground:
            # The region seen most often stands last; of equals the first one, before outside.
            often = sorted(chosen, key=lambda one: (self._seen[one], one[1] > 0, -one[1]))
            chosen = [*dict(often).items()]
        found: list[list[int]] = [[] for _ in range(len(self.regions) + 1)]
        for track, number in chosen:
            found[number].append(track)
        return [np.array(sorted(ids), np.int64) for ids in found[1:]]


def _overlapped(regions: Sequence[NamedRegion]) -> Iterator[list[Rings]]:
    """Of each region the areas of those before it that may share some of it: by their boxes."""
    corners = [np.concatenate(region.rings) for region in regions]
    low = np.array([one.min(axis=0) for one in corners]).reshape(-1, 2)
    high = np.array([one.max(axis=0) for one in corners]).reshape(-1, 2)
    for place in range(len(regions)):
        meets = ((low[:place] < high[place]) & (high[:place] > low[place])).all(axis=1)
        yield [regions[earlier].rings for earlier in np.flatnonzero(meets).tolist()]
