"""How far predicted object counts are from true ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import TableError

__all__ = ["CountErrors", "count_errors", "count_instances", "read_counts"]


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


def count_instances(mask: NDArray[np.uint8] | NDArray[np.uint16]) -> int:
    """Number of ids other than 0 in an instance mask, uint8 or uint16 (H, W)."""
    present = np.zeros(np.iinfo(mask.dtype).max + 1, np.bool_)
    present[mask.ravel()] = True
    return int(present[1:].sum())


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


def read_counts(path: Path) -> dict[tuple[str, str], int]:
    """Counts by clip and frame name from the ``counts.csv`` of a prediction.

    Raises:
        TableError: If the file cannot be read or is no such table.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return {
                (row["clip"], row["frame"]): int(row["count"]) for row in csv.DictReader(stream)
            }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise TableError.at(
            path,
            f"is no table of counts ({type(error).__name__}: {error})",
            "the columns clip, frame and count",
            "predict again, or remove it to score the masks alone",
        ) from error
