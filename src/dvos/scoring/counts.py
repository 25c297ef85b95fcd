"""How far predicted object counts are from true ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import TableError

__all__ = [
    "CountErrors",
    "PredictedCount",
    "count_errors",
    "count_instances",
    "read_counts",
    "smooth_errors",
]


@dataclass(frozen=True)
class CountErrors:
    """Agreement of predicted with true counts over frames.

    Attributes:
        frames: Number of frames compared.
        mean_absolute_error: In objects.
        relative_error: Mean absolute error over the mean true count.
        bias: Mean of predicted minus true, in objects.
        r2: Coefficient of determination, 1 at best, below 0 when worse than
            the mean; None where the true counts do not vary.
    """

    frames: int
    mean_absolute_error: float
    relative_error: float | None
    bias: float
    r2: float | None


@dataclass(frozen=True)
class PredictedCount:
    """Objects that a prediction counted in one frame.

    Attributes:
        count: In the frame alone.
        smooth: Evened out over time, if it was.
        low: Lower end of the interval of that.
        high: Upper end.
    """

    count: float
    smooth: float | None = None
    low: float | None = None
    high: float | None = None


def count_instances(mask: NDArray[np.uint8] | NDArray[np.uint16]) -> int:
    """Number of ids other than 0 in an instance mask, uint8 or uint16 (H, W)."""
    pixels = mask.ravel()
    # Ids come in runs, of which there are far fewer than pixels.
    first = pixels[:-1][pixels[1:] != pixels[:-1]]
    ids = np.unique(np.append(first, pixels[-1:]))
    return int(np.count_nonzero(ids))


def count_errors(predicted: Sequence[float], true: Sequence[float]) -> CountErrors:
    """Compare counts frame by frame.

    Raises:
        ValueError: If there is no frame or the lengths differ.
    """
    p, t = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if p.shape != t.shape or p.size == 0:
        raise ValueError(f"{p.size} predicted and {t.size} true counts do not compare")
    error = p - t
    spread = float(((t - t.mean()) ** 2).sum())
    mean_absolute = float(np.abs(error).mean())
    return CountErrors(
        frames=int(p.size),
        mean_absolute_error=mean_absolute,
        relative_error=mean_absolute / float(t.mean()) if t.mean() > 0 else None,
        bias=float(error.mean()),
        r2=1.0 - float((error**2).sum()) / spread if spread > 0 else None,
    )


def read_counts(path: Path) -> dict[tuple[str, str], PredictedCount]:
    """Counts by clip and frame name from the ``counts.csv`` of a prediction.

    Raises:
        TableError: If the file cannot be read or is no such table.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return {(row["clip"], row["frame"]): _count(row) for row in csv.DictReader(stream)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise TableError.at(
            path,
            f"is no table of counts ({type(error).__name__}: {error})",
            "the columns clip, frame and count",
            "predict again, or remove it to score the masks alone",
        ) from error


def smooth_errors(
    predicted: Sequence[PredictedCount], true: Sequence[float]
) -> tuple[CountErrors | None, float | None]:
    """Errors of the smoothed counts, and the share of true counts inside their interval.

    Returns:
        None for what no frame has.
    """
    both = list(zip(predicted, true, strict=True))
    smooth = [(one.smooth, count) for one, count in both if one.smooth is not None]
    inside = [
        one.low <= count <= one.high
        for one, count in both
        if one.low is not None and one.high is not None
    ]
    errors = count_errors([p for p, _ in smooth], [t for _, t in smooth]) if smooth else None
    return errors, sum(inside) / len(inside) if inside else None


def _count(row: dict[str, str]) -> PredictedCount:
    smooth, low, high = (
        float(row[name]) if row.get(name) else None
        for name in ("count_smooth", "count_low", "count_high")
    )
    return PredictedCount(float(row["count"]), smooth, low, high)
