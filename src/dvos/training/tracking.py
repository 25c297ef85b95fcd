"""What XMem minimises, and how it is measured: all frames of a clip after the first.

The loss of a frame is the cross-entropy of its hardest pixels, and Dice. The share of pixels that
count falls from all of them to the hardest 15 % while the network warms up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.config.training import TrainingSettings
from dvos.networks.spec import Normalisation
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMem
from dvos.training.losses import AddOver, soft_dice
from dvos.training.objective import Batch, Objective, SegmentedClip, pixel_counts
from dvos.training.targets import IGNORED_CLASS

# Apart from the streams of clips, which are numbered from 0.
_DEEP = 2**32


def build_tracking_objective(settings: TrainingSettings, _: Normalisation) -> TrackingObjective:
    """What XMem minimises and is measured by, whatever the normalisation."""
    chosen = settings.xmem
    return TrackingObjective(
        BootstrappedLoss(*chosen.warm_up, chosen.hardest),
        objects=chosen.max_objects if chosen.objects == "instances" else 1,
        deep_update_prob=chosen.deep_update_prob,
        frames=chosen.frames,
        seed=settings.seed,
    )


@dataclass(frozen=True)
class TrackingObjective(Objective):
    """The masks of all frames but the first, by :class:`~dvos.training.targets.TrackTarget`."""

    names = ("loss", "cross_entropy", "soft_dice")
    loss: BootstrappedLoss  # Of one frame.
    objects: int  # That a batch has room for.
    #: Share of the frames whose values the sensory state learns from; of the first it always does.
    deep_update_prob: float
    frames: int  # Of a training clip, so that validation can tell losses of as many.
    seed: int  # Of what is drawn for a step.

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """One pass over the clips' frames; what is drawn is the same on all devices."""
        target, counts = batch["target"], batch["count"]
        # The same on all devices and in all parts of a batch.
        rng = np.random.default_rng([self.seed, step, _DEEP])
        deepens = [True, *(rng.random(target.shape[1] - 1) < self.deep_update_prob).tolist()]
        masks = _planes(target[:, 0], self.objects)
        logits, probability = module(batch["frames"], masks, counts, batch["memory"], deepens)
        real = counts.tolist()
        entropy = dice = logits.new_zeros(())
        for moment in range(1, target.shape[1]):
            truth = target[:, moment]
            # Where the label is unknown, nothing may be found.
            found = probability[:, moment - 1, 1:] * (truth != IGNORED_CLASS)[:, None]
            parts = self.loss(logits[:, moment - 1], found, truth, real, step)
            entropy, dice = entropy + parts[0], dice + parts[1]
        loss = entropy + dice
        values = torch.stack([loss, entropy, dice]).detach().cpu().double()
        if devices > 1:
            values = add(values) / devices
        # Every clip counts alike, so the mean of the devices' means is the batch's.
        return loss, values

    def judge(self, network: nn.Module, item: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of the objects together, in all labelled frames after the first."""
        target = item["target"]
        losses: list[Tensor] = []
        counts = torch.zeros(3, dtype=torch.float64)
        for moment, found in enumerate(_followed(network, item["frames"], target, device)):
            known = target[moment] != IGNORED_CLASS
            if moment == 0 or not bool(known.any()):
                continue
            mask, true = (found > 0.5) & known, target[moment] == 1
            counts += pixel_counts(mask, true)
            probability, truth = found[known], true[known].float()
            entropy = F.binary_cross_entropy(probability.clamp(1e-7, 1 - 1e-7), truth)
            losses.append(torch.stack([entropy, _dice(probability, truth)]).double())
        mean = torch.stack(losses).mean(0) * (self.frames - 1)
        return torch.cat([mean.sum()[None], mean]), counts

    @torch.no_grad()
    def segment(self, network: nn.Module, item: Batch, device: torch.device) -> SegmentedClip:
        """The last labelled frame of a validation clip."""
        target = item["target"]
        last = max(t for t in range(len(target)) if bool((target[t] != IGNORED_CLASS).any()))
        *_, found = _followed(network, item["frames"][: last + 1], target, device)
        true, known = (x[None].float() for x in (target[last] == 1, target[last] != IGNORED_CLASS))
        return SegmentedClip(item["frames"][last], true, known, found[None])


def _planes(target: Tensor, objects: int) -> Tensor:
    """(B, H, W) of object numbers as (B, N, H, W) of masks, float32."""
    numbers = torch.arange(1, objects + 1, device=target.device)
    return (target[:, None] == numbers[:, None, None]).float()


def _followed(
    network: nn.Module, frames: Tensor, target: Tensor, device: torch.device
) -> Iterator[Tensor]:
    """Probability of the objects together, (H, W) on the CPU, frame by frame."""
    assert isinstance(network, XMem)
    engine = XMemEngine(network, settings=MemorySettings())
    given = (target[0] == 1)[None].float().to(device)
    for moment, frame in enumerate(frames):
        last = moment == len(frames) - 1
        mask = None if moment else given
        probability = engine.step(frame.to(device), mask, None if moment else [1], end=last)
        yield probability[1].float().cpu()


def _dice(found: Tensor, truth: Tensor) -> Tensor:
    """Of each mask (..., pixels)."""
    return soft_dice((found * truth).sum(-1), found.sum(-1), truth.sum(-1))


@dataclass(frozen=True)
class BootstrappedLoss:
    """Cross-entropy of the hardest pixels, and Dice.

    All pixels count before iteration ``start_warm``, the share ``top`` from ``end_warm`` on, and
    between a share that falls linearly.
    """

    start_warm: int = 20_000
    end_warm: int = 70_000
    top: float = 0.15

    def share(self, iteration: int) -> float:
        """Share of pixels that count at an iteration."""
        if iteration < self.start_warm:
            return 1.0
        if iteration >= self.end_warm:
            return self.top
        left = (self.end_warm - iteration) / (self.end_warm - self.start_warm)
        return self.top + (1 - self.top) * left

    def __call__(
        self,
        logits: Tensor,
        probability: Tensor,
        target: Tensor,
        object_counts: Sequence[int],
        iteration: int,
    ) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy and Dice of one frame of each clip, to be added.

        Logits are (B, N + 1, H, W), background first; the objects' probability (B, N, H, W); the
        target (B, H, W) integer: 0 background, i the i-th object. Of each clip so many of its N
        objects as counted are real; the others' logits do not compete.
        """
        entropies = []
        for clip, truth, real in zip(logits.float(), target.long(), object_counts, strict=True):
            clip, truth = clip[None, : real + 1], truth[None]
            # On a GPU only the losses of single pixels are the same bits each time.
            losses = F.cross_entropy(clip, truth, reduction="none").flatten()
            if iteration < self.start_warm:
                entropies.append(losses.sum() / (truth != IGNORED_CLASS).sum())
                continue
            count = max(1, int(losses.numel() * self.share(iteration)))
            entropies.append(losses.topk(count, sorted=False).values.mean())
        planes = _planes(target, probability.shape[1])
        dice = _dice(probability.float().flatten(2), planes.flatten(2))
        return torch.stack(entropies).mean(), dice.mean()
