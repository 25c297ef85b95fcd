"""Figures over many masks: means, pooled figures and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.scoring.overlap import PixelCounts, dice, iou, total

__all__ = ["Interval", "by_group", "group_figures", "pooled_dice_interval"]


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval of a figure.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Confidence level, as 0.95.
        unit: What was drawn again, ``clip`` or ``image``.
        units: How many of them there were.
    """

    low: float
    high: float
    level: float
    unit: str
    units: int


def by_group(groups: Sequence[str], counts: Sequence[PixelCounts]) -> dict[str, list[PixelCounts]]:
    """Sort counts by their group (a clip, a domain), groups in order of first appearance."""
    members: dict[str, list[PixelCounts]] = {}
    for group, one in zip(groups, counts, strict=True):
        members.setdefault(group, []).append(one)
    return members


def pooled_dice_interval(
    groups: Sequence[str],
    counts: Sequence[PixelCounts],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval | None:
    """Percentile bootstrap interval of the pooled Dice (Efron 1979).

    Frames of one clip resemble each other, so whole clips are drawn. Where
    all masks come from one clip, single images are drawn instead; the
    interval then says how the frames of that clip vary, not how clips do.

    Args:
        groups: The clip of each mask.
        counts: Pixels of each mask pair.
        rng: Source of the draws.
        level: Confidence level.
        draws: Number of resamples.

    Returns:
        The interval, or None where there is only one mask.
    """
    clips = [total(members) for members in by_group(groups, counts).values()]
    unit, units = ("clip", clips) if len(clips) > 1 else ("image", list(counts))
    if len(units) < 2:
        return None
    table = np.array([(one.intersection, one.predicted, one.truth) for one in units], np.float64)
    samples = _resampled_dice(table, rng=rng, draws=draws)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail])
    return Interval(float(low), float(high), level, unit, len(units))


def group_figures(
    groups: Sequence[str], counts: Sequence[PixelCounts]
) -> dict[str, dict[str, float | int]]:
    """Number of masks, published mean Dice, pooled Dice and pooled IoU of each group."""
    return {
        group: {
            "masks": len(members),
            "mean_dice": sum(dice(one, smooth=1.0) for one in members) / len(members),
            "pooled_dice": dice(total(members)),
            "pooled_iou": iou(total(members)),
        }
        for group, members in by_group(groups, counts).items()
    }


def _resampled_dice(
    table: NDArray[np.float64], *, rng: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    # One draw at a time keeps memory at the number of units, not units x draws.
    samples = np.empty(draws, np.float64)
    for index in range(draws):
        weights = np.bincount(rng.integers(0, len(table), len(table)), minlength=len(table))
        intersection, predicted, truth = weights @ table
        both = predicted + truth
        samples[index] = 2.0 * intersection / both if both else 1.0
    return samples
