"""Losses of the mask, each from sums over the pixels of a batch.

With p the probability of object, t the label and w the weight of a pixel, losses of overlap are
formed of O = sum w p t, P = sum w p and T = sum w t over the batch ("batch Dice", Isensee et al.
2021, doi:10.1038/s41592-020-01008-z). Sums are added over devices before anything is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

#: Sums by name, each a scalar tensor.
Sums = dict[str, Tensor]

#: Adds a tensor over all devices; the result carries no gradient.
AddOver = Callable[[Tensor], Tensor]

#: Keeps losses of overlap defined on batches without objects, in pixels.
SMOOTH = 1.0
#: A root has no finite gradient at 0; focal Tversky losses below this have none at all.
_SMALLEST = 1e-7

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class MaskBatch:
    """What the network says about the masks of a batch, and the labels, (B, 1, H, W) each.

    Logits are float32; the target, 0 or 1, is 0 where the weight is, for an unknown label.
    """

    logits: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def of(cls, logits: Tensor, target: Tensor, weight: Tensor) -> MaskBatch:
        """A batch whose unknown pixels may hold any target, and logits of any precision."""
        return cls(logits.float(), target * (weight > 0), weight)

    @cached_property
    def areas(self) -> Sums:
        """``overlap``, ``predicted`` and ``target``, as the module defines them."""
        weighted = torch.sigmoid(self.logits) * self.weight
        return {
            "overlap": (weighted * self.target).sum(),
            "predicted": weighted.sum(),
            "target": (self.weight * self.target).sum(),
        }


@dataclass(frozen=True)
class MeanLoss(Generic[Batch]):
    """A loss, by its name in records.csv: a sum over a batch by its amount, both of ``parts``."""

    name: str
    parts: Callable[[Batch], tuple[Tensor, Tensor]]

    def sums(self, batch: Batch) -> Sums:
        """What it needs of a batch."""
        total, amount = self.parts(batch)
        return {self.name: total, f"{self.name}, amount": amount}

    def value(self, sums: Sums) -> Tensor:
        """The loss of a batch of these sums, a scalar tensor."""
        return sums[self.name] / sums[f"{self.name}, amount"].clamp_min(1)


@dataclass(frozen=True)
class OverlapLoss:
    """A loss, by its name in records.csv, of the overlap, predicted and target areas of a batch."""

    name: str
    function: Callable[[Tensor, Tensor, Tensor], Tensor]

    def sums(self, batch: MaskBatch) -> Sums:
        """The areas, which all losses of overlap share."""
        return batch.areas

    def value(self, sums: Sums) -> Tensor:
        """The loss of a batch of these sums, a scalar tensor."""
        return self.function(sums["overlap"], sums["predicted"], sums["target"])


MaskLoss = MeanLoss[MaskBatch] | OverlapLoss


def cross_entropy(batch: MaskBatch) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy, the mean over weights: sum w (-t log p - (1-t) log(1-p)) / sum w."""
    summed = F.binary_cross_entropy_with_logits(
        batch.logits, batch.target, batch.weight, reduction="sum"
    )
    return summed, batch.weight.sum()


def focal(batch: MaskBatch, *, alpha: float | None, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002, equation 5), the mean over weights.

    sum w a (1 - q)^gamma (-log q) / sum w, where q is the probability given to the true label, and
    a is ``alpha`` for object pixels, 1 - ``alpha`` for others, or 1 everywhere.
    """
    toward = batch.logits * (2 * batch.target - 1)
    # (1 - q)^gamma by its logarithm: the power of what rounds to 0 has no finite gradient.
    pixels = -F.logsigmoid(toward) * torch.exp(gamma * F.logsigmoid(-toward))
    weight = batch.weight
    if alpha is not None:
        weight = weight * (alpha * batch.target + (1 - alpha) * (1 - batch.target))
    return (weight * pixels).sum(), batch.weight.sum()


def soft_dice(overlap: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    """1 - (2 O + 1) / (P + T + 1) (Milletari et al., 2016, arXiv 1606.04797, without squares)."""
    both = predicted + target
    return 1 - (2 * overlap + SMOOTH) / (both + SMOOTH)


def soft_iou(overlap: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    """1 - (O + 1) / (P + T - O + 1) (Rahman and Wang, 2016, doi:10.1007/978-3-319-50835-1_22)."""
    union = predicted + target - overlap
    return 1 - (overlap + SMOOTH) / (union + SMOOTH)


def tversky(
    overlap: Tensor, predicted: Tensor, target: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """1 - (O + 1) / (O + alpha (P - O) + beta (T - O) + 1), Salehi et al., arXiv 1706.05721."""
    false, missed = alpha * (predicted - overlap), beta * (target - overlap)
    return 1 - (overlap + SMOOTH) / (overlap + false + missed + SMOOTH)


def focal_tversky(
    overlap: Tensor, predicted: Tensor, target: Tensor, *, alpha: float, beta: float, gamma: float
) -> Tensor:
    """The Tversky loss to the power of 1 / gamma, Abraham and Khan, 2019, arXiv 1810.07842."""
    loss = tversky(overlap, predicted, target, alpha=alpha, beta=beta)
    return torch.where(loss > _SMALLEST, loss.clamp_min(_SMALLEST) ** (1 / gamma), 0.0)


def tensor_loss(
    name: str, function: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> MeanLoss[MaskBatch]:
    """A loss that is any function of :class:`MaskBatch`'s tensors; the mean of several devices."""

    def parts(batch: MaskBatch) -> tuple[Tensor, Tensor]:
        clips = batch.logits.new_full((), float(len(batch.logits)))
        return function(batch.logits, batch.target, batch.weight) * clips, clips

    return MeanLoss(name, parts)


def over_devices(sums: Sums, add: AddOver) -> Sums:
    """The sums over all devices; gradients flow through this device's share only."""
    names = sorted(sums)
    own = torch.stack([sums[name] for name in names])
    total = own + (add(own.detach().clone()) - own.detach())
    return dict(zip(names, total.unbind(), strict=True))
