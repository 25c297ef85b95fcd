"""The training loss: binary cross-entropy, soft Dice, and reconstruction.

All three are formed from sums over the pixels of a batch, so that a batch
parted over devices has exactly the loss of the same batch on one device: the
sums are added over the devices before anything is divided.

Dice is taken over the pixels of the whole batch (nnU-Net's "batch Dice",
Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z, which uses
it wherever patches are smaller than the image): a crop without objects then
has no Dice of its own to be divided by almost nothing, and small patches do
not each have to show the true share of objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ClipLoss", "LossParts", "PixelSums", "pixel_sums"]

#: Adds a tensor over all devices; the result carries no gradient.
AddOver = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PixelSums:
    """Sums over the pixels of a batch, each a scalar tensor.

    Attributes:
        cross_entropy: Of weight times binary cross-entropy.
        weight: Of the weights.
        overlap: Of weight times probability times target.
        predicted: Of weight times probability.
        target: Of weight times target.
        squares: Of squared differences between reconstruction and query.
        colours: Number of these differences; 0 without a reconstruction.
    """

    cross_entropy: Tensor
    weight: Tensor
    overlap: Tensor
    predicted: Tensor
    target: Tensor
    squares: Tensor
    colours: Tensor

    def over_devices(self, add: AddOver) -> PixelSums:
        """The sums over all devices; gradients flow through this device's share only."""
        own = torch.stack([getattr(self, name) for name in self.__dataclass_fields__])
        total = own + (add(own.detach().clone()) - own.detach())
        return PixelSums(*total.unbind())


@dataclass(frozen=True)
class LossParts:
    """A loss and what it is made of, each a scalar tensor.

    Attributes:
        loss: The weighted sum of the others; what is minimised.
        bce: Mean binary cross-entropy over pixels with a weight.
        soft_dice: 1 - Dice of probabilities.
        reconstruction: Mean squared error in normalised colours.
    """

    loss: Tensor
    bce: Tensor
    soft_dice: Tensor
    reconstruction: Tensor

    def detached(self) -> Tensor:
        """The four values as float64 (4,) on the CPU, in the order of the attributes."""
        parts = (self.loss, self.bce, self.soft_dice, self.reconstruction)
        return torch.stack([part.detach() for part in parts]).cpu().double()


def pixel_sums(
    mask_logits: Tensor,
    target: Tensor,
    weight: Tensor,
    reconstruction: Tensor | None = None,
    query: Tensor | None = None,
) -> PixelSums:
    """Sum over the pixels of a batch what the losses need.

    Args:
        mask_logits: (B, 1, H, W).
        target: (B, 1, H, W), 0..1.
        weight: (B, 1, H, W), >= 0; 0 where the label is unknown, whatever
            the target holds there.
        reconstruction: (B, 3, H, W), or None for a network without it.
        query: (B, 3, H, W), what the reconstruction should be.
    """
    logits = mask_logits.float()
    target = target * (weight > 0)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    weighted = torch.sigmoid(logits) * weight
    none = logits.new_zeros(())
    squares, colours = none, none
    if reconstruction is not None and query is not None:
        squares = F.mse_loss(reconstruction.float(), query, reduction="sum")
        colours = none + query.numel()
    return PixelSums(
        cross_entropy,
        weight.sum(),
        (weighted * target).sum(),
        weighted.sum(),
        (weight * target).sum(),
        squares,
        colours,
    )


class ClipLoss:
    """mask * (bce * BCE + dice * (1 - Dice)) + reconstruction * MSE.

    With probabilities p, target t and weights w summed over the batch,
    Dice = (2 sum wpt + smooth) / (sum wp + sum wt + smooth)
    (Milletari et al., 2016, arXiv 1606.04797, without the squares).

    Args:
        mask: Weight of the mask's losses together.
        bce: Weight of binary cross-entropy among them.
        dice: Weight of soft Dice among them.
        reconstruction: Weight of the reconstruction's mean squared error.
        smooth: Keeps Dice defined on batches without objects, pixels.
    """

    def __init__(
        self,
        *,
        mask: float = 1.0,
        bce: float = 1.0,
        dice: float = 1.0,
        reconstruction: float = 0.1,
        smooth: float = 1.0,
    ) -> None:
        self.mask = mask
        self.bce = bce
        self.dice = dice
        self.reconstruction = reconstruction
        self.smooth = smooth

    @property
    def reconstructs(self) -> bool:
        """Whether the network's reconstruction counts at all."""
        return self.reconstruction > 0

    def __call__(self, sums: PixelSums) -> LossParts:
        """The loss of a batch of these sums."""
        bce = sums.cross_entropy / sums.weight.clamp_min(1)
        doubled = 2 * sums.overlap + self.smooth
        soft_dice = 1 - doubled / (sums.predicted + sums.target + self.smooth)
        squared = sums.squares / sums.colours.clamp_min(1)
        loss = self.mask * (self.bce * bce + self.dice * soft_dice) + self.reconstruction * squared
        return LossParts(loss, bce, soft_dice, squared)
