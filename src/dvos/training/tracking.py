"""What XMem minimises, and how it is measured: all frames of a clip after the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.config.training import TrainingSettings
from dvos.networks.spec import Normalisation
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMem
from dvos.training.losses.bootstrapped import BootstrappedLoss
from dvos.training.losses.sums import AddOver
from dvos.training.measure import Measures, SegmentedClip
from dvos.training.targets import IGNORED_CLASS

__all__ = ["TrackingObjective", "build_tracking_objective"]

Batch = dict[str, Tensor]

# Apart from the streams of clips, which are numbered from 0.
_DEEP = 2**32


def build_tracking_objective(
    settings: TrainingSettings, normalisation: Normalisation
) -> TrackingObjective:
    """What XMem minimises and is measured by, whatever the normalisation."""
    del normalisation
    chosen = settings.xmem
    start, end = chosen.warm_up
    return TrackingObjective(
        BootstrappedLoss(start_warm=start, end_warm=end, top=chosen.hardest),
        objects=chosen.max_objects if chosen.objects == "instances" else 1,
        deep_updates=chosen.deep_updates,
        frames=chosen.frames,
        seed=settings.seed,
    )


class TrackingObjective:
    """The masks of all frames of a clip, the first frame's being given.

    Items are those of :class:`~dvos.training.targets.TrackTarget`.

    Args:
        loss: Of one frame.
        objects: Objects N that a batch has room for.
        deep_updates: Share of the frames whose values the sensory state learns
            from; of the first it always does.
        frames: Of a training clip, so that validation can tell losses of as many.
        seed: Of what is drawn for a step.
    """

    def __init__(
        self,
        loss: BootstrappedLoss,
        *,
        objects: int,
        deep_updates: float,
        frames: int,
        seed: int,
    ) -> None:
        self._loss = loss
        self._objects = objects
        self._deep_updates = deep_updates
        self._frames = frames
        self._seed = seed

    @property
    def names(self) -> tuple[str, ...]:
        """``loss`` and its two parts, each summed over the frames."""
        return ("loss", "cross_entropy", "soft_dice")

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """See :class:`~dvos.training.objective.Objective`."""
        target, counts = batch["target"], batch["count"]
        # The same on all devices and in all parts of a batch.
        rng = np.random.default_rng([self._seed, step, _DEEP])
        deepens = [True, *(rng.random(target.shape[1] - 1) < self._deep_updates).tolist()]
        masks = _planes(target[:, 0], self._objects)
        logits, probability = module(batch["frames"], masks, counts, batch["memory"], deepens)
        real = counts.tolist()
        cross_entropy = logits.new_zeros(())
        dice = logits.new_zeros(())
        for moment in range(1, target.shape[1]):
            truth = target[:, moment]
            # Where the label is unknown, nothing may be found.
            found = probability[:, moment - 1, 1:] * (truth != IGNORED_CLASS)[:, None]
            part = self._loss(logits[:, moment - 1], found, truth, real, step)
            cross_entropy = cross_entropy + part.cross_entropy
            dice = dice + part.dice
        loss = cross_entropy + dice
        values = torch.stack([loss, cross_entropy, dice]).detach().cpu().double()
        if devices > 1:
            values = add(values) / devices
        # Every clip counts alike, so the mean of the devices' means is the batch's.
        return loss, values

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
        """Scores of the objects together, over all labelled frames after each clip's first."""
        counts = torch.zeros(3, dtype=torch.float64)
        losses = torch.zeros(3, dtype=torch.float64)
        for index in indices:
            item = clips[index]
            target = item["target"]
            parts: list[Tensor] = []
            for moment, found in enumerate(_followed(network, item["frames"], target, device)):
                truth = target[moment]
                if moment == 0 or not bool((truth != IGNORED_CLASS).any()):
                    continue
                known = truth != IGNORED_CLASS
                mask = (found > 0.5) & known
                there = (truth == 1) & known
                counts += torch.stack([(mask & there).sum(), mask.sum(), there.sum()]).double()
                parts.append(_frame_losses(found[known], there[known].float()))
            losses[1:] += torch.stack(parts).mean(0) * (self._frames - 1)
        losses[0] = losses[1:].sum()
        total = add(torch.cat([losses, counts, torch.tensor([float(len(indices))]).double()]))
        overlap, found_area, true_area, clip_count = total[3:].tolist()
        both = found_area + true_area
        return Measures(
            dict(zip(self.names, (total[:3] / clip_count).tolist(), strict=True)),
            2 * overlap / both if both else 1.0,
            overlap / (both - overlap) if both - overlap else 1.0,
        )

    @torch.no_grad()
    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """The last labelled frame of a validation clip."""
        target = item["target"]
        last = max(t for t in range(len(target)) if bool((target[t] != IGNORED_CLASS).any()))
        found = list(_followed(network, item["frames"][: last + 1], target, device))[-1]
        return SegmentedClip(
            item["frames"][last],
            (target[last] == 1)[None].float(),
            (target[last] != IGNORED_CLASS)[None].float(),
            found[None],
        )


def _planes(target: Tensor, objects: int) -> Tensor:
    """(B, H, W) of object numbers as (B, N, H, W) of masks, float32."""
    numbers = torch.arange(1, objects + 1, device=target.device)
    return (target[:, None] == numbers[:, None, None]).float()


def _followed(network: nn.Module, frames: Tensor, target: Tensor, device: torch.device) -> Any:
    """Probability of the objects together, (H, W) on the CPU, frame by frame."""
    assert isinstance(network, XMem)
    engine = XMemEngine(network, settings=MemorySettings())
    given = (target[0] == 1)[None].float().to(device)
    for moment, frame in enumerate(frames):
        last = moment == len(frames) - 1
        mask = None if moment else given
        probability = engine.step(frame.to(device), mask, None if moment else [1], end=last)
        yield probability[1].float().cpu()


def _frame_losses(found: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of one frame's known pixels."""
    entropy = F.binary_cross_entropy(found.clamp(1e-7, 1 - 1e-7), truth)
    overlap = 2 * (found * truth).sum() + 1
    return torch.stack([entropy, 1 - overlap / (found.sum() + truth.sum() + 1)]).double()
