"""Soft aggregation: from each object on its own to all objects and the background.

Oh et al., "Video Object Segmentation using Space-Time Memory Networks" (ICCV
2019, arXiv 1904.00607), section 3.5.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["aggregate", "aggregate_probability"]

_EDGE = 1e-7


def aggregate(single: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Let the objects and the background compete for each pixel.

    The background's own probability is that no object is there; the odds of
    each are then divided by the sum of all odds.

    Args:
        single: Probability of each object on its own, float, N along ``dim``.
        dim: Of the objects.

    Returns:
        Logits and probabilities, N + 1 along ``dim``, the background first.
    """
    whole = torch.cat(((1 - single).prod(dim, keepdim=True), single), dim)
    whole = whole.clamp(_EDGE, 1 - _EDGE)
    logits = torch.log(whole / (1 - whole))
    return logits, logits.softmax(dim)


def aggregate_probability(single: Tensor) -> Tensor:
    """The probabilities of :func:`aggregate` alone, along the first dimension.

    For many objects at full size: one buffer, no logarithm and no exponential.
    """
    odds = single.new_empty((len(single) + 1, *single.shape[1:]))
    torch.prod(1 - single, 0, out=odds[0])
    odds[1:] = single
    odds.clamp_(_EDGE, 1 - _EDGE)
    odds.div_(1 - odds)
    return odds.div_(odds.sum(0))
