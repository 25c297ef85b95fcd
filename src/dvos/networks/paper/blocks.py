"""Residual, down-sampling and up-sampling blocks of the published network.

The indices inside each ``nn.Sequential`` are part of the state-dict keys of
published checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NORM_EPS", "Activation", "Downsample", "ResidualBlock", "Upsample", "convolution"]

NORM_EPS = 1e-6


def convolution(inputs: int, outputs: int, kernel: int = 3, **options: int | bool) -> nn.Conv2d:
    """A convolution that keeps the size; without bias unless asked for."""
    options = {"padding": kernel // 2, "bias": False} | options
    return nn.Conv2d(inputs, outputs, kernel, **options)  # type: ignore[arg-type]


class Activation(nn.Module):
    """SiLU of the output of a norm, which nothing else looks at.

    Without gradients it overwrites its input: the large maps cost more time
    to allocate than to compute.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return F.silu(x, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """Twice GroupNorm, SiLU and a 3x3 convolution, beside a shortcut.

    Args:
        inputs: Channels in; a multiple of ``groups``.
        outputs: Channels out; a multiple of ``groups``.
        groups: Of the norms.
    """

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(groups, inputs, NORM_EPS),
            Activation(),
            convolution(inputs, outputs),
            nn.GroupNorm(groups, outputs, NORM_EPS),
            Activation(),
            convolution(outputs, outputs),
        )
        self.shortcut = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        result: Tensor = self.block(x)
        straight: Tensor = self.shortcut(x)
        if straight.dtype != result.dtype:  # mixed precision: the sum keeps the wider type
            return result + straight
        # Into the block's own output, which no gradient needs.
        return result.add_(straight)


class Downsample(nn.Module):
    """GroupNorm, SiLU and a 3x3 convolution of stride 2."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            nn.GroupNorm(groups, channels, NORM_EPS),
            Activation(),
            convolution(channels, channels, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / 2, W / 2)."""
        result: Tensor = self.downsample(x)
        return result


class Upsample(nn.Module):
    """GroupNorm, SiLU, each pixel repeated to 2x2, and a 3x3 convolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            nn.GroupNorm(groups, channels, NORM_EPS),
            Activation(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            convolution(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        if torch.is_grad_enabled():
            result: Tensor = self.upsample(x)
            return result
        convolve = self.upsample[-1]
        assert isinstance(convolve, nn.Conv2d)
        return _repeated_and_convolved(self.upsample[:2](x), convolve.weight)


def _repeated_and_convolved(x: Tensor, weight: Tensor) -> Tensor:
    """What a 3x3 convolution makes of ``x`` repeated to 2x2, with 4/9 of its products.

    Of the nine weights over an output pixel, those that fall on copies of the
    same input pixel are added up; four 2x2 convolutions of the small map are
    left, one for each of an output pixel's places in its 2x2 cell.
    """
    batch, _, height, width = x.shape
    outputs = weight.shape[0]
    rows = (weight[:, :, 0], weight[:, :, 1] + weight[:, :, 2])
    rows_below = (weight[:, :, 0] + weight[:, :, 1], weight[:, :, 2])
    phases = []
    for row_pair in (rows, rows_below):
        two = torch.stack(row_pair, 2)  # (O, C, 2, 3)
        phases.append(torch.stack((two[..., 0], two[..., 1] + two[..., 2]), 3))
        phases.append(torch.stack((two[..., 0] + two[..., 1], two[..., 2]), 3))
    merged = torch.cat(phases).contiguous(memory_format=torch.channels_last)
    parts = F.conv2d(x, merged, padding=1)
    result = torch.empty(
        (batch, outputs, 2 * height, 2 * width),
        dtype=parts.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    for place in range(4):
        down, right = divmod(place, 2)
        part = parts[:, place * outputs : (place + 1) * outputs]
        result[..., down::2, right::2] = part[..., down : down + height, right : right + width]
    return result
