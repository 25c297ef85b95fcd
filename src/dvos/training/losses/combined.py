"""What is minimised: the weighted losses of the mask, the reconstruction and the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from dvos.config.training import LossSettings
from dvos.networks.spec import Normalisation
from dvos.training.losses import image, mask, objects
from dvos.training.losses.image import ImageBatch, ImageLoss
from dvos.training.losses.mask import MaskBatch, MaskLoss, MeanLoss, OverlapLoss, Sums
from dvos.training.losses.objects import ObjectBatch

ObjectLoss = MeanLoss[ObjectBatch]
Loss = TypeVar("Loss")


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
        """Loss and parts as float64, in the order of :attr:`ClipLoss.names`, where they are."""
        values = torch.stack([self.loss, *self.parts.values()]).detach()
        # Apple's devices have no float64.
        return (values.cpu() if values.device.type == "mps" else values).double()


class ClipLoss:
    """A weighted sum of losses of the mask, of the reconstruction and of the objects.

    Args:
        mask: Weight and loss; at least one.
        reconstruction: Likewise; empty where the reconstruction does not count.
        normalisation: Of the frames.
        objects: Likewise; empty where the network tells no objects apart.
    """

    def __init__(
        self,
        mask: Sequence[tuple[float, MaskLoss]],
        reconstruction: Sequence[tuple[float, ImageLoss]],
        normalisation: Normalisation,
        objects: Sequence[tuple[float, ObjectLoss]] = (),
    ) -> None:
        self.mask = tuple(mask)
        self.reconstruction = tuple(reconstruction)
        self.objects = tuple(objects)
        self.parts: tuple[tuple[float, MaskLoss | ImageLoss | ObjectLoss], ...] = (
            *mask,
            *reconstruction,
            *objects,
        )
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
        objects: ObjectBatch | None = None,
    ) -> Sums:
        """Sum over the pixels and images of a batch what the losses need, in float32.

        Args:
            mask_logits: (B, 1, H, W).
            target: (B, 1, H, W), 0 or 1.
            weight: (B, 1, H, W), >= 0; 0 where the label is unknown, whatever
                the target holds there.
            reconstruction: (B, 3, H, W), normalised; required where it counts.
            query: (B, 3, H, W), what the reconstruction should be.
            objects: What is told of objects, and what is true; required where it counts.

        Raises:
            ValueError: If the reconstruction or the objects count and are not given.
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
                images = ImageBatch(reconstruction.float(), query.float(), self.normalisation)
                for _, image_loss in self.reconstruction:
                    sums |= image_loss.sums(images)
            if self.objects:
                if objects is None:
                    raise ValueError("the loss needs objects and the network tells none apart")
                for _, object_loss in self.objects:
                    sums |= object_loss.sums(objects)
        return sums

    def __call__(self, sums: Sums) -> LossParts:
        """The loss of a batch of these sums."""
        parts: dict[str, Tensor] = {}
        total = next(iter(sums.values())).new_zeros(())
        for weight, part in self.parts:
            parts[part.name] = part.value(sums)
            total = total + weight * parts[part.name]
        return LossParts(total, parts)


def build_loss(
    settings: LossSettings, normalisation: Normalisation, *, tells_apart: bool = False
) -> ClipLoss:
    """The loss of these settings; what has no weight is left out.

    Args:
        settings: Weights and shapes.
        normalisation: Of the frames.
        tells_apart: Whether the network tells objects apart.

    Raises:
        CheckpointError: If weights for the perceptual loss cannot be read.
    """
    focal = partial(mask.focal, alpha=settings.focal_alpha, gamma=settings.focal_gamma)
    alpha, beta = settings.tversky_alpha, settings.tversky_beta
    tversky = partial(mask.tversky, alpha=alpha, beta=beta)
    focal_tversky = partial(
        mask.focal_tversky, alpha=alpha, beta=beta, gamma=settings.focal_tversky_gamma
    )
    masks: list[tuple[float, MaskLoss]] = [
        (settings.bce, MeanLoss("bce", mask.cross_entropy)),
        (settings.dice, OverlapLoss("soft_dice", mask.soft_dice)),
        (settings.iou, OverlapLoss("soft_iou", mask.soft_iou)),
        (settings.tversky, OverlapLoss("tversky", tversky)),
        (settings.focal, MeanLoss("focal", focal)),
        (settings.focal_tversky, OverlapLoss("focal_tversky", focal_tversky)),
    ]
    images: list[tuple[float, ImageLoss]] = [
        (settings.mse, MeanLoss("mse", image.squared_error)),
        (settings.mae, MeanLoss("mae", image.absolute_error)),
        (settings.ms_ssim, MeanLoss("ms_ssim", image.dissimilarity)),
        (settings.gradient_difference, MeanLoss("gradient_difference", image.gradient_difference)),
    ]
    if (
        settings.reconstruction * settings.perceptual > 0
        and settings.perceptual_weights is not None
    ):
        features = image.load_perceptual_features(settings.perceptual_weights)
        perceptual = partial(image.perceptual, features=features)
        images.append((settings.perceptual, MeanLoss("perceptual", perceptual)))
    of_objects: list[tuple[float, ObjectLoss]] = [
        (settings.offset, MeanLoss("offset", objects.offset)),
        (settings.centre, MeanLoss("centre", objects.centre)),
        (settings.motion, MeanLoss("motion", objects.motion)),
    ]
    return ClipLoss(
        _weighted(settings.mask, masks),
        _weighted(settings.reconstruction, images),
        normalisation,
        _weighted(settings.objects if tells_apart else 0.0, of_objects),
    )


def _weighted(factor: float, parts: Sequence[tuple[float, Loss]]) -> list[tuple[float, Loss]]:
    """Losses with their weights times a factor, those that then count."""
    return [(factor * weight, part) for weight, part in parts if factor * weight > 0]
