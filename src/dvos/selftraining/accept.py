"""The rule by which a prediction becomes a label: plain functions of arrays.

What is uncertain becomes neither object nor background but *unknown*, a value
that training passes over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKGROUND",
    "DECISION",
    "OBJECT",
    "UNKNOWN",
    "Judgement",
    "accept",
    "balanced_threshold",
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
        object_threshold: Probability from which object was accepted.
        object_share: Of all pixels, 0..1.
        background_share: Likewise.
        reason: Why the frame is not accepted as a query; empty where it is.
    """

    labels: NDArray[np.uint8]
    object_threshold: float
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
    *,
    object_threshold: float | Literal["auto"],
    lowest_object_threshold: float,
    background_threshold: float,
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
        object_threshold: ``auto`` is that of :func:`balanced_threshold`.
        lowest_object_threshold: Below which ``auto`` does not go.
        background_threshold: See :func:`accept`.
        max_spread: See :func:`accept`.
        min_agreement: See :func:`accept`.
        trust_unseen: See :func:`accept`.
        min_known: Least share of the pixels that must be object or background.
        min_object: Least share of the pixels that must be object; whatever it
            is, a frame without any accepted object pixel is not accepted.
    """
    if object_threshold == "auto":
        sure = _sure(
            spread,
            agreement,
            max_spread=max_spread,
            min_agreement=min_agreement,
            trust_unseen=trust_unseen,
        )
        object_threshold = balanced_threshold(
            mean, sure, background_threshold=background_threshold, lowest=lowest_object_threshold
        )
    labels = accept(
        mean,
        spread,
        agreement,
        object_threshold=object_threshold,
        background_threshold=background_threshold,
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
    return Judgement(labels, object_threshold, of_object, of_background, reason)


def accept(
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    agreement: NDArray[np.float32],
    *,
    object_threshold: float,
    background_threshold: float,
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
        object_threshold: Mean from which a pixel is object.
        background_threshold: Mean up to which a pixel is background; below
            ``object_threshold``.
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
    labels = np.full(mean.shape, UNKNOWN, np.uint8)
    labels[sure & (mean <= background_threshold)] = BACKGROUND
    labels[sure & (mean >= object_threshold)] = OBJECT
    return labels


def balanced_threshold(
    mean: NDArray[np.float32],
    sure: NDArray[np.bool_],
    *,
    background_threshold: float,
    lowest: float,
) -> float:
    """The object threshold that treats objects as generously as background.

    Objects are rarer and less certain than background, so one confidence for
    both leaves mostly background. Here the share of the predicted object
    pixels that are accepted is that of the background pixels, after
    class-balanced self-training (Zou et al., ECCV 2018, arXiv 1810.07911),
    which takes the quantiles over all images where this takes them in one.

    Args:
        mean: As for :func:`accept`.
        sure: bool (H, W), pixels that are accepted if their mean is.
        background_threshold: As for :func:`accept`.
        lowest: The threshold is at least this; above ``background_threshold``.

    Returns:
        The threshold, from ``lowest`` to 1.
    """
    is_object = mean >= DECISION
    backgrounds = np.count_nonzero(~is_object)
    taken = np.count_nonzero(sure & (mean <= background_threshold))
    share = taken / backgrounds if backgrounds else 1.0
    wanted = round(share * np.count_nonzero(is_object))
    candidates = mean[is_object & sure]
    if wanted == 0:
        return 1.0
    if wanted >= candidates.size:
        return lowest
    # The least of the `wanted` highest.
    place = candidates.size - wanted
    return max(lowest, float(np.partition(candidates, place)[place]))


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
