"""Figures over many masks: means, pooled figures, their bootstrap intervals, DAVIS' summary.

Every figure is a function of sums over masks: summed over a clip, a domain or a bootstrap draw, the
same function gives the figure of that. DAVIS tells a clip's figures by mean, recall and decay:
Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016, section 4, where region similarity J is the IoU and contour accuracy F the boundary F.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")
Sums = NDArray[np.float64]


class Tally(NamedTuple):
    """What one mask adds to the sums."""

    intersection: float  # pixels of object in prediction and truth
    predicted: float  # in the prediction
    truth: float  # in the truth
    dice: float  # published Dice: smooth 1
    iou: float  # published IoU: smooth 1
    region_j: float  # IoU without smoothing
    boundary_f: float
    followed: float = 0.0  # IoU of the prediction with the one before it, moved along
    follows: float = 0.0  # 1 where that was measured
    kept: float = 0.0  # IoU of the prediction with the one scored before it, not moved
    kept_truth: float = 0.0  # the same of the truth
    hits: float = 0.0  # predicted objects that are a true one
    objects: float = 0.0  # predicted and true objects
    count_error: float = 0.0  # absolute error of the count
    counted: float = 0.0  # 1 where the count was compared
    masks: float = 1.0


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval of a figure, at a confidence level such as 0.95."""

    low: float
    high: float
    level: float
    unit: str  # what was drawn again: clip, image, or domain for a mean over domains
    units: int  # how many of them there were


class Resampled(NamedTuple):
    """Figures of bootstrap draws, float64 (draws,), NaN where a draw has none."""

    samples: Mapping[str, Sums]
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
    table = np.array(list(tallies), np.float64).reshape(-1, len(Tally._fields))
    return np.asarray(table.sum(axis=0), np.float64)


def figures(sums: Sums) -> dict[str, Sums]:
    """The figures ``FIGURES`` of sums (..., number of sums), float64 (...) by name.

    NaN where one is not defined, as the stability of masks that have none before them.
    """
    of = Tally(*np.moveaxis(sums, -1, 0))
    predicted, truth = np.asarray(of.predicted), np.asarray(of.truth)
    region_j, boundary_f = of.region_j / of.masks, of.boundary_f / of.masks
    found = {
        "mean_dice": of.dice / of.masks,
        "mean_iou": of.iou / of.masks,
        "pooled_dice": _ratio(2 * of.intersection, predicted + truth, 1.0),
        "pooled_iou": _ratio(of.intersection, predicted + truth - of.intersection, 1.0),
        # Where nothing was predicted, or there is nothing to find: whether the other is so, too.
        "precision": _ratio(of.intersection, predicted, truth == 0),
        "recall": _ratio(of.intersection, truth, predicted == 0),
        "region_j": region_j,
        "boundary_f": boundary_f,
        "j_and_f": (region_j + boundary_f) / 2,
        "temporal_stability": _ratio(of.followed, of.follows),
        "relative_stability": np.minimum(1.0, _ratio(of.kept, of.kept_truth)),
        "instance_f1": _ratio(2 * of.hits, of.objects),
        "count_mae": _ratio(of.count_error, of.counted),
    }
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _ratio(part: ArrayLike, whole: ArrayLike, undefined: ArrayLike = math.nan) -> Sums:
    full = np.asarray(whole) > 0
    return np.where(full, part / np.where(full, whole, 1.0), undefined)


#: Names of the figures, in the order they are told.
FIGURES = tuple(figures(np.ones(len(Tally._fields))))


def resampled(
    groups: Sequence[str], tallies: Sequence[Tally], *, rng: np.random.Generator, draws: int = 2000
) -> Resampled | None:
    """Figures of bootstrap draws (Efron 1979); None for a single mask.

    Frames of one clip resemble each other, so whole clips, the ``groups`` of the masks, are drawn;
    of a single clip its images, and an interval then says how these vary, not how clips do.
    """
    clips = [total(members) for members in by_group(groups, tallies).values()]
    unit, table = ("clip", np.stack(clips)) if len(clips) > 1 else ("image", np.array(tallies))
    if len(table) < 2:
        return None
    count = len(table)
    # One draw at a time keeps memory at the number of units, not units x draws.
    drawn = (np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(draws))
    return Resampled(figures(np.array([each @ table for each in drawn])), unit, count)


def over_clips(
    region: Mapping[str, Sequence[float]], boundary: Mapping[str, Sequence[float]]
) -> dict[str, float | None]:
    """The benchmark's table: statistics of each clip, averaged over clips.

    Region J and boundary F of each frame, by clip and in order, give ``j_mean``, ``j_recall`` (the
    share above 0.5), ``j_decay`` (mean of the first quarter minus mean of the last; None where no
    clip has 4 frames), the same of F, and ``jf_mean``.
    """
    result: dict[str, float | None] = {}
    for letter, by_clip in (("j", region), ("f", boundary)):
        clips = by_clip.values()
        result[f"{letter}_mean"] = fmean(map(fmean, clips))
        result[f"{letter}_recall"] = fmean(fmean(one > 0.5 for one in values) for values in clips)
        decays = [_decay(values) for values in clips if len(values) >= 4]
        result[f"{letter}_decay"] = fmean(decays) if decays else None
    result["jf_mean"] = ((result["j_mean"] or 0.0) + (result["f_mean"] or 0.0)) / 2
    return result


def _decay(values: Sequence[float]) -> float:
    """By the quarters of the benchmark's code, of which neighbours share a frame."""
    edges = np.rint(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    return fmean(values[: edges[1] + 1]) - fmean(values[edges[-2] :])
