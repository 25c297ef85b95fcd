"""What XMem minimises, and how it is measured: all frames of a clip after the first.

The loss of a frame is the cross-entropy of its hardest pixels, and Dice. The share of pixels that
count falls from all of them to the hardest 15 % while the network warms up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from dvos.training.losses.mask import AddOver, soft_dice
from dvos.training.objective import Measures, SegmentedClip
from dvos.training.targets import IGNORED_CLASS

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
        deep_update_prob=chosen.deep_update_prob,
        frames=chosen.frames,
        seed=settings.seed,
    )


class TrackingObjective:
    """The masks of all frames of a clip, the first frame's being given.

    Items are those of :class:`~dvos.training.targets.TrackTarget`.

    Args:
        loss: Of one frame.
        objects: Objects N that a batch has room for.
        deep_update_prob: Share of the frames whose values the sensory state learns
            from; of the first it always does.
        frames: Of a training clip, so that validation can tell losses of as many.
        seed: Of what is drawn for a step.
    """

    def __init__(
        self,
        loss: BootstrappedLoss,
        *,
        objects: int,
        deep_update_prob: float,
        frames: int,
        seed: int,
    ) -> None:
        self._loss = loss
        self._objects = objects
        self._deep_update_prob = deep_update_prob
        self._frames = frames
        self._seed = seed

    @property
    def names(self) -> tuple[str, ...]:
        """``loss`` and its two parts, each summed over the frames."""
        return ("loss", "cross_entropy", "soft_dice")

    def __call__(
        self, module: Callable[..., Any], batch: Batch, *, step: int, devices: int, add: AddOver
    ) -> tuple[Tensor, Tensor]:
        """One pass over the clips' frames; what is drawn is the same on all devices."""
        target, counts = batch["target"], batch["count"]
        # The same on all devices and in all parts of a batch.
        rng = np.random.default_rng([self._seed, step, _DEEP])
        deepens = [True, *(rng.random(target.shape[1] - 1) < self._deep_update_prob).tolist()]
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
                known = target[moment] != IGNORED_CLASS
                if moment == 0 or not bool(known.any()):
                    continue
                mask, true = (found > 0.5) & known, target[moment] == 1
                counts += torch.stack([x.sum() for x in (mask & true, mask, true)]).double()
                probability, truth = found[known], true[known].float()
                entropy = F.binary_cross_entropy(probability.clamp(1e-7, 1 - 1e-7), truth)
                parts.append(torch.stack([entropy, _dice(probability, truth)]).double())
            losses[1:] += torch.stack(parts).mean(0) * (self._frames - 1)
        losses[0] = losses[1:].sum()
        return Measures.pooled(self.names, losses, counts, clips=len(indices), add=add)

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


def _dice(found: Tensor, truth: Tensor) -> Tensor:
    """Of each mask (..., pixels)."""
    return soft_dice((found * truth).sum(-1), found.sum(-1), truth.sum(-1))


@dataclass(frozen=True)
class FrameLoss:
    """The loss of one frame of a batch of clips.

    Attributes:
        cross_entropy: Mean over clips of the mean over the pixels that count.
        dice: Mean over clips and objects.
        share: Of pixels that count for the cross-entropy, in 0..1.
    """

    cross_entropy: Tensor
    dice: Tensor
    share: float

    @property
    def total(self) -> Tensor:
        """What is minimised: the sum of both."""
        return self.cross_entropy + self.dice


class BootstrappedLoss:
    """Bootstrapped cross-entropy plus Dice.

    Args:
        start_warm: Iteration until which all pixels count.
        end_warm: Iteration from which the hardest ``top`` count; between, the
            share falls linearly.
        top: Share of pixels that count at the end.

    Raises:
        ValueError: If the arguments do not fit each other.
    """

    def __init__(
        self, *, start_warm: int = 20_000, end_warm: int = 70_000, top: float = 0.15
    ) -> None:
        if not 0 <= start_warm <= end_warm:
            raise ValueError("start_warm and end_warm must be in order and not negative")
        if not 0 < top <= 1:
            raise ValueError("top must be above 0 and at most 1")
        self.start_warm = start_warm
        self.end_warm = end_warm
        self.top = top

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
    ) -> FrameLoss:
        """The loss of one frame of each clip.

        Args:
            logits: (B, N + 1, H, W), background first.
            probability: (B, N, H, W), of the objects.
            target: (B, H, W) integer: 0 background, i the i-th object.
            object_counts: For each clip, how many of its N objects are real;
                the others' logits do not compete.
            iteration: Of the training, from 0.
        """
        share = self.share(iteration)
        entropies = [
            self._hardest(clip[None, : count + 1], truth[None], share, iteration)
            for clip, truth, count in zip(logits.float(), target.long(), object_counts, strict=True)
        ]
        truth = _planes(target, probability.shape[1])
        dice = _dice(probability.float().flatten(2), truth.flatten(2))
        return FrameLoss(torch.stack(entropies).mean(), dice.mean(), share)

    def _hardest(self, logits: Tensor, target: Tensor, share: float, iteration: int) -> Tensor:
        if iteration < self.start_warm:
            return F.cross_entropy(logits, target)
        losses = F.cross_entropy(logits, target, reduction="none").flatten()
        count = max(1, int(losses.numel() * share))
        return losses.topk(count, sorted=False).values.mean()
