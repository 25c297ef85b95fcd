"""Single objects in a semantic mask: components, split where objects touch.

The count is an estimate. Objects that merely touch are told apart by the neck
between them; objects that hide each other for the most part are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ObjectCount", "count_objects", "split_objects"]

#: A neck splits two objects where it is narrower than the thinner of them by
#: this share of the usual object's half-width (twice over: on both sides).
_NECK_DEPTH = 0.25
#: Levels tried between mask and centre; more find shallower necks exactly.
_LEVELS_PER_DEPTH = 2

_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class ObjectCount:
    """Objects of one frame.

    Attributes:
        count: Number of objects.
        mean_area: Of an object, pixels; 0 where there is none.
        median_area: As ``mean_area``.
    """

    count: int
    mean_area: float
    median_area: float


def count_objects(mask: NDArray[np.bool_], *, minimum_area: int = 0) -> ObjectCount:
    """Count objects and measure their areas; see :func:`split_objects`."""
    labels = split_objects(mask, minimum_area=minimum_area)
    areas = np.bincount(labels.ravel())[1:]
    if areas.size == 0:
        return ObjectCount(0, 0.0, 0.0)
    return ObjectCount(int(areas.size), float(areas.mean()), float(np.median(areas)))


def split_objects(mask: NDArray[np.bool_], *, minimum_area: int = 0) -> NDArray[np.int32]:
    """Number the objects of a mask, touching ones apart.

    Every component is looked at through the distance of its pixels to the
    background. Two peaks of that distance are two objects if the way between
    them dips by at least a quarter of the usual half-width of an object,
    which is the median over components of their highest distance (a watershed
    of the distance with markers chosen by their dynamics; Grimaud 1992). A
    component is divided between the cores that its objects show where they
    first fall apart, each pixel to the nearest core.

    Args:
        mask: bool (H, W).
        minimum_area: Components of fewer pixels are left out.

    Returns:
        int32 (H, W): 0 background, objects from 1 without gaps.
    """
    kept = _without_specks(mask, minimum_area)
    if not kept.any():
        return np.zeros(mask.shape, np.int32)
    # The frame's edge is background: a cut object is as wide as what is seen.
    bordered = cv2.copyMakeBorder(kept.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(bordered, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    centres, levels = _centres(kept, np.asarray(distance, np.float32))
    cores = _cores(centres, levels)
    return _divide(kept, levels[0], centres, cores)


def _without_specks(mask: NDArray[np.bool_], minimum_area: int) -> NDArray[np.bool_]:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    large = statistics[:, cv2.CC_STAT_AREA] >= max(1, minimum_area)
    large[0] = False
    return np.asarray(large[labels], np.bool_)


def _centres(
    kept: NDArray[np.bool_], distance: NDArray[np.float32]
) -> tuple[NDArray[np.intp], list[NDArray[np.int32]]]:
    """One pixel (row, column) for each object, (N, 2), and the regions at each level.

    Cut off at rising levels of the distance, a component falls apart into
    regions. A local peak is an object if it is, at some level, the highest of
    its region and rises above the level by the depth of a neck. The highest
    peak of a component is an object always.
    """
    peaks = np.argwhere(kept & (distance >= cv2.dilate(distance, _SQUARE)))
    # Highest first; equal ones, on a plateau, stay in reading order.
    peaks = peaks[np.argsort(-distance[tuple(peaks.T)], kind="stable")]
    heights = distance[tuple(peaks.T)]
    levels = [_regions(kept)]
    first = _highest_of_regions(levels[0], peaks)
    chosen = np.zeros(len(peaks), np.bool_)
    chosen[first] = True
    depth = max(1.0, _NECK_DEPTH * float(np.median(heights[first])))
    step = depth / _LEVELS_PER_DEPTH
    for level in np.arange(step, heights[0] - depth, step):
        levels.append(_regions(distance > level))
        leading = _highest_of_regions(levels[-1], peaks)
        chosen[leading[heights[leading] >= level + depth]] = True
    return peaks[chosen], levels


def _regions(where: NDArray[np.bool_]) -> NDArray[np.int32]:
    _, labels = cv2.connectedComponents(where.view(np.uint8), connectivity=8)
    return np.asarray(labels, np.int32)


def _highest_of_regions(regions: NDArray[np.int32], peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of peaks ordered by height, the place of the highest in each region."""
    names, first = np.unique(regions[tuple(peaks.T)], return_index=True)
    return first[names > 0]


def _cores(centres: NDArray[np.intp], levels: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    """The region of each object at the lowest level where it is alone, int32 (H, W)."""
    cores = np.zeros(levels[0].shape, np.int32)
    waiting = np.arange(1, len(centres) + 1)
    for regions in levels:
        # Centres that found their core lower down are no company: their
        # regions lie apart from there on.
        own = regions[tuple(centres[waiting - 1].T)]
        _, place, company = np.unique(own, return_inverse=True, return_counts=True)
        alone = (company[place] == 1) & (own > 0)
        if alone.any():
            numbers = np.zeros(int(regions.max()) + 1, np.int32)
            numbers[own[alone]] = waiting[alone]
            found = numbers[regions]
            np.copyto(cores, found, where=found > 0)
            waiting = waiting[~alone]
        if waiting.size == 0:
            break
    cores[tuple(centres[waiting - 1].T)] = waiting
    return cores


def _divide(
    kept: NDArray[np.bool_],
    components: NDArray[np.int32],
    centres: NDArray[np.intp],
    cores: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Give each object pixel the number of the nearest core of its component."""
    _, nearest = cv2.distanceTransformWithLabels(
        (cores == 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
    # OpenCV numbers the cores anew; the centres tell which is which.
    numbers = np.zeros(int(nearest.max()) + 1, np.int32)
    numbers[nearest[tuple(centres.T)]] = np.arange(1, len(centres) + 1)
    component_of = np.zeros(len(centres) + 1, np.int32)
    component_of[1:] = components[tuple(centres.T)]
    labels = numbers[nearest]
    # As the crow flies a core of another component may be nearer; such pixels
    # join their neighbours instead.
    labels[~kept | (component_of[labels] != components)] = 0
    lost = kept & (labels == 0)
    while lost.any():
        # A float image, as OpenCV does not dilate 32-bit integers; exact below 2**24.
        labels[lost] = cv2.dilate(labels.astype(np.float32), _SQUARE)[lost]
        lost = kept & (labels == 0)
    return labels
