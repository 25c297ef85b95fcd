"""How far predicted object counts are from true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvos.errors import TableError
from dvos.tables import CountRow
from dvos.tables import read_counts as read_table


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


def interval_coverage(predicted: Sequence[CountRow], true: Sequence[float]) -> float | None:
    """Share of true counts inside the interval of the prediction; None where none has one."""
    inside = [
        row.count_low <= count <= row.count_high
        for row, count in zip(predicted, true, strict=True)
        if row.count_low is not None and row.count_high is not None
    ]
    return sum(inside) / len(inside) if inside else None


def read_counts(path: Path) -> dict[tuple[str, str], CountRow]:
    """Rows of the ``counts.csv`` of a prediction, by clip and frame name.

    Raises:
        TableError: If the file cannot be read, is no such table, or a count is missing.
    """
    try:
        rows = read_table(path, ("clip", "frame", "count"))
        for row in rows:
            if row.count is None:
                found = f"the count of {row.clip}/{row.frame} is empty"
                raise TableError.at(path, found, "a number")
    except TableError as error:
        raise TableError.at(
            path,
            f"is no table of counts ({error.faults[0]})",
            "the columns clip, frame and count",
            "predict again, or remove it to score the masks alone",
        ) from error
    return {(row.clip, row.frame): row for row in rows}
