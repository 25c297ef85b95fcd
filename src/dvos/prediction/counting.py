"""How many objects a frame is expected to hold, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.prediction.instances import FrameObjects, find_objects
from dvos.prediction.objects import Calibration, ObjectKnowledge

__all__ = ["Border", "CountedFrame", "count_frame"]

Border = Literal["count", "half", "exclude"]

#: Probabilities below this are not summed up for missed objects: over the many
#: pixels of a background even a small mistake of theirs adds up to objects.
_LEAST = 0.1
_UNCHANGED = Calibration(1.0, 0.0)
#: What an object counts that the frame's edge cuts.
_CUT: dict[Border, float] = {"count": 1.0, "half": 0.5, "exclude": 0.0}


@dataclass(frozen=True, eq=False)
class CountedFrame:
    """Objects of a frame and how many it is expected to hold.

    Attributes:
        objects: Those found.
        count: Their number, cut ones by the rule for them.
        expected: Number of true objects to be expected.
        deviation: Standard deviation of that number.
    """

    objects: FrameObjects
    count: float
    expected: float
    deviation: float


def count_frame(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    *,
    knowledge: ObjectKnowledge,
    minimum_area: int = 0,
    width: float | None = None,
    ids: NDArray[np.uint16] | None = None,
    border: Border = "count",
) -> CountedFrame:
    """Find the objects of a frame and tell how far their number can be trusted.

    Object i is real with the calibrated probability p_i of its surest pixel;
    where no object was found, the summed calibrated probability over the usual
    area of an object is the number m that may have been missed, as of a Poisson
    process. The number told apart has the relative error e and the dispersion d
    of :class:`ObjectKnowledge`. So, with the weight w_i, 1 but for objects that
    the frame's edge cuts::

        expected = sum(w_i * p_i)
        variance = sum(w_i**2 * p_i * (1 - p_i)) + m
                   + d * (expected + 1) + (e * expected)**2

    What may have been missed is not added to the number, which then departs
    from the count by doubtful objects alone, nor is it divided by the share of
    objects told apart in the labels, which varies about 1 between fields.

    Args:
        mask: bool (H, W).
        probability: float32 (H, W), of object.
        knowledge: In pixels of this frame. Without a calibration the
            probabilities are taken as they are.
        minimum_area: Smaller components, in pixels, are not counted.
        width: Usual width of an object, pixels; None = as known.
        ids: uint16 (H, W), of objects that are already told apart.
        border: What an object counts that the frame's edge cuts: 1, one half,
            which is right on average where frames are samples of a larger
            area, or nothing.
    """
    calibration = knowledge.calibration or _UNCHANGED
    usual = knowledge.area
    if usual is not None and knowledge.width is not None and width is not None:
        usual *= (width / knowledge.width) ** 2
    objects = find_objects(
        mask,
        probability,
        calibration,
        minimum_area=minimum_area,
        width=knowledge.width if width is None else width,
        usual_area=usual,
        ids=ids,
    )
    real, weight = objects.peak_probability, np.where(objects.touches_border, _CUT[border], 1.0)
    usual = usual or (float(np.median(objects.area)) if objects.count else 0.0)
    missed = _missed_pixels(objects, probability, calibration) / usual if usual else 0.0
    expected = float((weight * real).sum())
    variance = float((weight**2 * real * (1 - real)).sum()) + missed
    variance += (knowledge.dispersion or 0.0) * (expected + 1)
    variance += ((knowledge.error or 0.0) * expected) ** 2
    return CountedFrame(objects, float(weight.sum()), expected, float(np.sqrt(variance)))


def _missed_pixels(
    objects: FrameObjects, probability: NDArray[np.float32], calibration: Calibration
) -> float:
    """Expected pixels of object where none was found, the soft rims of those found left out."""
    free = (probability >= calibration.before(_LEAST)) & (objects.labels == 0)
    if not free.any():
        return 0.0
    if objects.count:
        reach = max(1, round(float(np.median(objects.width)) / 4))
        window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        near = cv2.dilate((objects.labels > 0).view(np.uint8), window)
        free &= near == 0
    return float(calibration(probability[free]).sum(dtype=np.float64))
