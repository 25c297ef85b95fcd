"""Counts over time: evened out, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["finish_rows"]

Doubles = NDArray[np.float64]

#: Fewer frames than these are not smoothed.
_FEWEST = 3
# Up to so many median deviations away values count in full, as cutting short a
# lopsided scatter would shift the mean, and beyond the second for nothing.
_NEAR, _FAR = 6.0, 12.0
_SMALLEST = 0.5
# Times the median absolute deviation is the standard deviation of normal values.
_MAD_TO_SD = 1.4826


def finish_rows(
    rows: Sequence[Mapping[str, Any]], *, smoothing: int, confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Add what needs a whole clip to the rows of its frames; see docs/reference/counts.md.

    ``count_smooth`` is a robust local line through ``expected_count`` with
    tricube weights (Cleveland 1979), ``count_low`` and ``count_high`` an
    interval about it that joins the frames' own deviations, ``count_sd``, with
    the scatter about the line, ``density`` the smooth count per square metre.

    Args:
        rows: Of one clip's frames, in order; with ``expected_count``,
            ``count_sd`` and ``ground_area``.
        smoothing: Frames the line is fitted to; 1 = none.
        confidence: Of the interval.

    Returns:
        New rows in the same order.
    """
    counts = np.array([row["expected_count"] for row in rows], np.float64)
    own = np.array([row["count_sd"] for row in rows], np.float64)
    times = np.array([row["frame_index"] for row in rows], np.float64)
    factor = NormalDist().inv_cdf(0.5 + confidence / 2)
    fits = [_at(number, times, counts, own, smoothing) for number in range(len(rows))]
    # One window holds too few frames to tell the scatter; all of a clip do.
    scatter = float(np.mean([fit.scatter for fit in fits])) if fits else 0.0
    finished = []
    for row, fit in zip(rows, fits, strict=True):
        away = factor * float(np.sqrt(fit.own**2 + scatter * fit.averaging))
        smooth = max(0.0, fit.count)
        area = row["ground_area"]
        finished.append(
            {
                **row,
                "count_smooth": round(smooth, 3),
                "count_low": round(max(0.0, smooth - away), 3),
                "count_high": round(smooth + away, 3),
                "density": None if area is None else round(smooth / area, 4),
            }
        )
    return finished


@dataclass(frozen=True)
class _Fit:
    """The line at one frame.

    Attributes:
        count: Its value.
        own: Mean of the frames' own standard deviations in the window.
        scatter: Variance of the frames about the line.
        averaging: Share of that variance that is left in ``count``.
    """

    count: float
    own: float
    scatter: float
    averaging: float


def _at(number: int, times: Doubles, counts: Doubles, own: Doubles, smoothing: int) -> _Fit:
    # At a clip's ends the window keeps its length, so that it is as even there.
    first = min(max(0, number - (smoothing - 1) // 2), max(0, len(counts) - smoothing))
    window = slice(first, first + smoothing)
    values, away = counts[window], times[window] - times[number]
    if values.size < _FEWEST:
        return _Fit(float(counts[number]), float(own[number]), 0.0, 0.0)
    reach = float(np.abs(away).max()) + 1
    weights = (1 - (np.abs(away) / reach) ** 3) ** 3 * _trust(values, own[window])
    hat = _hat(away, weights)
    residuals = (values - hat @ values)[weights > 0]
    freedom = max(1.0, float(residuals.size - np.trace(hat)))
    line = hat[number - first]
    return _Fit(
        count=float(line @ values),
        # Neighbouring frames show the same objects, so that their own errors do
        # not average out over the window; the scatter about the line does.
        own=float(weights @ own[window] / weights.sum()),
        scatter=float((residuals**2).sum()) / freedom,
        averaging=float((line**2).sum()),
    )


def _trust(values: Doubles, own: Doubles) -> Doubles:
    """Less for values far from the window's median, 0..1 (as bisquare, Cleveland 1979)."""
    away = np.abs(values - np.median(values))
    # Counts that hardly scatter must not make an outlier of one object more.
    usual = max(float(np.median(away)), float(np.median(own)) / _MAD_TO_SD, _SMALLEST)
    excess = np.clip((away / usual - _NEAR) / (_FAR - _NEAR), 0, 1)
    trust: Doubles = (1 - excess**2) ** 2
    return trust


def _hat(away: Doubles, weights: Doubles) -> Doubles:
    """The matrix that turns values into those of the line fitted to them, (N, N)."""
    design = np.stack([np.ones_like(away), away], axis=1)
    weighted = design * weights[:, None]
    # Outliers may leave a single frame, through which any line goes.
    inverse = np.linalg.pinv(weighted.T @ design, hermitian=True)
    hat: Doubles = design @ inverse @ weighted.T
    return hat
