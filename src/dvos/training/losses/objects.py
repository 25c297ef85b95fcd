"""Losses of where objects lie: offsets to centres, the centres themselves, their motion.

Errors of offsets and motions are relative to s, the side of a square of the object's area, so that
they count alike for objects of all sizes: offset = sum w |o - o*| / s / sum w, with o and o* the
offset told and the true one, and w the weight of a position, which is smaller in larger objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from dvos.networks.spec import ObjectChannels
from dvos.training.object_truth import TruthChannels

#: Deviation of the bump about a centre, of the object's size: it covers about a tenth of it.
_BUMP = 0.15


@dataclass(frozen=True)
class ObjectBatch:
    """``ObjectChannels`` as told, and ``TruthChannels``, of a batch, float32 (B, C, h, w)."""

    told: Tensor
    truth: Tensor

    @cached_property
    def bump(self) -> Tensor:
        """Whether a position is a centre, (B, h, w) in 0..1: 1 at the very centre of an object."""
        offset = self.truth[:, TruthChannels.OFFSET_X : TruthChannels.OFFSET_Y + 1]
        size = self.truth[:, TruthChannels.SIZE].clamp_min(1)
        away = (offset / size[:, None]).square().sum(1)
        there = self.truth[:, TruthChannels.WEIGHT] > 0
        return torch.exp(away / (-2 * _BUMP**2)) * there

    def relative_error(self, told: int, true: int, weight: int) -> tuple[Tensor, Tensor]:
        """Weighted sum of a vector's errors relative to sizes, and of weights, by channels."""
        weights = self.truth[:, weight]
        away = (self.told[:, told : told + 2] - self.truth[:, true : true + 2]).abs().sum(1)
        size = self.truth[:, TruthChannels.SIZE].clamp_min(1)
        return (weights * away / size).sum(), weights.sum()


def offset(batch: ObjectBatch) -> tuple[Tensor, Tensor]:
    """Mean error of the offsets to centres, relative to sizes."""
    return batch.relative_error(
        ObjectChannels.OFFSET_X, TruthChannels.OFFSET_X, TruthChannels.WEIGHT
    )


def motion(batch: ObjectBatch) -> tuple[Tensor, Tensor]:
    """Mean error of the motion since the frame before, relative to sizes; of nothing, if untold."""
    if batch.told.shape[1] <= ObjectChannels.MOTION_X:
        return batch.told.new_zeros(()), batch.told.new_zeros(())
    return batch.relative_error(
        ObjectChannels.MOTION_X, TruthChannels.MOTION_X, TruthChannels.MOTION_WEIGHT
    )


def centre(batch: ObjectBatch) -> tuple[Tensor, Tensor]:
    """Quality focal loss of centres, with beta 2 (Li et al., arXiv 2006.04388, equation 3)."""
    logits, wanted = batch.told[:, ObjectChannels.CENTRE], batch.bump
    known = batch.truth[:, TruthChannels.KNOWN]
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, known, reduction="none")
    return (entropy * (wanted - logits.sigmoid()).square()).sum(), wanted.sum()
