"""What a run minimises and is measured by: the one thing in which networks differ in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.config.training import LossSettings, TrainingSettings
from dvos.media.grouping import ObjectMaps
from dvos.networks.spec import OBJECTS, Normalisation
from dvos.training import losses
from dvos.training.losses import AddOver, ImageLoss, MaskLoss, MeanLoss, ObjectBatch, Sums
from dvos.training.networks import tells_apart

Batch = dict[str, Tensor]
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
    """A weighted sum of losses of the mask (at least one), the reconstruction and the objects."""

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

        The first three are (B, 1, H, W): the target is 0 or 1, anything where ``weight`` is 0 as
        the label is unknown. Reconstruction and query are normalised (B, 3, H, W); what of these
        and of the objects does not count may be missing.
        """
        sums: Sums = {}
        # Means of squares less squares of means need more digits than autocast keeps.
        with torch.autocast(mask_logits.device.type, enabled=False):
            masks = losses.MaskBatch.of(mask_logits, target, weight)
            for _, loss in self._mask:
                sums |= loss.sums(masks)
            if self._image:
                if reconstruction is None or query is None:
                    raise ValueError("the loss needs a reconstruction and the network gives none")
                made, seen = reconstruction.float(), query.float()
                images = losses.ImageBatch(made, seen, self._normalisation)
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
    focal = partial(losses.focal, alpha=settings.focal_alpha, gamma=settings.focal_gamma)
    alpha, beta, gamma = settings.tversky_alpha, settings.tversky_beta, settings.focal_tversky_gamma
    tversky = partial(losses.tversky, alpha=alpha, beta=beta)
    focal_tversky = partial(losses.focal_tversky, alpha=alpha, beta=beta, gamma=gamma)
    masks: Weighted[MaskLoss] = [
        (settings.bce, MeanLoss("bce", losses.cross_entropy)),
        (settings.dice, losses.OverlapLoss("soft_dice", losses.soft_dice)),
        (settings.iou, losses.OverlapLoss("soft_iou", losses.soft_iou)),
        (settings.tversky, losses.OverlapLoss("tversky", tversky)),
        (settings.focal, MeanLoss("focal", focal)),
        (settings.focal_tversky, losses.OverlapLoss("focal_tversky", focal_tversky)),
    ]
    images: list[tuple[float, ImageLoss]] = [
        (settings.mse, MeanLoss("mse", partial(losses.error, of=F.mse_loss))),
        (settings.mae, MeanLoss("mae", partial(losses.error, of=F.l1_loss))),
        (settings.ms_ssim, MeanLoss("ms_ssim", losses.dissimilarity)),
        (settings.gradient_difference, MeanLoss("gradient_difference", losses.gradient_difference)),
    ]
    weights = settings.perceptual_weights
    if settings.reconstruction * settings.perceptual > 0 and weights is not None:
        perceptual = partial(losses.perceptual, features=losses.load_perceptual_features(weights))
        images.append((settings.perceptual, MeanLoss("perceptual", perceptual)))
    of_objects: Weighted[ObjectLoss] = [
        (settings.offset, MeanLoss("offset", losses.offset)),
        (settings.centre, MeanLoss("centre", losses.centre)),
        (settings.motion, MeanLoss("motion", losses.motion)),
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


@dataclass(frozen=True)
class Measures:
    """What validation found."""

    losses: dict[str, float]  # Mean over the clips of the loss and each part, by name.
    dice: float  # Of all pixels with a known label together, at threshold 0.5.
    iou: float  # Likewise.


@dataclass(frozen=True)
class SegmentedClip:
    """A clip and what the network made of it, on the CPU, float32, without batch axis."""

    query: Tensor  # (3, H, W), normalised.
    target: Tensor  # (1, H, W).
    weight: Tensor  # (1, H, W).
    probability: Tensor  # (1, H, W).
    #: What it says of the objects; None of networks that tell none apart.
    maps: ObjectMaps | None = None


class Objective(ABC):
    """How a network learns from a batch, and how good it is on validation clips."""

    names: tuple[str, ...]  # ``loss``, then the name of each part.
    #: Whether passes do the same work whatever the step and the batch holds, and never wait for the
    #: device: on a GPU a pass is then recorded once and replayed.
    steady = False
    #: Parts of the network that none of its losses reaches.
    unlearnt: tuple[str, ...] = ()

    @abstractmethod
    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """What to take the gradient of, and the values of the loss and its parts.

        The batch is this device's share of the clips at a step, from 0; ``add`` adds a tensor over
        the devices. The mean of their gradients is that of the whole batch. The values are of the
        whole batch, float64, in the order of ``names``, on the batch's device so that none waits.
        """

    @abstractmethod
    def judge(self, network: nn.Module, item: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Losses (L,) of a validation clip, and :func:`pixel_counts`, (3,)."""

    @abstractmethod
    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """What the network makes of one validation clip, for a picture."""

    @torch.no_grad()
    def measure(
        self,
        network: nn.Module,
        clips: Dataset[Batch],
        indices: Sequence[int],
        *,
        device: torch.device,
        add: AddOver,
    ) -> Measures:
        """Measure a network on this device's clips, whole frames of which each counts alike."""
        sums, one = torch.zeros(len(self.names) + 4).double(), torch.ones(1).double()
        for index in indices:
            of_clip, pixels = self.judge(network, clips[index], device)
            sums += torch.cat([of_clip.cpu(), pixels.cpu().double(), one])
        total = add(sums)
        overlap, predicted, true, number = total[-4:].tolist()
        both = predicted + true
        return Measures(
            dict(zip(self.names, (total[:-4] / number).tolist(), strict=True)),
            2 * overlap / both if both else 1.0,
            overlap / (both - overlap) if both - overlap else 1.0,
        )


def pixel_counts(found: Tensor, true: Tensor) -> Tensor:
    """Pixels where object was found and is, where it was found, and where it is, (3,)."""
    return torch.stack([mask.sum() for mask in (found & true, found, true)])


class QueryObjective(Objective):
    """The mask of a clip's last frame, and what else the loss takes of a ``QueryTarget``."""

    steady = True

    def __init__(self, loss: ClipLoss, unlearnt: tuple[str, ...] = ()) -> None:
        self._loss, self.unlearnt = loss, unlearnt
        self.names = loss.names

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """One pass; the loss is that of the whole batch, however many devices share it."""
        del step
        _, sums = self._pass(module, batch)
        if devices > 1:
            sums = losses.over_devices(sums, add)
        parts = self._loss(sums)
        # Gradients are averaged over devices, of which each holds its own share of their sum.
        return parts.loss * devices, parts.detached()

    def _pass(self, module: Callable[..., Any], batch: Batch) -> tuple[Tensor, Sums]:
        """Logits of the mask, and the sums of the loss."""
        frames, target, weight = batch["frames"], batch["target"], batch["weight"]
        outputs = module(frames, reconstruct=self._loss.reconstructs)
        logits = outputs.mask_logits
        told = None
        if OBJECTS in outputs.others and OBJECTS in batch:
            told = ObjectBatch(outputs.others[OBJECTS].float(), batch[OBJECTS])
        seen = outputs.reconstruction, frames[:, -1]
        return logits, self._loss.sums(logits, target, weight, *seen, told)

    def judge(self, network: nn.Module, item: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of all pixels of the query whose label is known."""
        batch = {key: value[None].to(device) for key, value in item.items()}
        logits, sums = self._pass(network, batch)
        known = batch["weight"] > 0
        found = (logits > 0) & known  # a probability of one half
        true = (batch["target"] > 0.5) & known
        return self._loss(sums).detached(), pixel_counts(found, true)

    @torch.no_grad()
    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """The query."""
        outputs = network(item["frames"][None].to(device), reconstruct=False)
        probability = torch.sigmoid(outputs.mask_logits)[0].float().cpu()
        told = outputs.others.get(OBJECTS)
        maps = None if told is None else ObjectMaps.of(told[0].float().cpu().numpy())
        return SegmentedClip(item["frames"][-1], item["target"], item["weight"], probability, maps)


def build_query_objective(
    settings: TrainingSettings, normalisation: Normalisation
) -> QueryObjective:
    """What networks minimise that learn from the query's mask and, where asked, its objects."""
    apart = tells_apart(settings.network)
    loss = build_loss(settings.losses, normalisation, tells_apart=apart)
    # A frame alone shows no motion.
    of_objects = {"offset", "centre"} | ({"motion"} if settings.network.references else set())
    return QueryObjective(loss, () if of_objects.intersection(loss.names) else (OBJECTS,))
