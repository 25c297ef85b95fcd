"""What a run minimises and is measured by: the one thing in which networks differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.config.training import TrainingSettings
from dvos.networks.spec import Normalisation
from dvos.training.losses.combined import ClipLoss, build_loss
from dvos.training.losses.sums import AddOver, over_devices
from dvos.training.measure import Measures, SegmentedClip, measure, segment_clip

__all__ = ["Objective", "QueryObjective", "build_query_objective"]

Batch = dict[str, Tensor]


class Objective(Protocol):
    """How a network learns from a batch, and how good it is on validation clips."""

    @property
    def names(self) -> tuple[str, ...]:
        """``loss``, then the name of each part."""
        ...

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """Run the network over a batch.

        Args:
            module: The network, in training mode; it may add up gradients over devices.
            batch: This device's share of the clips.
            step: Of the run, from 0.
            devices: That share the batch alike.
            add: Adds a tensor over them.

        Returns:
            What to take the gradient of, such that the mean of the devices'
            gradients is that of the whole batch; and the values of the loss and
            its parts over the whole batch, float64 on the CPU, in the order of
            ``names``.
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


def build_query_objective(
    settings: TrainingSettings, normalisation: Normalisation
) -> QueryObjective:
    """What networks minimise that learn from the query's mask alone."""
    norm = normalisation
    return QueryObjective(build_loss(settings.losses, mean=norm.mean, std=norm.std))


class QueryObjective:
    """The mask of a clip's last frame.

    Items have frames (T, 3, H, W), target and weight (1, H, W), float32.

    Args:
        loss: Of that mask, and of what else the network says of the frame.
    """

    def __init__(self, loss: ClipLoss) -> None:
        self._loss = loss

    @property
    def names(self) -> tuple[str, ...]:
        """See :class:`Objective`."""
        return self._loss.names

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Objective`."""
        del step
        frames = batch["frames"]
        outputs = module(frames, reconstruct=self._loss.reconstructs)
        sums = self._loss.sums(
            outputs.mask_logits,
            batch["target"],
            batch["weight"],
            outputs.reconstruction,
            frames[:, -1],
        )
        if devices > 1:
            sums = over_devices(sums, add)
        parts = self._loss(sums)
        # Gradients are averaged over devices, yet each holds only its own
        # share of the whole batch's gradient: what is wanted is their sum.
        return parts.loss * devices, parts.detached()

    def measure(
        self,
        network: nn.Module,
        clips: Dataset[Batch],
        indices: Sequence[int],
        *,
        device: torch.device,
        add: AddOver,
    ) -> Measures:
        """See :class:`Objective`."""
        return measure(network, clips, indices, loss=self._loss, device=device, add=add)

    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """See :class:`Objective`."""
        return segment_clip(network, item, device)
