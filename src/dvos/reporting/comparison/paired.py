"""How two runs differ on the same frames, with a bootstrap interval of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvos.reporting.comparison.match import Matched

__all__ = ["Paired", "paired_difference"]

_DRAWS = 2000
_LEVEL = 0.95
_SEED = 123


@dataclass(frozen=True)
class Paired:
    """Difference of a run to the first, over frames scored in both.

    Attributes:
        mean: Mean difference of Dice.
        low: Lower end of its 95 % interval; None for a single frame.
        high: Upper end.
        unit: What was drawn again: ``clip`` or ``frame``.
        units: How many of them there were.
        frames: Frames compared.
        above: Frames on which the run is above the first.
        below: Frames on which it is below.
    """

    mean: float
    low: float | None
    high: float | None
    unit: str
    units: int
    frames: int
    above: int
    below: int


def paired_difference(frames: Sequence[Matched], index: int) -> Paired:
    """Compare run ``index`` with the first, on frames that have a Dice in both.

    The interval is a percentile bootstrap of the paired differences (Efron
    1979). Frames of a clip resemble each other, so whole clips are drawn;
    single frames where there is only one clip. The seed is fixed, so that the
    same runs give the same page.

    Args:
        frames: At least one.
        index: The run, from 1.
    """
    steps = np.array([one.dice(index) - one.dice(0) for one in frames])
    clips = np.unique([one.clip for one in frames], return_inverse=True)[1]
    several = int(clips.max()) > 0
    groups = clips if several else np.arange(len(steps))
    low, high = _interval(steps, groups)
    return Paired(
        mean=float(steps.mean()),
        low=low,
        high=high,
        unit="clip" if several else "frame",
        units=int(groups.max()) + 1,
        frames=len(steps),
        above=int((steps > 0).sum()),
        below=int((steps < 0).sum()),
    )


def _interval(
    steps: np.ndarray[tuple[int], np.dtype[np.float64]],
    groups: np.ndarray[tuple[int], np.dtype[np.intp]],
) -> tuple[float | None, float | None]:
    sums, sizes = np.bincount(groups, weights=steps), np.bincount(groups)
    if len(sums) < 2:
        return None, None
    rng = np.random.default_rng(_SEED)
    means = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        chosen = rng.integers(0, len(sums), len(sums))
        means[draw] = sums[chosen].sum() / sizes[chosen].sum()
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
