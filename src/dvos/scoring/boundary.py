"""Boundary F: do the outlines of prediction and truth lie close together?

Definition and tolerance are those of the DAVIS benchmark (Perazzi et al.,
"A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016; boundary measure after Martin, Fowlkes and Malik,
PAMI 2004, with matching approximated by dilation).
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["boundary", "boundary_f", "tolerance"]

#: The tolerance of DAVIS as a share of the image's diagonal.
DAVIS_TOLERANCE = 0.008


def tolerance(size: tuple[int, int], share: float = DAVIS_TOLERANCE) -> int:
    """Distance in pixels at which two outlines still count as the same.

    Args:
        size: (height, width) of the image.
        share: Tolerance as a share of the diagonal.

    Returns:
        The share of the diagonal rounded up, at least 1.
    """
    return max(1, math.ceil(share * math.hypot(*size)))


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Outline of a mask, one pixel wide.

    A pixel belongs to the outline where its value differs from that of its
    right, lower or lower right neighbour. The edge of the image is no outline.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W).
    """
    # Repeating the last row and column makes missing neighbours equal ones.
    padded = cv2.copyMakeBorder(mask.view(np.uint8), 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    here, right, below, diagonal = (
        padded[:-1, :-1],
        padded[:-1, 1:],
        padded[1:, :-1],
        padded[1:, 1:],
    )
    edge: NDArray[np.uint8] = (here ^ right) | (here ^ below) | (here ^ diagonal)
    return edge.view(np.bool_)


def boundary_f(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], *, share: float = DAVIS_TOLERANCE
) -> float:
    """Harmonic mean of boundary precision and recall.

    Precision is the share of the predicted outline within ``tolerance`` of
    the true one, recall the reverse.

    Args:
        prediction: Predicted mask, bool (H, W).
        truth: True mask, bool (H, W).
        share: Tolerance as a share of the diagonal.

    Returns:
        0..1; 1 where neither mask has an outline, 0 where only one has.
    """
    found, wanted = boundary(prediction).view(np.uint8), boundary(truth).view(np.uint8)
    n_found, n_wanted = cv2.countNonZero(found), cv2.countNonZero(wanted)
    if n_found == 0 or n_wanted == 0:
        return float(n_found == n_wanted)
    disk = _disk(tolerance((truth.shape[0], truth.shape[1]), share))
    precision = cv2.countNonZero(cv2.bitwise_and(found, cv2.dilate(wanted, disk))) / n_found
    recall = cv2.countNonZero(cv2.bitwise_and(wanted, cv2.dilate(found, disk))) / n_wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@lru_cache(maxsize=8)
def _disk(radius: int) -> NDArray[np.uint8]:
    # OpenCV's own ellipse is not the exact disk of the definition.
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius, np.uint8)
