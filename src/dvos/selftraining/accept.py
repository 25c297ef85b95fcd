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


def judge(
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    agreement: NDArray[np.float32],
    opinion: NDArray[np.float32] | None,
    *,
    object_threshold: float,
    background_threshold: float,
    opinion_object: float,
    opinion_background: float,
    opening: int,
    decide_rims: bool,
    max_spread: float,
    min_agreement: float,
    trust_unseen: bool,
    min_known: float,
    min_object: float,
) -> Judgement:
    """Label a frame, and say whether it is worth training on.

    Args:
        mean: See :func:`accept`, as are all that are not named here.
        spread: See :func:`accept`.
        agreement: See :func:`accept`.
        opinion: See :func:`accept`.
        object_threshold: See :func:`accept`.
        background_threshold: See :func:`accept`.
        opinion_object: See :func:`accept`.
        opinion_background: See :func:`accept`.
        opening: See :func:`accept`.
        decide_rims: See :func:`accept`.
        max_spread: See :func:`accept`.
        min_agreement: See :func:`accept`.
        trust_unseen: See :func:`accept`.
        min_known: Least share of the pixels that must be object or background.
        min_object: Least share of the pixels that must be object; whatever it
            is, a frame without any accepted object pixel is not accepted.
    """
    labels = accept(
        mean,
        spread,
        agreement,
        opinion,
        object_threshold=object_threshold,
        background_threshold=background_threshold,
        opinion_object=opinion_object,
        opinion_background=opinion_background,
        opening=opening,
        decide_rims=decide_rims,
        max_spread=max_spread,
        min_agreement=min_agreement,
        trust_unseen=trust_unseen,
    )
    of_object = float(np.mean(labels == OBJECT))
    of_background = float(np.mean(labels == BACKGROUND))
    reason = ""
    if of_object == 0:
        reason = "no object was accepted"
    elif of_object < min_object:
        reason = f"object share {of_object:.4f} is below {min_object:g}"
    elif of_object + of_background < min_known:
        reason = f"known share {of_object + of_background:.3f} is below {min_known:g}"
    return Judgement(labels, of_object, of_background, reason)


def accept(
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    agreement: NDArray[np.float32],
    opinion: NDArray[np.float32] | None,
    *,
    object_threshold: float,
    background_threshold: float,
    opinion_object: float,
    opinion_background: float,
    opening: int,
    decide_rims: bool,
    max_spread: float,
    min_agreement: float,
    trust_unseen: bool,
) -> NDArray[np.uint8]:
    """Turn what was predicted for a frame into labels.

    Args:
        mean: Probability of object, the mean over the views, float32 (H, W) in 0..1.
        spread: Standard deviation over the views, float32 (H, W) in 0..0.5.
        agreement: Share of the neighbouring frames that see the pixel and put
            it on the same side, float32 (H, W) in 0..1; NaN where none sees it.
        opinion: Probability of object by the second opinion, float32 (H, W) in
            0..1; None where there is none: then the mean decides alone.
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

    Returns:
        uint8 (H, W): ``OBJECT``, ``BACKGROUND``, and ``UNKNOWN`` for the rest.

    Raises:
        ValueError: If the thresholds are in the wrong order.
    """
    if background_threshold >= object_threshold:
        raise ValueError(
            f"background_threshold {background_threshold} is not below {object_threshold}"
        )
    sure = _sure(
        spread,
        agreement,
        max_spread=max_spread,
        min_agreement=min_agreement,
        trust_unseen=trust_unseen,
    )
    is_object = mean >= object_threshold
    is_background = mean <= background_threshold
    if opinion is not None:
        is_background &= opinion <= opinion_background
        is_object |= _opened((opinion > opinion_object) & ~is_object, opening)
    if decide_rims:
        doubtful = ~(is_object | is_background)
        is_background |= doubtful & ~_opened(doubtful, opening)
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
    spread: NDArray[np.float32],
    agreement: NDArray[np.float32],
    *,
    max_spread: float,
    min_agreement: float,
    trust_unseen: bool,
) -> NDArray[np.bool_]:
    """Pixels on which the views and the neighbouring frames agree, bool (H, W)."""
    # A comparison with NaN is false: unseen pixels are decided on their own.
    agreed = (agreement >= min_agreement) | (np.isnan(agreement) & trust_unseen)
    return np.asarray((spread <= max_spread) & agreed, np.bool_)
