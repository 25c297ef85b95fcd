"""What a run minimises and is measured by: the one thing in which networks differ in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
    """What validation found.

    Attributes:
        losses: Mean over the clips of the loss and each part, by name.
        dice: Of all pixels with a known label together, at threshold 0.5.
        iou: Likewise.
    """

    losses: dict[str, float]
    dice: float
    iou: float

    @classmethod
    def pooled(
        cls, names: Sequence[str], losses: Tensor, counts: Tensor, *, clips: int, add: AddOver
    ) -> Measures:
        """Of what each device found in its clips.

        Args:
            names: Of the losses.
            losses: float64 (L,), each summed over this device's clips.
            counts: float64 (3,): pixels of overlap, of the masks found and of the true ones.
            clips: That this device measured.
            add: Adds a tensor over devices.
        """
        total = add(torch.cat([losses, counts, torch.tensor([float(clips)]).double()]))
        overlap, found, true, number = total[-4:].tolist()
        both = found + true
        union = both - overlap
        return cls(
            dict(zip(names, (total[:-4] / number).tolist(), strict=True)),
            2 * overlap / both if both else 1.0,
            overlap / union if union else 1.0,
        )


@dataclass(frozen=True)
class SegmentedClip:
    """A clip and what the network made of it, on the CPU, without batch axis.

    Attributes:
        query: float32 (3, H, W), normalised.
        target: float32 (1, H, W).
        weight: float32 (1, H, W).
        probability: float32 (1, H, W).
        maps: What it says of the objects; None of networks that tell none apart.
    """

    query: Tensor
    target: Tensor
    weight: Tensor
    probability: Tensor
    maps: ObjectMaps | None = None


class Objective(Protocol):
    """How a network learns from a batch, and how good it is on validation clips.

    One whose passes do the same work whatever the step and the batch holds, and never wait for the
    device, may say so by ``steady = True``: on a GPU a pass is then recorded once and replayed.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """``loss``, then the name of each part."""
        ...

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
        ...

    def measure(
        self,
        network: nn.Module,
        clips: Dataset[Batch],
        indices: Sequence[int],
        *,
        device: torch.device,
        add: AddOver,
    ) -> Measures:
        """Measure a network in evaluation mode on the clips of this device's ``indices``."""
        ...

    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """What the network makes of one validation clip, for a picture."""
        ...


@torch.no_grad()
def segment_clip(network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
    """What the network makes of one validation clip, for a picture."""
    frames = item["frames"][None].to(device)
    outputs = network(frames, reconstruct=False)
    probability = torch.sigmoid(outputs.mask_logits)[0].float().cpu()
    told = outputs.others.get(OBJECTS)
    maps = None if told is None else ObjectMaps.of(told[0].float().cpu().numpy())
    return SegmentedClip(item["frames"][-1], item["target"], item["weight"], probability, maps)


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


class QueryObjective:
    """The mask of a clip's last frame, and what else the loss takes.

    Items have frames (T, 3, H, W), target and weight (1, H, W), and objects as
    :class:`~dvos.training.losses.objects.ObjectBatch` has the truth, where the loss takes them; all
    float32.

    Args:
        loss: Of that mask, and of what else the network says of the frame.
    """

    segment = staticmethod(segment_clip)
    steady = True

    def __init__(self, loss: ClipLoss) -> None:
        self._loss = loss

    @property
    def names(self) -> tuple[str, ...]:
        """``loss``, then the parts that the loss has, of mask and reconstruction."""
        return self._loss.names

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
        """Loss and scores of whole frames, of any sizes; each clip's loss counts alike."""
        parts = torch.zeros(len(self.names), dtype=torch.float64)
        counts = torch.zeros(3, dtype=torch.float64)
        for index in indices:
            item = {key: value[None].to(device) for key, value in clips[index].items()}
            logits, sums = self._pass(network, item)
            parts += self._loss(sums).detached().cpu()
            known = item["weight"] > 0
            found = (logits > _THRESHOLD_LOGIT) & known
            true = (item["target"] > 0.5) & known
            counts += torch.stack([x.sum() for x in (found & true, found, true)]).cpu().double()
        return Measures.pooled(self.names, parts, counts, clips=len(indices), add=add)
