"""The layers of the published network: blocks, attention over frames, noise on the skips.

Indices in each ``nn.Sequential`` are part of published keys. Without gradients large maps are
overwritten: they cost more to allocate than to compute. Letters: B clips, R frames that are joined,
behind one another along the channels, so that each of R groups holds one, C channels of a frame.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.spec import added, channels_last

_STEPS = 1000


def convolution(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the size; without bias unless asked for."""
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, "bias": False} | options)


class _Activation(nn.Module):
    """SiLU of the output of a norm, which nothing else looks at."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not torch.is_grad_enabled())


def _norm_act(groups: int, channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(groups, channels, 1e-6), _Activation()


class ResidualBlock(nn.Module):
    """Twice GroupNorm, SiLU and a 3x3 convolution, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *_norm_act(groups, inputs),
            convolution(inputs, outputs),
            *_norm_act(groups, outputs),
            convolution(outputs, outputs),
        )
        self.shortcut = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return added(self.block(x), self.shortcut(x))


class Downsample(nn.Module):
    """GroupNorm, SiLU and a 3x3 convolution of stride 2."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            *_norm_act(groups, channels), convolution(channels, channels, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / 2, W / 2)."""
        return cast("Tensor", self.downsample(x))


class Upsample(nn.Module):
    """GroupNorm, SiLU, each pixel repeated to 2x2, and a 3x3 convolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            *_norm_act(groups, channels),
            nn.Upsample(scale_factor=2, mode="nearest"),
            convolution(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        if torch.is_grad_enabled():
            return cast("Tensor", self.upsample(x))
        convolve = self.upsample[-1]
        assert isinstance(convolve, nn.Conv2d)
        return _repeated_and_convolved(self.upsample[:2](x), convolve.weight)


def _repeated_and_convolved(x: Tensor, weight: Tensor) -> Tensor:
    """What a 3x3 convolution makes of ``x`` repeated to 2x2, with 4/9 of its products.

    Of the nine weights over an output pixel, those on copies of the same input pixel are added up:
    four 2x2 convolutions of the small map are left, one for each place in a 2x2 cell of the output.
    """

    def pairs(w: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        one, two, three = w.unbind(axis)
        return torch.stack((one, two + three), axis), torch.stack((one + two, three), axis)

    (batch, _, height, width), outputs = x.shape, len(weight)
    # (4 * O, C, 2, 2): the four convolutions as one, padded to (4 * O, H + 1, W + 1).
    phases = [phase for rows in pairs(weight, 2) for phase in pairs(rows, 3)]
    parts = F.conv2d(x, channels_last(torch.cat(phases)), padding=1)
    size = (batch, outputs, 2 * height, 2 * width)
    last = torch.channels_last
    result = torch.empty(size, dtype=parts.dtype, device=x.device, memory_format=last)
    for place, part in enumerate(parts.chunk(4, 1)):
        down, right = divmod(place, 2)
        result[..., down::2, right::2] = part[..., down : down + height, right : right + width]
    return result


def diffusion_schedule() -> tuple[Tensor, Tensor]:
    """Shares of signal and noise at 1000 steps (Ho et al., arXiv 2006.11239, eq. 4), float32."""
    betas = torch.linspace(1e-4, 0.02, _STEPS, dtype=torch.float32)
    signal = torch.cumprod(1 - betas, 0)
    return signal.sqrt(), (1 - signal).sqrt()


class ForwardDiffusion(nn.Module):
    """Noise of a diffusion process, drawn for each clip: its step is floor(1000 * Beta(a, b))."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b
        signal, noise = diffusion_schedule()
        # Not part of the state: published checkpoints do not hold them.
        self.register_buffer("signal", signal, persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with noise."""
        # Drawn on the CPU: not every device can draw from a Beta distribution.
        share = torch.distributions.Beta(self.a, self.b).sample((len(x),))
        steps = (share * _STEPS).long().clamp(max=_STEPS - 1).to(x.device)
        tables = (self.get_buffer(name) for name in ("signal", "noise"))
        signal, noise = (table[steps].view(-1, 1, 1, 1).to(x.dtype) for table in tables)
        return signal * x + noise * torch.randn_like(x)


class SpatiotemporalAttention(nn.Module):
    """Two gates on the maps of several frames, ``channels`` of all together: places, channels."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.norm_act = nn.Sequential(*_norm_act(frames, channels))
        self.spatial = nn.Sequential(
            convolution(channels, channels, groups=frames),
            convolution(channels, channels, 1),
            *_norm_act(frames, channels),
            convolution(channels, channels, dilation=2, padding=2, bias=True),
            convolution(channels, channels, 1, groups=frames),
            nn.GroupNorm(frames, channels, 1e-6),
        )
        self.temporal = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, channels // 2, bias=False),
            nn.LayerNorm(channels // 2),
            _Activation(),
            nn.Linear(channels // 2, channels, bias=False),
            nn.LayerNorm(channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, R*C, H, W) normed and gated over places, and the gate of their channels."""
        x = self.norm_act(x)
        gate: Tensor = self.spatial(x)
        if torch.is_grad_enabled():
            return gate.sigmoid() * x, self.temporal(x)
        return gate.sigmoid_().mul_(x), self.temporal(x)


class SkipAttention(nn.Module):
    """Attention, mean over runs of R adjacent channels, noise, channel dropout."""

    def __init__(
        self,
        channels: int,
        frames: int,
        *,
        beta: tuple[float, float] | None = None,
        dropout: float = 0.0,
        diffuse_in_evaluation: bool = False,
    ) -> None:
        super().__init__()
        self.diffuse_in_evaluation = diffuse_in_evaluation
        self.attention = SpatiotemporalAttention(channels * frames, frames)
        self.diffusion = ForwardDiffusion(*beta) if beta else None
        self.dropout = nn.Dropout2d(dropout)
        # Row r*C + c of a frame's channels belongs to run (r*C + c) // R.
        channel = torch.arange(channels)
        runs = (channel.repeat_interleave(frames)[:, None] == channel) / frames
        self.register_buffer("runs", runs, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, R*C, H, W) to (B, C, H, W)."""
        gated, channel_gate = self.attention(x)
        # Gate and mean are one matrix (R*C, C) of each clip, which reads the large map once.
        mixing = channel_gate[:, :, None] * self.get_buffer("runs")
        batch, _, height, width = gated.shape
        # (B, R*C, H, W) to (B, H*W, R*C), times (B, R*C, C), and back to (B, C, H, W).
        pixels = gated.permute(0, 2, 3, 1).reshape(batch, height * width, -1)
        x = (pixels @ mixing).view(batch, height, width, -1).permute(0, 3, 1, 2)
        if self.diffusion is not None and (self.training or self.diffuse_in_evaluation):
            x = self.diffusion(x)
        return cast("Tensor", self.dropout(x))
