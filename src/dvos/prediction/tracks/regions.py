"""Which region the objects and the tracks of a clip lie in, frame by frame and over all frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.formats.regions import NamedRegion
from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.ground import CORNER, seen_share
from dvos.prediction.tracks.motion import REST, Motion

#: Columns of ``<clip>.regions.csv``.
REGION_COLUMNS = (
    *("frame_index", "time_s", "frame", "region", "shown"),
    *("count", "mean_area", "mean_length", "mean_width"),
)


class RegionTally:
    """Gathers what lies in each region from the frames of a clip, in order.

    An object lies where its centre does; of regions that overlap, in the first. A track lies in the
    region of the ground that it was seen in most often, if it is not outside yet more often; of
    regions of the picture, which other objects pass through, in each that it was seen in.

    Args:
        regions: In pixels of the first frame.
        on_ground: Whether they lie on the ground, so that they move through the picture with it;
            else they stay where they are in the picture.

    Attributes:
        rows: As :data:`REGION_COLUMNS` has it, for each frame and each region that it shows.
    """

    def __init__(self, regions: Sequence[NamedRegion], *, on_ground: bool) -> None:
        self.regions, self.on_ground = regions, on_ground
        self.rows: list[Sequence[object]] = []
        self._seen: Counter[tuple[int, int]] = Counter()

    def add(
        self, row: Mapping[str, Any], objects: FrameObjects, ids: NDArray[np.int64], pose: Motion
    ) -> list[str]:
        """Add the next frame; gives the region of each of its objects, empty outside all.

        Args:
            row: With ``frame_index``, ``time_s`` and ``frame``.
            objects: Of the frame.
            ids: int64 (N,): their tracks; 0 for none.
            pose: Leads from it to the ground of the first.
        """
        height, width = objects.labels.shape
        pose = pose if self.on_ground else REST
        places = pose(objects.centre) + CORNER
        number = np.zeros(objects.count, np.int64)
        for place, region in enumerate(self.regions, 1):
            number[(number == 0) & region.contains(places)] = place
        self._seen.update(zip(ids[ids > 0].tolist(), number[ids > 0].tolist(), strict=True))
        for place, region in enumerate(self.regions, 1):
            share = seen_share(region.rings, pose, (height, width))
            if share:
                inside = number == place
                sizes = (objects.area[inside], objects.length[inside], objects.width[inside])
                means = [round(float(one.mean()), 2) if one.size else None for one in sizes]
                told = (row["frame_index"], row["time_s"], row["frame"], region.name)
                self.rows.append((*told, round(share, 4), len(sizes[0]), *means))
        names = ["", *(region.name for region in self.regions)]
        return [names[one] for one in number.tolist()]

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
