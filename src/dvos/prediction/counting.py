"""How many objects a frame is expected to hold, how sure that is, and both evened out over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, get_type_hints

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, create_model

from dvos.config.prediction import PredictionOptions
from dvos.media.splitting import DEPARTURE
from dvos.prediction.calibration import CONFIDENCE, CountCalibration, PlattScaling
from dvos.prediction.objects import FrameObjects
from dvos.prediction.predictor import FramePrediction
from dvos.tables import CountRow

Doubles = NDArray[np.float64]

#: Probabilities below this are not summed up for missed objects: over the many
#: pixels of a background even a small mistake of theirs adds up to objects.
_LEAST = 0.1
#: What an object counts that the frame's edge cuts.
_CUT = {"count": 1.0, "half": 0.5, "exclude": 0.0}

_FEWEST = 3  # fewer frames than these are not smoothed
# Up to so many median deviations away values count in full, as cutting short a
# lopsided scatter would shift the mean, and beyond the second for nothing.
_NEAR, _FAR = 6.0, 12.0
_SMALLEST = 0.5
# Times the median absolute deviation is the standard deviation of normal values.
_MAD_TO_SD = 1.4826

#: Columns of ``counts.csv`` that :func:`finish_rows` adds to the rows of frames.
_OF_CLIP = {"clip", "count_smooth", "count_low", "count_high", "density"}
_UNTOLD = {"time_s", "ground_area"}  # those that a frame may not tell
_FIELDS: dict[str, Any] = {
    name: (kind if name in _UNTOLD or kind in (int, str) else float, ...)
    for name, kind in get_type_hints(CountRow).items()
    if name not in _OF_CLIP
}
#: The row of a frame, as it is kept until its clip is finished.
FrameRow = create_model("FrameRow", __config__=ConfigDict(extra="forbid", strict=True), **_FIELDS)


@dataclass(frozen=True, eq=False)
class CountedFrame:
    """Objects of a frame, their number (cut ones by the rule), the true one expected, its sd."""

    objects: FrameObjects
    count: float
    expected: float
    deviation: float


def count_frame(
    prediction: FramePrediction, calibration: CountCalibration, options: PredictionOptions
) -> CountedFrame:
    """Find the objects of a frame and tell how far their number can be trusted.

    Object i is real with the calibrated probability p_i of its surest pixel; where no object was
    found, the summed calibrated probability over the usual area of an object is the number m that
    may have been missed, as of a Poisson process. The number told apart has the relative error e
    and the dispersion d of :class:`CountCalibration`. So, with the weight w_i, 1 but for objects
    that the frame's edge cuts (``border_objects``: 1, 0.5, which is right on average where frames
    are samples of a larger area, or 0)::

        expected = sum(w_i * p_i)
        variance = sum(w_i**2 * p_i * (1 - p_i)) + m + d * (expected + 1) + (e * expected)**2

    What may have been missed is not added to the number, nor is this divided by the share of
    objects told apart in the labels, which varies about 1 between fields.
    """
    width, usual = options.object_width, calibration.area
    if usual is not None and calibration.width is not None and width is not None:
        usual *= (width / calibration.width) ** 2
    known = replace(calibration, width=calibration.width if width is None else width, area=usual)
    objects = prediction.measured(known, options.minimum_object_area)
    if usual is not None and width is not None and objects.count:
        # As objects are told apart: a width far from what the mask shows is not gone by.
        seen = float(np.median(objects.area))
        usual = min(max(usual, seen / DEPARTURE**2), seen * DEPARTURE**2)
    real = objects.peak_probability
    weight = np.where(objects.touches_border, _CUT[options.border_objects], 1.0)
    usual = usual or (float(np.median(objects.area)) if objects.count else 0.0)
    found = (objects, prediction.probability, known.scaling)
    missed = _missed_pixels(*found) / usual if usual else 0.0
    expected = float((weight * real).sum())
    variance = float((weight**2 * real * (1 - real)).sum()) + missed
    variance += (calibration.dispersion or 0.0) * (expected + 1)
    variance += ((calibration.error or 0.0) * expected) ** 2
    return CountedFrame(objects, float(weight.sum()), expected, float(np.sqrt(variance)))


def _missed_pixels(
    objects: FrameObjects, probability: NDArray[np.float32], scaling: PlattScaling
) -> float:
    """Expected pixels of object where none was found, the soft borders of those found left out."""
    free = (probability >= scaling.before(_LEAST)) & (objects.labels == 0)
    if not free.any():
        return 0.0
    if objects.count:
        reach = max(1, round(float(np.median(objects.width)) / 4))
        window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        near = cv2.dilate((objects.labels > 0).view(np.uint8), window)
        free &= near == 0
    return float(scaling(probability[free]).sum(dtype=np.float64))


def finish_rows(clip: str, rows: Sequence[Mapping[str, Any]], *, smoothing: int) -> list[CountRow]:
    """Add what needs a whole clip to the rows of its frames; see docs/reference/counts.md.

    ``count_smooth`` is a robust local line through ``expected_count`` over ``smoothing`` frames, 1
    = none, with tricube weights (Cleveland 1979); ``count_low`` and ``count_high`` join the frames'
    own deviations, ``count_sd``, with the scatter about it.
    """
    counts = np.array([row["expected_count"] for row in rows], np.float64)
    own = np.array([row["count_sd"] for row in rows], np.float64)
    times = np.array([row["frame_index"] for row in rows], np.float64)
    factor = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    fits = [_fit_line(number, times, counts, own, smoothing) for number in range(len(rows))]
    # One window holds too few frames to tell the scatter; all of a clip do.
    scatter = float(np.mean([scattered for _, _, scattered, _ in fits])) if fits else 0.0
    finished = []
    for row, (count, deviation, _, averaging) in zip(rows, fits, strict=True):
        away = factor * float(np.sqrt(deviation**2 + scatter * averaging))
        smooth, area = max(0.0, count), row["ground_area"]
        density = None if area is None else round(smooth / area, 4)
        low, high = round(max(0.0, smooth - away), 3), round(smooth + away, 3)
        of_clip = {"count_smooth": round(smooth, 3), "count_low": low, "count_high": high}
        finished.append(CountRow(clip, **{**row, **of_clip, "density": density}))
    return finished


def _fit_line(
    number: int, times: Doubles, counts: Doubles, own: Doubles, smoothing: int
) -> tuple[float, float, float, float]:
    """The count of the line at a frame, and the mean of the deviations in the window.

    Then the variance of the frames about the line, and the share of that left in the count.
    """
    # At a clip's ends the window keeps its length, so that it is as even there.
    first = min(max(0, number - (smoothing - 1) // 2), max(0, len(counts) - smoothing))
    window = slice(first, first + smoothing)
    values, own, away = counts[window], own[window], times[window] - times[number]
    if values.size < _FEWEST:
        return float(counts[number]), float(own[number - first]), 0.0, 0.0
    # Less for values far from the window's median, 0..1 (as bisquare, Cleveland 1979).
    apart = np.abs(values - np.median(values))
    # Counts that hardly scatter must not make an outlier of one object more.
    usual = max(float(np.median(apart)), float(np.median(own)) / _MAD_TO_SD, _SMALLEST)
    trust = (1 - np.clip((apart / usual - _NEAR) / (_FAR - _NEAR), 0, 1) ** 2) ** 2
    reach = float(np.abs(away).max()) + 1
    weights = (1 - (np.abs(away) / reach) ** 3) ** 3 * trust
    # The matrix (N, N) that turns values into those of the line fitted to them; outliers may
    # leave a single frame, through which any line goes.
    design = np.stack([np.ones_like(away), away], axis=1)
    weighted = design * weights[:, None]
    hat = design @ np.linalg.pinv(weighted.T @ design, hermitian=True) @ weighted.T
    residuals = (values - hat @ values)[weights > 0]
    freedom = max(1.0, float(residuals.size - np.trace(hat)))
    line, scatter = hat[number - first], float((residuals**2).sum()) / freedom
    # Neighbouring frames show the same objects, so that their own errors do not average out over
    # the window; the scatter about the line does.
    deviation = float(weights @ own / weights.sum())
    return float(line @ values), deviation, scatter, float((line**2).sum())
