"""The light decoder: from fused maps of all scales to one map of stride 2, and heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.dvos.fusion import ChannelNorm

__all__ = ["Decoder", "Head"]


class _Join(nn.Module):
    """Enlarge the coarse map twice, join the finer one, and filter.

    Args:
        coarse: Channels of the coarse map.
        fine: Channels of the finer map.
        outputs: Channels out.
    """

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        # Narrowing comes before enlarging: a quarter of the positions, the same result.
        self.narrow = nn.Conv2d(coarse, outputs, 1, bias=False)
        self.filter = nn.Conv2d(outputs + fine, outputs, 3, padding=1, bias=False)
        self.norm = ChannelNorm(outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (B, coarse, H, W) and (B, fine, 2H, 2W) to (B, outputs, 2H, 2W)."""
        x = F.interpolate(self.narrow(coarse), scale_factor=2.0, mode="bilinear")
        return torch.relu(self.norm(self.filter(torch.cat([x, fine], 1))))


class Decoder(nn.Module):
    """Top-down path over the scales, coarsest first.

    Args:
        channels: Channels of the fused maps, finest (stride 2) first.
        widths: Channels after each join, finest first; one fewer than ``channels``.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        joins = []
        coarse = channels[-1]
        for fine, width in zip(reversed(channels[:-1]), reversed(widths), strict=True):
            joins.append(_Join(coarse, fine, width))
            coarse = width
        self.joins = nn.ModuleList(joins)

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Join maps (B, C, H / stride, W / stride), finest first, into one of stride 2."""
        x = fused[-1]
        for join, fine in zip(self.joins, reversed(fused[:-1]), strict=True):
            x = join(x, fine)
        return x


class Head(nn.Module):
    """One output of the network: a 3x3 convolution, enlarged to the frame.

    Args:
        channels: Channels of the decoder's map.
        outputs: Channels of the output.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H / 2, W / 2) to (B, outputs, H, W)."""
        y: Tensor = F.interpolate(self.predict(x), scale_factor=2.0, mode="bilinear")
        return y
