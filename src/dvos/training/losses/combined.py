"""What is minimised: the weighted losses of the mask and of the reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dvos.config.training import LossSettings
from dvos.networks.spec import Normalisation
from dvos.training.losses.image import (
    Dissimilarity,
    GradientDifference,
    ImageBatch,
    ImageLoss,
    MeanAbsoluteError,
    MeanSquaredError,
    PerceptualLoss,
    load_perceptual_features,
)
from dvos.training.losses.mask import (
    CrossEntropy,
    FocalLoss,
    FocalTverskyLoss,
    LossPart,
    MaskBatch,
    MaskLoss,
    SoftDice,
    SoftIou,
    Sums,
    TverskyLoss,
)


@dataclass(frozen=True)
class LossParts:
    """A loss and what it is made of.

    Attributes:
        loss: The weighted sum of the parts, a scalar tensor; what is minimised.
        parts: Each part by name, without its weight.
    """

    loss: Tensor
    parts: dict[str, Tensor]

    def detached(self) -> Tensor:
        """Loss and parts as float64 on the CPU, in the order of :attr:`ClipLoss.names`."""
        values = torch.stack([self.loss, *self.parts.values()])
        return values.detach().cpu().double()


class ClipLoss:
    """A weighted sum of losses of the mask and of the reconstruction.

    Args:
        mask: Weight and loss; at least one.
        reconstruction: Likewise; empty where the reconstruction does not count.
        normalisation: Of the frames.
    """

    def __init__(
        self,
        mask: Sequence[tuple[float, MaskLoss]],
        reconstruction: Sequence[tuple[float, ImageLoss]],
        normalisation: Normalisation,
    ) -> None:
        self.mask = tuple(mask)
        self.reconstruction = tuple(reconstruction)
        self.parts: tuple[tuple[float, LossPart], ...] = (*mask, *reconstruction)
        self.normalisation = normalisation

    @property
    def names(self) -> tuple[str, ...]:
        """``loss``, then the name of each part."""
        return ("loss", *(part.name for _, part in self.parts))

    @property
    def reconstructs(self) -> bool:
        """Whether the network's reconstruction counts at all."""
        return bool(self.reconstruction)

    def sums(
        self,
        mask_logits: Tensor,
        target: Tensor,
        weight: Tensor,
        reconstruction: Tensor | None = None,
        query: Tensor | None = None,
    ) -> Sums:
        """Sum over the pixels and images of a batch what the losses need, in float32.

        Args:
            mask_logits: (B, 1, H, W).
            target: (B, 1, H, W), 0 or 1.
            weight: (B, 1, H, W), >= 0; 0 where the label is unknown, whatever
                the target holds there.
            reconstruction: (B, 3, H, W), normalised; required where it counts.
            query: (B, 3, H, W), what the reconstruction should be.

        Raises:
            ValueError: If the reconstruction counts and is not given.
        """
        # Means of squares less squares of means need more digits than autocast keeps.
        with torch.autocast(mask_logits.device.type, enabled=False):
            masks = MaskBatch.of(mask_logits, target, weight)
            sums: Sums = {}
            for _, loss in self.mask:
                sums |= loss.sums(masks)
            if self.reconstruction:
                if reconstruction is None or query is None:
                    raise ValueError("the loss needs a reconstruction and the network gives none")
                norm = self.normalisation
                images = ImageBatch(reconstruction.float(), query.float(), norm.mean, norm.std)
                for _, image_loss in self.reconstruction:
                    sums |= image_loss.sums(images)
        return sums

    def __call__(self, sums: Sums) -> LossParts:
        """The loss of a batch of these sums."""
        parts: dict[str, Tensor] = {}
        total = next(iter(sums.values())).new_zeros(())
        for weight, part in self.parts:
            parts[part.name] = part.value(sums)
            total = total + weight * parts[part.name]
        return LossParts(total, parts)


def build_loss(settings: LossSettings, normalisation: Normalisation) -> ClipLoss:
    """The loss of these settings; what has no weight is left out.

    Args:
        settings: Weights and shapes.
        normalisation: Of the frames.

    Raises:
        CheckpointError: If weights for the perceptual loss cannot be read.
    """
    chosen = settings
    tversky = {"alpha": chosen.tversky_alpha, "beta": chosen.tversky_beta}
    mask: list[tuple[float, MaskLoss]] = [
        (chosen.bce, CrossEntropy()),
        (chosen.dice, SoftDice()),
        (chosen.iou, SoftIou()),
        (chosen.tversky, TverskyLoss(**tversky)),
        (chosen.focal, FocalLoss(alpha=chosen.focal_alpha, gamma=chosen.focal_gamma)),
        (chosen.focal_tversky, FocalTverskyLoss(**tversky, gamma=chosen.focal_tversky_gamma)),
    ]
    images: list[tuple[float, ImageLoss]] = [
        (chosen.mse, MeanSquaredError()),
        (chosen.mae, MeanAbsoluteError()),
        (chosen.ms_ssim, Dissimilarity()),
        (chosen.gradient_difference, GradientDifference()),
    ]
    if chosen.reconstruction * chosen.perceptual > 0 and chosen.perceptual_weights is not None:
        features = load_perceptual_features(chosen.perceptual_weights)
        images.append((chosen.perceptual, PerceptualLoss(features)))
    return ClipLoss(
        [(chosen.mask * weight, part) for weight, part in mask if weight > 0],
        [
            (chosen.reconstruction * weight, part)
            for weight, part in images
            if chosen.reconstruction * weight > 0
        ],
        normalisation,
    )
