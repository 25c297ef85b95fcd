"""Overlap of a predicted and a true mask: Dice, IoU, precision and recall.

All figures come from three pixel counts, so that counts of many masks can be
added up and scored together ("pooled").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["PixelCounts", "count_pixels", "dice", "iou", "precision", "recall", "total"]


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of one mask pair, or of many pairs added up.

    Attributes:
        intersection: Object in prediction and truth.
        predicted: Object in the prediction.
        truth: Object in the truth.
    """

    intersection: int
    predicted: int
    truth: int

    @property
    def union(self) -> int:
        """Object in prediction, truth or both."""
        return self.predicted + self.truth - self.intersection


def count_pixels(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> PixelCounts:
    """Count the object pixels of a pair of masks.

    Args:
        prediction: Predicted mask, bool (H, W).
        truth: True mask, bool (H, W).

    Raises:
        ValueError: If the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"masks of shapes {prediction.shape} and {truth.shape} do not compare")
    # The views cost nothing, and OpenCV counts several times faster than NumPy.
    p, t = prediction.view(np.uint8), truth.view(np.uint8)
    return PixelCounts(
        intersection=cv2.countNonZero(cv2.bitwise_and(p, t)),
        predicted=cv2.countNonZero(p),
        truth=cv2.countNonZero(t),
    )


def total(counts: Iterable[PixelCounts]) -> PixelCounts:
    """Add the counts of several pairs."""
    intersection = predicted = truth = 0
    for one in counts:
        intersection += one.intersection
        predicted += one.predicted
        truth += one.truth
    return PixelCounts(intersection, predicted, truth)


def dice(counts: PixelCounts, *, smooth: float = 0.0) -> float:
    """Dice coefficient ``(2 |P∩T| + s) / (|P| + |T| + s)``, in 0..1.

    Args:
        counts: Pixels of one pair or of many.
        smooth: The term ``s``. The published per-mask figure (Najafian et al.,
            arXiv 2406.05131) uses 1, pooled figures use 0.

    Returns:
        The coefficient; 1 where both masks are empty.
    """
    return _ratio(2 * counts.intersection + smooth, counts.predicted + counts.truth + smooth, 1.0)


def iou(counts: PixelCounts, *, smooth: float = 0.0) -> float:
    """Intersection over union ``(|P∩T| + s) / (|P∪T| + s)``, in 0..1; see :func:`dice`."""
    return _ratio(counts.intersection + smooth, counts.union + smooth, 1.0)


def precision(counts: PixelCounts) -> float:
    """Share of the predicted pixels that are true.

    Where nothing was predicted: 1 if there was nothing to find, 0 otherwise.
    """
    return _ratio(counts.intersection, counts.predicted, 1.0 if counts.truth == 0 else 0.0)


def recall(counts: PixelCounts) -> float:
    """Share of the true pixels that were predicted.

    Where there is nothing to find: 1 if nothing was predicted, 0 otherwise.
    """
    return _ratio(counts.intersection, counts.truth, 1.0 if counts.predicted == 0 else 0.0)


def _ratio(numerator: float, denominator: float, undefined: float) -> float:
    return numerator / denominator if denominator else undefined
