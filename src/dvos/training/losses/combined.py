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
Weighted = Sequence[tuple[float, Loss]]


@dataclass(frozen=True)
class LossParts:
    """A loss, scalar, and the parts, without weights, of which it is the weighted sum."""

    loss: Tensor
    parts: dict[str, Tensor]

    def detached(self) -> Tensor:
        """Loss and parts as float64, in the order of :attr:`ClipLoss.names`, where they are."""
        values = torch.stack([self.loss, *self.parts.values()]).detach()
        # Apple's devices have no float64.
        return (values.cpu() if values.device.type == "mps" else values).double()


class ClipLoss:
    """A weighted sum of losses of the mask (at least one), the reconstruction and the objects.

    Attributes:
        names: ``loss``, then the name of each part.
        reconstructs: Whether the network's reconstruction counts at all.
    """

    def __init__(
        self,
        mask: Weighted[MaskLoss],
        reconstruction: Weighted[ImageLoss],
        normalisation: Normalisation,
        objects: Weighted[ObjectLoss] = (),
    ) -> None:
        self._mask, self._image, self._objects = mask, reconstruction, objects
        self._parts = (*mask, *reconstruction, *objects)
        self._normalisation = normalisation
        self.names = ("loss", *(part.name for _, part in self._parts))
        self.reconstructs = bool(reconstruction)

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
            target: (B, 1, H, W), 0 or 1; anything where ``weight`` is 0.
            weight: (B, 1, H, W), >= 0; 0 where the label is unknown.
            reconstruction: (B, 3, H, W), normalised; required where it counts.
            query: (B, 3, H, W), what the reconstruction should be.
            objects: What is told of objects, and what is true; required where it counts.
        """
        sums: Sums = {}
        # Means of squares less squares of means need more digits than autocast keeps.
        with torch.autocast(mask_logits.device.type, enabled=False):
            masks = MaskBatch.of(mask_logits, target, weight)
            for _, loss in self._mask:
                sums |= loss.sums(masks)
            if self._image:
                if reconstruction is None or query is None:
                    raise ValueError("the loss needs a reconstruction and the network gives none")
                images = ImageBatch(reconstruction.float(), query.float(), self._normalisation)
                for _, image_loss in self._image:
                    sums |= image_loss.sums(images)
            if self._objects:
                if objects is None:
                    raise ValueError("the loss needs objects and the network tells none apart")
                for _, object_loss in self._objects:
                    sums |= object_loss.sums(objects)
        return sums

    def __call__(self, sums: Sums) -> LossParts:
        """The loss of a batch of these sums."""
        parts = {part.name: part.value(sums) for _, part in self._parts}
        total = next(iter(sums.values())).new_zeros(())
        for weight, part in self._parts:
            total = total + weight * parts[part.name]
        return LossParts(total, parts)


def build_loss(
    settings: LossSettings, normalisation: Normalisation, *, tells_apart: bool = False
) -> ClipLoss:
    """The loss of these settings, for a network that may tell objects apart."""
    focal = partial(mask.focal, alpha=settings.focal_alpha, gamma=settings.focal_gamma)
    alpha, beta, gamma = settings.tversky_alpha, settings.tversky_beta, settings.focal_tversky_gamma
    tversky = partial(mask.tversky, alpha=alpha, beta=beta)
    focal_tversky = partial(mask.focal_tversky, alpha=alpha, beta=beta, gamma=gamma)
    masks: Weighted[MaskLoss] = [
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
    weights = settings.perceptual_weights
    if settings.reconstruction * settings.perceptual > 0 and weights is not None:
        perceptual = partial(image.perceptual, features=image.load_perceptual_features(weights))
        images.append((settings.perceptual, MeanLoss("perceptual", perceptual)))
    of_objects: Weighted[ObjectLoss] = [
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


def _weighted(factor: float, parts: Weighted[Loss]) -> Weighted[Loss]:
    """Losses with their weights times a factor, those that then count."""
    return [(factor * weight, part) for weight, part in parts if factor * weight > 0]
