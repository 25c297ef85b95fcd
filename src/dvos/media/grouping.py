"""Grouping the pixels of a mask into objects by where each says that its object's centre is.

Every position votes for the place that its offset points to (a Hough vote, as of Leibe et al. 2004
and Panoptic-DeepLab, arXiv 1911.10194), or on from there (as Cellpose, bioRxiv 2020.02.02.931238).
Centres are where votes heap up; a position belongs to the one nearest to what it voted for.
"""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.mask import cut_by_edge

Singles = NDArray[np.float32]
Numbers = NDArray[np.int32]
#: Of each object pixels, x, y, x * x, y * y, x * y and probability, (7, N), summed up, and its
#: highest probability, (N,).
Sums = tuple[NDArray[np.float64], Singles]

#: Pixels that a network sees, along a side, of each position of its output.
_STRIDE = 2
#: Side of a square of a round object's area, in the mean distance of its pixels from its centre.
_SIDE = 2.66
#: Of an object's side: deviation of the blur that makes a heap of votes one.
_BLUR = 0.15
_SMALLEST_BLUR = 0.5
#: Deviation, in positions, that votes shared by the four places around their target would have
#: besides (variance 1/6): it is added to the blur, as each goes whole to the nearest one.
_SHARED = 0.4
#: Of the usual area of an object; what is below is a scrap.
_SCRAP = 0.1
#: Of the mask's threshold: probability from which on pixels may belong to an object seen weakly.
_WEAK = 0.6
#: Of the mean probability of an object in the mask: from which on pixels belong to it.
_OWN = 0.5
#: Of the fewest pixels of an object: those that the mask has of it.
_CORE = 0.5
#: A place and those around it.
_NEIGHBOURS = np.ones((3, 3), np.uint8)
#: Votes of an object lie about its centre with up to so many deviations of the blur.
_SCATTER = 2.0


@dataclass(frozen=True, eq=False)
class ObjectMaps:
    """What a network says of the objects of a frame, at positions spread evenly over it."""

    offset: Singles  # (2, h, w), (x, y) in positions to the centre of the position's object
    motion: Singles | None  # From it to where it was before, as ``offset``; None if not told

    @classmethod
    def of(cls, told: Singles) -> Self:
        """Of the output ``objects`` of a network for one frame, float32 (3 or 5, h, w).

        That is offset (x, y), logit of a centre, motion (x, y) if told, in pixels, two a position.
        """
        motion = told[3:5] / np.float32(_STRIDE) if len(told) > 3 else None
        return cls(told[:2] / np.float32(_STRIDE), motion)


@dataclass(frozen=True, eq=False)
class GroupedMask:
    """A mask taken apart."""

    labels: Numbers  # (H, W), 0 background, objects from 1 without gaps
    count: int
    motion: Singles | None  # (N, 2), (x, y) from each centre to that before, pixels, if told
    sums: Sums | None = None  # of the objects, where probabilities were looked at


def group_mask(
    mask: NDArray[np.bool_],
    maps: ObjectMaps,
    *,
    minimum_area: int = 0,
    area: float | None = None,
) -> GroupedMask:
    """Number the objects of a mask, bool (H, W), touching ones apart, by the maps of its frame.

    Left out are objects of fewer pixels than ``minimum_area``, and, where the frame's edge does not
    cut them, of less than a tenth of the ``area`` given, or of what pixels point to if less.
    """
    # Its compiler takes seconds to load: only those who group pay.
    from dvos.media import votes

    height, width = maps.offset.shape[1:]
    # Pixels of a position: with maps of half the frame's size two rows and columns.
    down, across = mask.shape[0] / height, mask.shape[1] / width
    rows, columns = (
        np.minimum(np.arange(pixels) * (places / pixels), places - 1).astype(np.int32)
        for pixels, places in zip(mask.shape, (height, width), strict=True)
    )
    if mask.shape == (2 * height, 2 * width):
        # Of four times the mask the mean of four is their number, in a tenth of the time.
        size = (width, height)
        fourfold = mask.view(np.uint8) * np.uint8(4)
        weight = cv2.resize(fourfold, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    else:
        down_at, across_at = np.nonzero(mask)
        places = rows[down_at] * width + columns[across_at]
        counts = np.bincount(places, minlength=height * width)
        weight = counts.reshape(height, width).astype(np.float32)
    offsets = (np.ascontiguousarray(each, np.float32) for each in maps.offset)
    voters, targets, heaps, away = votes.cast(weight, *votes.aim(weight, *offsets))
    side = _SIDE * float(away.sum()) / max(float(weight.sum()), 1.0)
    sigma = float(np.hypot(max(_SMALLEST_BLUR, _BLUR * side), _SHARED))
    for each in (heaps, away):
        cv2.GaussianBlur(each, (0, 0), sigma, each, borderType=cv2.BORDER_CONSTANT)
    shown = side * side * down * across
    least = max(minimum_area, 1, _SCRAP * (shown if area is None else min(area, shown)))
    lowest = least / (2 * np.pi * (1 + _SCATTER**2) * sigma**2)
    peaks = np.flatnonzero((heaps == cv2.dilate(heaps, _NEIGHBOURS)) & (heaps >= lowest))
    centres, limits = votes.find_centres(heaps, _SIDE * away, peaks)
    nearest = votes.surround(centres, limits, height, width)
    moved = np.zeros((0, height, width), np.float32) if maps.motion is None else maps.motion
    owners, areas, motion = votes.assign(weight, voters, targets, nearest, moved, len(centres))
    # Of what the frame's edge cuts any part may be seen.
    kept = (areas >= least) | (cut_by_edge(owners, len(centres))[1:] & (areas >= minimum_area))
    numbers = np.zeros(len(centres) + 1, np.int32)
    numbers[1:] = np.where(kept, np.cumsum(kept), 0)
    labels = votes.spread(mask, owners, numbers, rows, columns)
    told = None if maps.motion is None else motion[kept] * np.array([across, down], np.float32)
    return GroupedMask(labels, int(numbers.max()), told)


def group_objects(
    probability: Singles,
    maps: ObjectMaps,
    *,
    threshold: float = 0.5,
    minimum_area: int = 0,
    area: float | None = None,
) -> GroupedMask:
    """Number the objects of a frame by its probabilities, float32 (H, W), and maps.

    Of an object that is small, blurred or half hidden the mask, from ``threshold`` on, holds a part
    alone. It reaches on (hysteresis, Canny 1986, doi:10.1109/TPAMI.1986.4767851) to where the
    probability is half of its mean there, at least 0.6 of the threshold and at most the threshold.
    What is left out is told by :func:`group_mask`; so is what the mask has less of than half of
    ``minimum_area``.
    """
    from dvos.media import votes

    weak = _WEAK * threshold
    grouped = group_mask(
        probability >= np.float32(weak), maps, minimum_area=minimum_area, area=area
    )
    labels, motion = grouped.labels, grouped.motion
    runs, cores, sure = votes.find_runs(labels, probability, threshold, grouped.count)
    limits = np.clip(_OWN * sure / np.maximum(cores, 1), weak, threshold).astype(np.float32)
    sums, highest = votes.sum_up(labels, runs, probability, limits)
    kept = (sums[0] >= minimum_area) & (cores >= max(1.0, _CORE * minimum_area))
    if not kept.all():
        numbers = np.zeros(len(kept) + 1, np.int32)
        numbers[1:] = np.where(kept, np.cumsum(kept), 0)
        votes.renumber(labels, runs, numbers)
    motion = None if motion is None else motion[kept]
    return GroupedMask(labels, int(np.count_nonzero(kept)), motion, (sums[:, kept], highest[kept]))


def sum_objects(labels: Numbers, probability: Singles, count: int) -> Sums:
    """Sums over each of N objects of a frame, whose labels, from 1, are contiguous."""
    from dvos.media import votes

    runs, _, _ = votes.find_runs(labels, probability, 0.0, count)
    return votes.sum_up(labels, runs, probability, np.zeros(count, np.float32))
