"""How many distinct objects a clip shows, by its tracks, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np

#: Of tracks that begin inside the picture, how many are the rest of another one, where that was
#: not learnt: it fits rendered fields whose objects were joined, parted and left out at random.
_FRAGMENTS = 0.75
#: Relative error of the number, a standard deviation, where it was not learnt.
_ERROR = 0.1
#: Clips from which a model with two parts is fitted.
_FEWEST_CLIPS = 4
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class TotalRow:
    """Distinct objects of a clip, or of a region of it, in ``totals.csv``.

    ``region`` is empty for the whole clip; ``low`` and ``high`` are the ends of the interval of
    95 %, ``area_m2`` the ground that was seen, ``per_m2`` distinct objects on each square metre of
    it, both None where the size of a pixel on the ground is not known.
    """

    clip: str
    region: str
    distinct: int
    low: int
    high: int
    area_m2: float | None
    per_m2: float | None
    frames: int


#: The header of ``totals.csv``.
TOTAL_COLUMNS = tuple(field.name for field in fields(TotalRow))


@dataclass(frozen=True)
class TrackCalibration:
    """What clips with known objects say of the number of tracks.

    Of the tracks of a clip some begin inside the picture, after its first frame, and stem from no
    division: an object that came from behind something, or the rest of an object whose track broke.

    Attributes:
        fragments: Share of these that are the rest of another one.
        missed: Objects without a track, as a share of those that have one; below 0 where false
            tracks outnumber them.
        error: Relative error of the number that follows, a standard deviation.
    """

    fragments: float = _FRAGMENTS
    missed: float = 0.0
    error: float = _ERROR

    def estimate(self, tracks: int, inside: int) -> DistinctCount:
        """Distinct objects of a clip and the interval of 95 % about their number.

        With n tracks, i of which begin inside, it is (n - fragments * i) * (1 + missed). Its
        variance joins the relative error and, as each of the i is the rest of another one or is
        not, fragments * (1 - fragments) * i.

        Args:
            tracks: Number of tracks.
            inside: Number of those that begin inside the picture after its first frame.
        """
        distinct = max(0.0, (tracks - self.fragments * inside) * (1 + self.missed))
        chance = self.fragments * (1 - self.fragments) * inside
        deviation = float(np.sqrt(chance + (self.error * distinct) ** 2)) if tracks else 0.0
        away = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2) * deviation
        return DistinctCount(distinct, max(0.0, distinct - away), distinct + away)


@dataclass(frozen=True)
class DistinctCount:
    """A number of distinct objects with the ends of its interval."""

    distinct: float
    low: float
    high: float


def read_track_calibration(extra: Mapping[str, Any]) -> TrackCalibration | None:
    """What the ``extra`` of a checkpoint says in ``tracks``; None where it is nothing sensible."""
    part = extra.get("tracks")
    names = ("fragments", "missed", "error")
    values = [part.get(name) for name in names] if isinstance(part, Mapping) else []
    known = [float(value) for value in values if isinstance(value, (int, float))]
    if len(known) < len(names) or not np.isfinite(known).all():
        return None
    fragments, missed, error = known
    good = 0 <= fragments <= 1 and -0.9 < missed < 10 and error > 0
    return TrackCalibration(fragments, missed, error) if good else None


def fit_track_calibration(
    tracks: Sequence[int], inside: Sequence[int], true: Sequence[int]
) -> TrackCalibration:
    """Fit the model to clips whose distinct objects are known, by least squares of relative errors.

    Args:
        tracks: Number of tracks of each clip.
        inside: Number of those that begin inside the picture after its first frame.
        true: Number of objects that it shows, above 0.

    Returns:
        The calibration; of fewer than four clips only the error is fitted.

    Raises:
        ValueError: If there is no clip.
    """
    n, i, d = (np.asarray(values, np.float64) for values in (tracks, inside, true))
    if not len(d):
        raise ValueError("at least one clip")
    fragments, missed, freedom = _FRAGMENTS, 0.0, len(d)
    if len(d) >= _FEWEST_CLIPS and i.any():
        # d = a * n - b * i, with a = 1 + missed and b = a * fragments; each clip counts by share.
        design = np.stack([n, -i], axis=1) / d[:, None]
        a, b = np.linalg.lstsq(design, np.ones(len(d)), rcond=None)[0]
        fragments = float(np.clip(b / a, 0, 1)) if a > 0 else _FRAGMENTS
        kept = (n - fragments * i) / d
        missed = float(kept.sum() / (kept**2).sum()) - 1
        freedom = max(1, len(d) - 2)
    fitted = TrackCalibration(fragments, missed, _ERROR)
    errors = [
        fitted.estimate(int(a), int(b)).distinct / c - 1 for a, b, c in zip(n, i, d, strict=True)
    ]
    # Clips of the same kind never tell the error of others exactly.
    error = max(0.01, float(np.sqrt(np.sum(np.square(errors)) / freedom)))
    return TrackCalibration(fragments, missed, error)
