"""Tiny networks for tests: fast, exact, and easy to reason about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@dataclass(frozen=True)
class FakeOutputs:
    mask_logits: Tensor


class BrightnessNetwork(nn.Module):
    """Its logits are the query's brightness plus weighted brightness of each reference.

    Every reference has a weight of its own, so that their order matters.
    ``encoded`` counts the frames encoded, ``batches`` their batch sizes.
    """

    def __init__(self, references: int = 4, reference_weight: float = 0.1) -> None:
        super().__init__()
        self.references = references
        self.reference_weight = reference_weight
        self.encoded = 0
        self.batches: list[int] = []

    def encode(self, frames: Tensor) -> list[Tensor]:
        self.encoded += len(frames)
        self.batches.append(len(frames))
        return [frames.mean(1, keepdim=True), frames[:, :2]]

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,
    ) -> FakeOutputs:
        brightness = torch.stack(list(features[0]), 1)
        steps = brightness.shape[1]
        weights = torch.arange(1, steps + 1, dtype=torch.float32) * self.reference_weight
        weights[-1] = 1.0
        logits = (brightness * weights.view(1, steps, 1, 1, 1)).sum(1)
        assert logits.shape[-2:] == size
        return FakeOutputs(logits)

    def forward(self, frames: Tensor) -> FakeOutputs:
        maps = [
            m.unflatten(0, frames.shape[:2]).unbind(1) for m in self.encode(frames.flatten(0, 1))
        ]
        return self.decode(maps, (frames.shape[-2], frames.shape[-1]))
