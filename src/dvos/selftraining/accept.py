"""The rule by which a prediction becomes a label: plain functions of arrays.

What is uncertain becomes neither object nor background but *unknown*, a value
that training passes over. Where a second opinion (:mod:`dvos.selftraining.opinion`)
takes for object what the network takes for background, the pixel is unknown, or
object where that opinion is sure.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKGROUND",
    "DECISION",
    "OBJECT",
    "UNKNOWN",
    "Judgement",
    "Rule",
    "accept",
    "judge",
]

#: Values of a pseudo-label mask.
BACKGROUND, UNKNOWN, OBJECT = 0, 128, 255

#: Probability at which a prediction changes sides.
DECISION = 0.5


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the rule makes of one frame.

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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a prediction is a label.

    Attributes:
        object_threshold: Mean from which a pixel is object.
        background_threshold: Mean up to which a pixel is background, if the
            second opinion does not object; below ``object_threshold``.
        opinion_object: A pixel below ``object_threshold`` whose opinion is
            above this is object all the same, unless ``opening`` removes it.
        opinion_background: Opinion up to which a pixel may be background.
        opening: Diameter in pixels of the ellipse that must fit into what the
            opinion alone makes object (a morphological opening): thin rims of
            objects are not taken; up to 1 asks nothing.
        decide_rims: Whether what is neither, but too thin for that ellipse, is
            background by default. Left unknown, the rims of objects teach the
            next network to draw them too large.
        max_spread: Largest spread of a pixel with a label.
        min_agreement: Least agreement of a pixel with a label.
        trust_unseen: Whether a pixel that no neighbour sees may have one.
        min_known: Least share of a frame that must be object or background.
        min_object: Least share of a frame that must be object; whatever it
            is, a frame without any object pixel is not accepted.

    Raises:
        ValueError: If the thresholds are in the wrong order.
    """

    object_threshold: float
    background_threshold: float
    opinion_object: float
    opinion_background: float
    opening: int
    decide_rims: bool
    max_spread: float
    min_agreement: float
    trust_unseen: bool
    min_known: float
    min_object: float

    def __post_init__(self) -> None:
        if self.background_threshold >= self.object_threshold:
            raise ValueError(
                f"background_threshold {self.background_threshold} is not below "
                f"{self.object_threshold}"
            )


def judge(
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    agreement: NDArray[np.float32],
    opinion: NDArray[np.float32] | None,
    rule: Rule,
) -> Judgement:
    """Label a frame, and say whether it is worth training on; see :func:`accept`."""
    labels = accept(mean, spread, agreement, opinion, rule)
    of_object = float(np.mean(labels == OBJECT))
    of_background = float(np.mean(labels == BACKGROUND))
    reason = ""
    if of_object == 0:
        reason = "no object was accepted"
    elif of_object < rule.min_object:
        reason = f"object share {of_object:.4f} is below {rule.min_object:g}"
    elif of_object + of_background < rule.min_known:
        reason = f"known share {of_object + of_background:.3f} is below {rule.min_known:g}"
    return Judgement(labels, of_object, of_background, reason)


def accept(
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    agreement: NDArray[np.float32],
    opinion: NDArray[np.float32] | None,
    rule: Rule,
) -> NDArray[np.uint8]:
    """Turn what was predicted for a frame into labels.

    Args:
        mean: Probability of object, the mean over the views, float32 (H, W) in 0..1.
        spread: Standard deviation over the views, float32 (H, W) in 0..0.5.
        agreement: Share of the neighbouring frames that see the pixel and put
            it on the same side, float32 (H, W) in 0..1; NaN where none sees it.
        opinion: Probability of object by the second opinion, float32 (H, W) in
            0..1; None where there is none: then the mean decides alone.
        rule: When a pixel is object, background or neither.

    Returns:
        uint8 (H, W): ``OBJECT``, ``BACKGROUND``, and ``UNKNOWN`` for the rest.
    """
    is_object = mean >= rule.object_threshold
    is_background = mean <= rule.background_threshold
    if opinion is not None:
        is_background &= opinion <= rule.opinion_background
        is_object |= _opened((opinion > rule.opinion_object) & ~is_object, rule.opening)
    if rule.decide_rims:
        doubtful = ~(is_object | is_background)
        is_background |= doubtful & ~_opened(doubtful, rule.opening)
    sure = _sure(spread, agreement, rule)
    labels = np.full(mean.shape, UNKNOWN, np.uint8)
    labels[sure & is_background] = BACKGROUND
    # Last: what the opinion alone makes object may be background by the mean.
    labels[sure & is_object] = OBJECT
    return labels


def _opened(mask: NDArray[np.bool_], diameter: int) -> NDArray[np.bool_]:
    """What of a mask an ellipse of a diameter in pixels fits into, bool (H, W)."""
    if diameter <= 1:
        return mask
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, ellipse), np.bool_)


def _sure(
    spread: NDArray[np.float32], agreement: NDArray[np.float32], rule: Rule
) -> NDArray[np.bool_]:
    """Pixels on which the views and the neighbouring frames agree, bool (H, W)."""
    # A comparison with NaN is false: unseen pixels are decided on their own.
    agreed = (agreement >= rule.min_agreement) | (np.isnan(agreement) & rule.trust_unseen)
    return np.asarray((spread <= rule.max_spread) & agreed, np.bool_)
