"""What a run minimises and is measured by: the one thing in which networks differ in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.config.training import TrainingSettings
from dvos.media.grouping import ObjectMaps
from dvos.networks.spec import OBJECTS, Normalisation
from dvos.training.losses.combined import ClipLoss, build_loss
from dvos.training.losses.mask import AddOver, Sums, over_devices
from dvos.training.losses.objects import ObjectBatch

Batch = dict[str, Tensor]

_THRESHOLD_LOGIT = 0.0  # probability 0.5


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
    """How a network learns from a batch, and how good it is on validation clips.

    Attributes:
        names: ``loss``, then the name of each part.
        steady: Whether passes do the same work whatever the step and the batch holds, and never
            wait for the device: on a GPU a pass is then recorded once and replayed.
    """

    names: tuple[str, ...]
    steady = False

    @abstractmethod
    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """What to take the gradient of, and the values of the loss and its parts.

        The mean of the devices' gradients is that of the whole batch. The values are of the whole
        batch, float64, in the order of ``names``, on the batch's device so that none waits.

        Args:
            module: The network, in training mode; it may add up gradients over devices.
            batch: This device's share of the clips.
            step: Of the run, from 0.
            devices: That share the batch alike.
            add: Adds a tensor over them.
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
        """Measure a network in evaluation mode on the clips of this device's ``indices``.

        They are whole frames of any sizes; each clip's loss counts alike.
        """
        losses = torch.zeros(len(self.names), dtype=torch.float64)
        counts = torch.zeros(3, dtype=torch.float64)
        for index in indices:
            of_clip, pixels = self.judge(network, clips[index], device)
            losses += of_clip.cpu()
            counts += pixels.cpu().double()
        total = add(torch.cat([losses, counts, torch.tensor([float(len(indices))]).double()]))
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


@torch.no_grad()
def segment_clip(network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
    """What the network makes of one validation clip."""
    frames = item["frames"][None].to(device)
    outputs = network(frames, reconstruct=False)
    probability = torch.sigmoid(outputs.mask_logits)[0].float().cpu()
    told = outputs.others.get(OBJECTS)
    maps = None if told is None else ObjectMaps.of(told[0].float().cpu().numpy())
    return SegmentedClip(item["frames"][-1], item["target"], item["weight"], probability, maps)


class QueryObjective(Objective):
    """The mask of a clip's last frame, and what else the loss takes.

    Items have frames (T, 3, H, W), target and weight (1, H, W), and objects as
    :class:`~dvos.training.losses.objects.ObjectBatch` has the truth, where the loss takes them; all
    float32.
    """

    steady = True

    def __init__(self, loss: ClipLoss) -> None:
        self._loss = loss
        self.names = loss.names

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """One pass; the loss is that of the whole batch, however many devices share it."""
        del step
        _, sums = self._pass(module, batch)
        if devices > 1:
            sums = over_devices(sums, add)
        parts = self._loss(sums)
        # Gradients are averaged over devices, yet each holds only its own
        # share of the whole batch's gradient: what is wanted is their sum.
        return parts.loss * devices, parts.detached()

    def _pass(self, module: Callable[..., Any], batch: Batch) -> tuple[Tensor, Sums]:
        """Logits of the mask, and the sums of the loss."""
        frames, target, weight = batch["frames"], batch["target"], batch["weight"]
        outputs = module(frames, reconstruct=self._loss.reconstructs)
        logits = outputs.mask_logits
        objects = None
        if OBJECTS in outputs.others and OBJECTS in batch:
            objects = ObjectBatch(outputs.others[OBJECTS].float(), batch[OBJECTS])
        image = outputs.reconstruction, frames[:, -1]
        return logits, self._loss.sums(logits, target, weight, *image, objects)

    def judge(self, network: nn.Module, item: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of all pixels of the query whose label is known."""
        batch = {key: value[None].to(device) for key, value in item.items()}
        logits, sums = self._pass(network, batch)
        known = batch["weight"] > 0
        found = (logits > _THRESHOLD_LOGIT) & known
        true = (batch["target"] > 0.5) & known
        return self._loss(sums).detached(), pixel_counts(found, true)

    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """The query."""
        return segment_clip(network, item, device)


def build_query_objective(
    settings: TrainingSettings, normalisation: Normalisation
) -> QueryObjective:
    """What networks minimise that learn from the query's mask alone."""
    return QueryObjective(build_loss(settings.losses, normalisation))


def build_object_objective(
    settings: TrainingSettings, normalisation: Normalisation
) -> QueryObjective:
    """What networks minimise that learn from the query's mask and, where asked, its objects."""
    apart = settings.network.dvos.objects is True
    return QueryObjective(build_loss(settings.losses, normalisation, tells_apart=apart))
