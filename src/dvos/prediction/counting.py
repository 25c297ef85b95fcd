"""How many objects a frame is expected to hold, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.prediction.instances import FrameObjects, find_objects
from dvos.prediction.objects import Calibration, ObjectKnowledge

__all__ = ["CountedFrame", "count_frame"]

#: Probabilities below this are not summed up for missed objects: over the many
#: pixels of a background even a small mistake of theirs adds up to objects.
_LEAST = 0.05
_UNCHANGED = Calibration(1.0, 0.0)


@dataclass(frozen=True, eq=False)
class CountedFrame:
    """Objects of a frame and how many it is expected to hold.

    Attributes:
        objects: Those found.
        expected: Number of true objects to be expected.
        deviation: Standard deviation of that number.
    """

    objects: FrameObjects
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
) -> CountedFrame:
    """Find the objects of a frame and tell how far their number can be trusted.

    Object i is real with its calibrated probability p_i; where no object was
    found, the summed calibrated probability over the usual area of an object
    is the number m expected to be missed, as of a Poisson process. Of true
    objects ``knowledge.found`` are told apart, with the relative deviation
    ``knowledge.spread``. So, with f the share found and s the spread::

        expected = (sum(p_i) + m) / f
        variance = (sum(p_i * (1 - p_i)) + m) / f**2 + (s * expected)**2

    Args:
        mask: bool (H, W).
        probability: float32 (H, W), of object.
        knowledge: In pixels of this frame. Without a calibration the
            probabilities are taken as they are.
        minimum_area: Smaller components, in pixels, are not counted.
        width: Usual width of an object, pixels; None = as known.
        ids: uint16 (H, W), of objects that are already told apart.
    """
    calibration = knowledge.calibration or _UNCHANGED
    objects = find_objects(
        mask,
        probability,
        calibration,
        minimum_area=minimum_area,
        width=knowledge.width if width is None else width,
        ids=ids,
    )
    real = objects.core_probability
    usual = knowledge.area or (float(np.median(objects.area)) if objects.count else 0.0)
    missed = _missed_pixels(objects, probability, calibration) / usual if usual else 0.0
    found = knowledge.found or 1.0
    expected = (float(real.sum()) + missed) / found
    variance = (float((real * (1 - real)).sum()) + missed) / found**2
    variance += ((knowledge.spread or 0.0) * expected) ** 2
    return CountedFrame(objects, expected, float(np.sqrt(variance)))


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
