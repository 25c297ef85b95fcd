"""Whether a network's objects are told apart better by their centres or by their shapes.

What the network says of centres takes long to learn, so that the shapes in its masks may tell more.
On validation clips whose objects are known both are compared by their panoptic quality (Kirillov et
al., CVPR 2019, arXiv 1801.00868).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.media.grouping import ObjectMaps, group_mask
from dvos.media.splitting import split_mask
from dvos.scoring.instances import match_objects
from dvos.training.object_truth import OBJECT_STRIDE, TruthChannels, object_count
from dvos.training.objective import SegmentedClip

#: Smaller objects, in pixels, are scraps that others leave free.
_SCRAP = 30

CENTRES, SHAPES = "centres", "shapes"


@dataclass
class ObjectComparison:
    """Counts and quality of the objects of validation clips, told apart in each way."""

    width: float  # Usual width of an object, pixels.
    #: Usual area likewise. What is small beside it is left out of the network's masks, as when
    #: counting; the truth is taken whole.
    area: float
    #: Found and true number of objects of each frame that counts, by way.
    counts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _found: dict[str, float] = field(default_factory=dict)
    _objects: dict[str, float] = field(default_factory=dict)

    def add(self, clip: SegmentedClip, truth: NDArray[np.float32] | None, *, counts: bool) -> None:
        """Take a clip into account; ``truth`` is its ``object_truth``, ``counts`` if it counts."""
        known = clip.weight[0].numpy() > 0
        found, true = ((m[0].numpy() >= 0.5) & known for m in (clip.probability, clip.target))
        labels = {
            SHAPES: split_mask(found, minimum_area=_SCRAP, width=self.width, area=self.area).labels
        }
        if clip.maps is not None:
            grouped = group_mask(found, clip.maps, minimum_area=_SCRAP, area=self.area)
            labels[CENTRES] = grouped.labels
        number = None if truth is None else object_count(truth)
        if truth is not None and number:
            self._compare(labels, _true_labels(true, truth))
        if counts:
            if number is None:
                number = split_mask(true, minimum_area=_SCRAP, width=self.width).count
            for way, of_way in labels.items():
                self.counts.setdefault(way, []).append((int(of_way.max(initial=0)), number))

    def better_counts(self) -> list[tuple[int, int]]:
        """Those of the way by which the network's objects are told apart."""
        return self.counts.get(better_way(self.quality()), [])

    def quality(self) -> dict[str, float]:
        """Panoptic quality by way, 0..1; empty where no clip told."""
        return {way: found / self._objects[way] for way, found in self._found.items()}

    def _compare(self, labels: Mapping[str, NDArray[np.int32]], true: NDArray[np.int32]) -> None:
        for way, of_way in labels.items():
            matched = match_objects(of_way.astype(np.uint16), true.astype(np.uint16))
            objects = (matched.true + matched.predicted) / 2
            self._found[way] = self._found.get(way, 0.0) + float(matched.overlaps.sum())
            self._objects[way] = self._objects.get(way, 0.0) + objects


def better_way(quality: Mapping[str, Any]) -> str:
    """By which way a network's objects are told apart: by centres only where that was better."""
    of_ways = [quality.get(way, 0.0) for way in (CENTRES, SHAPES)]
    known = all(isinstance(each, (int, float)) for each in of_ways)
    return CENTRES if known and of_ways[0] > of_ways[1] else SHAPES


def _true_labels(mask: NDArray[np.bool_], truth: NDArray[np.float32]) -> NDArray[np.int32]:
    """Objects of a true mask (H, W), numbered, those that are not told apart left out."""
    told = truth[TruthChannels.WEIGHT] > 0
    for axis in range(2):
        told = np.repeat(told, OBJECT_STRIDE, axis)
    offset = truth[TruthChannels.OFFSET_X : TruthChannels.OFFSET_Y + 1] / np.float32(OBJECT_STRIDE)
    maps = ObjectMaps(offset, np.zeros_like(offset[0]), np.zeros_like(offset))
    return group_mask(mask & told[: mask.shape[0], : mask.shape[1]], maps, area=0.0).labels
