"""What training learnt about objects, by which counts of frames and of clips can be trusted."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1e-6  # float32 probabilities of 0 and 1 stand for logits beyond this, which it caps
CONFIDENCE = 0.95  # of the intervals about numbers of objects
#: Median areas that differ by more than this factor are taken to be of another scale. Evidence is
#: thin: of eight wheat photos enlarged twice five were beyond it, at their own scale one of three.
_OTHER_SCALE = 2.5
_MOST = 10.0  # of the objects with a track: more that have none are no sensible number


class DistinctCount(NamedTuple):
    """A number of distinct objects with the ends of its interval."""

    distinct: float
    low: float
    high: float


@dataclass(frozen=True)
class TrackCalibration:
    """What clips with known objects say of the number of tracks.

    Of the tracks of a clip some begin inside the picture, after its first frame, and stem from no
    division: an object that came from behind something, or the rest of an object whose track broke.
    Some end inside it, before its last frame: an object that went behind something, or the track
    that broke. So it takes both to have a broken track, and :meth:`TrackTable.loose` is their
    geometric mean; ``broken`` of these are no objects of their own. ``missed`` are the objects
    without a track, as a share of those with one; below 0 where false tracks outnumber them.
    ``error`` is that of the number that follows, a relative standard deviation.
    """

    #: Where not learnt, what fits rendered fields, objects joined, parted, left out at random.
    broken: float = 0.95
    missed: float = 0.0
    error: float = 0.1

    def estimate(self, tracks: int, loose: float) -> DistinctCount:
        """Distinct objects of a clip and the interval of 95 % about their number.

        With n tracks and i loose ends, it is (n - broken * i) * (1 + missed). Its variance joins
        the relative error and, as each of the i is of a broken track or is not,
        broken * (1 - broken) * i.
        """
        distinct = max(0.0, (tracks - self.broken * loose) * (1 + self.missed))
        chance = self.broken * (1 - self.broken) * loose
        deviation = float(np.sqrt(chance + (self.error * distinct) ** 2)) if tracks else 0.0
        away = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * deviation
        return DistinctCount(distinct, max(0.0, distinct - away), distinct + away)


@dataclass(frozen=True)
class PlattScaling:
    """Turns a network's probability into the share of such pixels that are object.

    ``sigmoid(logit / temperature + bias)``: Platt scaling (Platt 1999) in the form of temperature
    scaling (Guo et al. 2017) with a bias. The temperature is above 1 where the network is too sure,
    the bias above 0 where it finds too little.
    """

    temperature: float = 1.0  # by default it changes nothing
    bias: float = 0.0

    def __call__(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrate probabilities, float32 of any shape in 0..1."""
        kept = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
        odds = np.exp(-self.bias) * ((1 - kept) / kept) ** (1 / self.temperature)
        return np.asarray(1 / (1 + odds), np.float32)

    def before(self, calibrated: float) -> float:
        """The probability that is calibrated to this one, which lies inside 0..1."""
        logit = self.temperature * (np.log(calibrated / (1 - calibrated)) - self.bias)
        return float(1 / (1 + np.exp(-logit)))


@dataclass(frozen=True)
class CountCalibration:
    """What training learnt about objects, by which counts are right; None where it did not."""

    width: float | None = None  # median of an object, pixels of frames after the ``scale``
    area: float | None = None  # median visible area likewise
    error: float | None = None  # relative, of the number told apart in exact masks: a deviation
    #: Variance of the number told apart in the network's masks about that in true ones, an object.
    dispersion: float | None = None
    scaling: PlattScaling = PlattScaling()
    tracks: TrackCalibration | None = None
    #: Least and largest median area of a clip's objects that it has learnt to count, likewise.
    sizes: tuple[float, float] | None = None

    def at_scale(self, scale: float) -> Self:
        """The same in pixels of frames that are resized by ``scale`` for the network."""
        width = None if self.width is None else self.width / scale
        area = None if self.area is None else self.area / scale**2
        sizes = self.sizes and (self.sizes[0] / scale**2, self.sizes[1] / scale**2)
        return replace(self, width=width, area=area, sizes=sizes)


def read_calibration(extra: Mapping[str, Any]) -> CountCalibration:
    """What the ``extra`` of a checkpoint says about objects.

    It lies in ``objects`` (``width``, ``area``, ``error``, and ``smallest`` and ``largest`` where
    it was taught by objects of many sizes), ``calibration`` (``temperature`` and ``bias``),
    ``counting`` (``dispersion``) and ``tracks``; what is absent, or no sensible number, is None.
    """
    area = _number(extra, "objects", "area")
    smallest, largest = (_number(extra, "objects", name) for name in ("smallest", "largest"))
    if area is not None and (smallest is None or largest is None):
        smallest, largest = area / _OTHER_SCALE, area * _OTHER_SCALE
    temperature = _number(extra, "calibration", "temperature")
    bias = _number(extra, "calibration", "bias", -np.inf)
    scaling = PlattScaling()
    if temperature is not None and bias is not None:
        scaling = PlattScaling(temperature, bias)
    return CountCalibration(
        width=_number(extra, "objects", "width"),
        area=area,
        sizes=(smallest, largest) if smallest and largest and smallest <= largest else None,
        error=_number(extra, "objects", "error"),
        dispersion=_number(extra, "counting", "dispersion"),
        scaling=scaling,
        tracks=_read_tracks(extra),
    )


def _read_tracks(extra: Mapping[str, Any]) -> TrackCalibration | None:
    broken = _number(extra, "tracks", "broken", -1e-9)
    missed, error = _number(extra, "tracks", "missed", -0.9), _number(extra, "tracks", "error")
    if broken is None or missed is None or error is None or broken > 1 or missed >= _MOST:
        return None
    return TrackCalibration(max(0.0, broken), missed, error)


def _number(extra: Mapping[str, Any], part: str, name: str, least: float = 0.0) -> float | None:
    """A finite number above ``least`` in a part of ``extra``; None where there is no such one."""
    values = extra.get(part)
    found = values.get(name) if isinstance(values, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    with suppress(OverflowError):
        return float(found) if least < float(found) < np.inf else None
    return None
