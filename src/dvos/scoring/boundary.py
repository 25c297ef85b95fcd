"""Boundary F: do the outlines of prediction and truth lie close together?

Definition and tolerance are those of the DAVIS benchmark (Perazzi et al.,
"A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016; boundary measure after Martin, Fowlkes and Malik,
PAMI 2004, with matching approximated by dilation).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dvos.scoring import bits

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
    return bits.unpack(bits.outline(bits.pack(mask), mask.shape[1]), mask.shape[1])


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
    width = truth.shape[1]
    found, wanted = (bits.outline(bits.pack(mask), width) for mask in (prediction, truth))
    n_found, n_wanted = bits.count(found), bits.count(wanted)
    if n_found == 0 or n_wanted == 0:
        return float(n_found == n_wanted)
    radius = tolerance((truth.shape[0], truth.shape[1]), share)
    precision = bits.count(found & bits.dilate_disk(wanted, radius)) / n_found
    recall = bits.count(wanted & bits.dilate_disk(found, radius)) / n_wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
