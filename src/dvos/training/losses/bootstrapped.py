"""The loss of XMem's training: cross-entropy of the hardest pixels, and Dice.

The share of pixels that count falls from all of them to the hardest 15 % while
the network warms up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BootstrappedLoss", "FrameLoss"]


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
        return FrameLoss(torch.stack(entropies).mean(), _dice(probability.float(), target), share)

    def _hardest(self, logits: Tensor, target: Tensor, share: float, iteration: int) -> Tensor:
        if iteration < self.start_warm:
            return F.cross_entropy(logits, target)
        losses = F.cross_entropy(logits, target, reduction="none").flatten()
        count = max(1, int(losses.numel() * share))
        return losses.topk(count, sorted=False).values.mean()


def _dice(probability: Tensor, target: Tensor) -> Tensor:
    """1 - (2 |P T| + 1) / (|P| + |T| + 1), mean over clips and objects."""
    ids = torch.arange(1, probability.shape[1] + 1, device=target.device)
    truth = (target[:, None] == ids[:, None, None]).to(probability.dtype).flatten(2)
    found = probability.flatten(2)
    overlap = 2 * (found * truth).sum(-1) + 1
    return (1 - overlap / (found.sum(-1) + truth.sum(-1) + 1)).mean()
