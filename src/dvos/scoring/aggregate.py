"""Figures over many masks: means, pooled figures, their bootstrap intervals, DAVIS' summary.

Every figure is a function of sums over masks. Summed over a clip, a domain or
a bootstrap draw, the same function gives the figure of that.

The summary of the DAVIS benchmark tells a clip's figures by mean, recall and
decay: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video
Object Segmentation", CVPR 2016, section 4, where region similarity J is the IoU
and contour accuracy F the boundary F.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Sums = NDArray[np.float64]

#: Names of the figures, in the order they are told.
FIGURES = (
    "mean_dice",
    "mean_iou",
    "pooled_dice",
    "pooled_iou",
    "precision",
    "recall",
    "region_j",
    "boundary_f",
    "j_and_f",
    "temporal_stability",
    "relative_stability",
    "instance_f1",
    "count_mae",
)


class Tally(NamedTuple):
    """What one mask adds to the sums.

    Attributes:
        intersection: Pixels of object in prediction and truth.
        predicted: In the prediction.
        truth: In the truth.
        dice: Published Dice.
        iou: Published IoU.
        region_j: IoU without smoothing.
        boundary_f: Boundary F.
        followed: IoU of the prediction with the one before it, moved along.
        follows: 1 where that was measured, else 0.
        kept: IoU of the prediction with the one scored before it, not moved.
        kept_truth: The same of the truth.
        hits: Predicted objects that are a true one.
        objects: Predicted and true objects.
        count_error: Absolute error of the count.
        counted: 1 where the count was compared, else 0.
        masks: 1.
    """

    intersection: float
    predicted: float
    truth: float
    dice: float
    iou: float
    region_j: float
    boundary_f: float
    followed: float = 0.0
    follows: float = 0.0
    kept: float = 0.0
    kept_truth: float = 0.0
    hits: float = 0.0
    objects: float = 0.0
    count_error: float = 0.0
    counted: float = 0.0
    masks: float = 1.0


_PLACES = {name: place for place, name in enumerate(Tally._fields)}


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval of a figure.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Confidence level, as 0.95.
        unit: What was drawn again, ``clip`` or ``image``; ``domain`` for a mean over domains.
        units: How many of them there were.
    """

    low: float
    high: float
    level: float
    unit: str
    units: int


@dataclass(frozen=True)
class Resampled:
    """Figures of bootstrap draws.

    Attributes:
        samples: float64 (draws,) by figure, NaN where a draw has none.
        unit: What was drawn, as in :class:`Interval`.
        units: How many of them there were.
    """

    samples: Mapping[str, NDArray[np.float64]]
    unit: str
    units: int

    def interval(self, name: str, level: float) -> Interval | None:
        """Percentile interval of a figure; None where no draw has the figure."""
        defined = self.samples[name][~np.isnan(self.samples[name])]
        if defined.size == 0:
            return None
        tail = (1.0 - level) / 2.0
        low, high = np.quantile(defined, [tail, 1.0 - tail])
        return Interval(float(low), float(high), level, self.unit, self.units)


def by_group(groups: Sequence[str], items: Sequence[T]) -> dict[str, list[T]]:
    """Sort items by their group (a clip, a domain), groups in order of first appearance."""
    members: dict[str, list[T]] = {}
    for group, one in zip(groups, items, strict=True):
        members.setdefault(group, []).append(one)
    return members


def total(tallies: Iterable[Tally]) -> Sums:
    """Add tallies up, float64 (number of sums,); whole numbers stay exact below 2**53."""
    table = np.array(list(tallies), np.float64).reshape(-1, len(_PLACES))
    return np.asarray(table.sum(axis=0), np.float64)


def figures(sums: Sums) -> dict[str, NDArray[np.float64]]:
    """The figures ``FIGURES`` of sums.

    Args:
        sums: float64 (..., number of sums).

    Returns:
        float64 (...) by name; NaN where a figure is not defined, as the
        stability of masks that have none before them.
    """

    def sum_of(name: str) -> NDArray[np.float64]:
        return np.asarray(sums[..., _PLACES[name]], np.float64)

    masks, shared = sum_of("masks"), sum_of("intersection")
    predicted, truth = sum_of("predicted"), sum_of("truth")
    region_j, boundary_f = sum_of("region_j") / masks, sum_of("boundary_f") / masks
    kept = _ratio(sum_of("kept"), sum_of("kept_truth"), math.nan)
    return {
        "mean_dice": sum_of("dice") / masks,
        "mean_iou": sum_of("iou") / masks,
        "pooled_dice": _ratio(2 * shared, predicted + truth, 1.0),
        "pooled_iou": _ratio(shared, predicted + truth - shared, 1.0),
        "precision": _ratio(shared, predicted, truth == 0),
        "recall": _ratio(shared, truth, predicted == 0),
        "region_j": region_j,
        "boundary_f": boundary_f,
        "j_and_f": (region_j + boundary_f) / 2,
        "temporal_stability": _ratio(sum_of("followed"), sum_of("follows"), math.nan),
        "relative_stability": np.minimum(1.0, kept),
        "instance_f1": _ratio(2 * sum_of("hits"), sum_of("objects"), math.nan),
        "count_mae": _ratio(sum_of("count_error"), sum_of("counted"), math.nan),
    }


def resampled(
    groups: Sequence[str],
    tallies: Sequence[Tally],
    *,
    rng: np.random.Generator,
    draws: int = 2000,
) -> Resampled | None:
    """Figures of bootstrap draws (Efron 1979).

    Frames of one clip resemble each other, so whole clips are drawn; of a single
    clip its images, and an interval then says how these vary, not how clips do.

    Args:
        groups: The clip of each mask.
        tallies: Of each mask.
        rng: Source of the draws.
        draws: Number of them.

    Returns:
        The figures; None for a single mask.
    """
    clips = [total(members) for members in by_group(groups, tallies).values()]
    unit, units = (
        ("clip", clips) if len(clips) > 1 else ("image", [total([one]) for one in tallies])
    )
    if len(units) < 2:
        return None
    table = np.stack(units)
    sums = np.empty((draws, table.shape[1]), np.float64)
    # One draw at a time keeps memory at the number of units, not units x draws.
    for index in range(draws):
        drawn = np.bincount(rng.integers(0, len(table), len(table)), minlength=len(table))
        sums[index] = drawn @ table
    return Resampled(figures(sums), unit, len(units))


@dataclass(frozen=True)
class Statistics:
    """Of the values of one clip's frames, in order.

    Attributes:
        mean: Their mean.
        recall: Share of them above 0.5.
        decay: Mean of the first quarter minus mean of the last: how much is
            lost over time. None for fewer than 4 frames.
    """

    mean: float
    recall: float
    decay: float | None


def statistics(values: Sequence[float]) -> Statistics:
    """Of a clip, by the quarters of the benchmark's code: neighbours share a frame."""
    count = len(values)
    decay = None
    if count >= 4:
        edges = np.rint(np.linspace(1, count, 5) + 1e-10).astype(int) - 1
        first, last = values[: edges[1] + 1], values[edges[-2] :]
        decay = fmean(first) - fmean(last)
    return Statistics(fmean(values), fmean(value > 0.5 for value in values), decay)


def over_clips(
    region: Mapping[str, Sequence[float]], boundary: Mapping[str, Sequence[float]]
) -> dict[str, float | None]:
    """The benchmark's table: statistics of each clip, averaged over clips.

    Region J and boundary F of each frame, by clip and in order, give ``j_mean``,
    ``j_recall``, ``j_decay``, the same of F, and ``jf_mean``; decay is None where
    no clip has 4 frames.
    """
    result: dict[str, float | None] = {}
    for letter, by_clip in (("j", region), ("f", boundary)):
        clips = [statistics(values) for values in by_clip.values()]
        decays = [one.decay for one in clips if one.decay is not None]
        result[f"{letter}_mean"] = fmean(one.mean for one in clips)
        result[f"{letter}_recall"] = fmean(one.recall for one in clips)
        result[f"{letter}_decay"] = fmean(decays) if decays else None
    j, f = result["j_mean"], result["f_mean"]
    result["jf_mean"] = None if j is None or f is None else (j + f) / 2
    return result


def _ratio(
    numerator: NDArray[np.float64],
    denominator: NDArray[np.float64],
    undefined: float | NDArray[np.bool_],
) -> NDArray[np.float64]:
    full = denominator > 0
    return np.where(full, numerator / np.where(full, denominator, 1.0), undefined)
