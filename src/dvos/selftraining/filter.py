"""The pseudo-label filter: by which criteria a prediction becomes a label.

What is uncertain becomes neither object nor background but *unknown*, a value
that training passes over. Where the feature probe (:mod:`dvos.selftraining.probe`)
takes for object what the network takes for background, the pixel is unknown, or
object where the probe is sure. Plain functions of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.selftraining import FilterSettings

__all__ = ["BACKGROUND", "OBJECT", "UNKNOWN", "FrameLabels", "filter_frame", "filter_pixels"]

#: Values of a pseudo-label mask.
BACKGROUND, UNKNOWN, OBJECT = 0, 128, 255


@dataclass(frozen=True, eq=False)
class FrameLabels:
    """What the filter makes of one frame.

    Attributes:
        labels: uint8 (H, W) of ``BACKGROUND``, ``UNKNOWN`` and ``OBJECT``.
        object_share: Of all pixels, 0..1.
        background_share: Likewise.
        reason: Why the frame is not accepted as a query; empty where it is.
    """

    labels: NDArray[np.uint8]
    object_share: float
    background_share: float
    reason: str

    @property
    def unknown_share(self) -> float:
        """Share of the pixels whose label is unknown."""
        return 1.0 - self.object_share - self.background_share

    @property
    def accepted(self) -> bool:
        """Whether the frame may be a query in training."""
        return not self.reason


def filter_frame(
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    consistency: NDArray[np.float32],
    probe: NDArray[np.float32] | None,
    criteria: FilterSettings,
) -> FrameLabels:
    """Label a frame, and say whether it is worth training on.

    Args:
        mean: As for :func:`filter_pixels`, which labels the pixels.
        std: Likewise.
        consistency: Likewise.
        probe: Likewise.
        criteria: When a pixel is a label, and a frame a query.
    """
    labels = filter_pixels(mean, std, consistency, probe, criteria)
    of_object = float(np.mean(labels == OBJECT))
    of_background = float(np.mean(labels == BACKGROUND))
    reason = ""
    if of_object == 0:
        reason = "no object was accepted"
    elif of_object < criteria.min_object:
        reason = f"object share {of_object:.4f} is below {criteria.min_object:g}"
    elif of_object + of_background < criteria.min_known:
        reason = f"known share {of_object + of_background:.3f} is below {criteria.min_known:g}"
    return FrameLabels(labels, of_object, of_background, reason)


def filter_pixels(
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    consistency: NDArray[np.float32],
    probe: NDArray[np.float32] | None,
    criteria: FilterSettings,
) -> NDArray[np.uint8]:
    """Turn what was predicted for a frame into labels.

    Args:
        mean: Probability of object, the mean over the views, float32 (H, W) in 0..1.
        std: Standard deviation over the views, float32 (H, W) in 0..0.5.
        consistency: Share of the neighbouring frames that see the pixel and
            put it on the same side, float32 (H, W) in 0..1; NaN where none sees it.
        probe: Probability of object by the feature probe, float32 (H, W) in
            0..1; None where there is none: then the mean decides alone.
        criteria: When a pixel is object, background or neither.

    Returns:
        uint8 (H, W): ``OBJECT``, ``BACKGROUND``, and ``UNKNOWN`` for the rest.
    """
    is_object = mean >= criteria.object_threshold
    is_background = mean <= criteria.background_threshold
    if probe is not None:
        is_background &= probe <= criteria.probe_background
        # Thin boundary bands of objects, which any linear probe blurs, are not taken.
        is_object |= _opened((probe > criteria.probe_object) & ~is_object, criteria.opening)
    if criteria.decide_boundary_band:
        doubtful = ~(is_object | is_background)
        is_background |= doubtful & ~_opened(doubtful, criteria.opening)
    # A comparison with NaN is false: unseen pixels are decided on their own.
    consistent = consistency >= criteria.min_consistency
    if criteria.trust_unseen:
        consistent |= np.isnan(consistency)
    sure = consistent & (std <= criteria.max_std)
    labels = np.full(mean.shape, UNKNOWN, np.uint8)
    labels[sure & is_background] = BACKGROUND
    # Last: what the probe alone makes object may be background by the mean.
    labels[sure & is_object] = OBJECT
    return labels


def _opened(mask: NDArray[np.bool_], diameter: int) -> NDArray[np.bool_]:
    """What of a mask an ellipse of a diameter in pixels fits into, bool (H, W)."""
    if diameter <= 1:
        return mask
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, ellipse), np.bool_)
