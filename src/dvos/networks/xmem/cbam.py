"""Convolutional block attention: Woo et al., ECCV 2018 (arXiv 1807.06521).

The names of the submodules are part of the keys of published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["BlockAttention"]

_REDUCTION = 16
_KERNEL = 7


class BlockAttention(nn.Module):
    """A gate on channels, then a gate on places.

    Args:
        channels: Of the map; at least 16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = _ChannelGate(channels)
        self.SpatialGate = _SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        gated: Tensor = self.SpatialGate(self.ChannelGate(x))
        return gated


class _ChannelGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // _REDUCTION)
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * gate.sigmoid()[:, :, None, None]


class _SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.ModuleDict({"conv": nn.Conv2d(2, 1, _KERNEL, padding=_KERNEL // 2)})

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.stack((x.amax(1), x.mean(1)), 1)
        gate: Tensor = self.spatial["conv"](seen)
        return x * gate.sigmoid()
