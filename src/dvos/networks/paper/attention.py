"""Spatiotemporal attention: from the maps of several frames to one map.

Maps of R frames lie behind one another along the channels, so each of the R
groups of a norm or a grouped convolution holds exactly one frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dvos.networks.paper.blocks import NORM_EPS, Activation, convolution
from dvos.networks.paper.diffusion import ForwardDiffusion

__all__ = ["SkipAttention", "SpatiotemporalAttention"]


class SpatiotemporalAttention(nn.Module):
    """Two gates on the maps of several frames, over places and over channels.

    Args:
        channels: Of all frames together.
        frames: Number of frames.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.norm_act = nn.Sequential(nn.GroupNorm(frames, channels, NORM_EPS), Activation())
        self.spatial = nn.Sequential(
            convolution(channels, channels, groups=frames),
            convolution(channels, channels, 1),
            nn.GroupNorm(frames, channels, NORM_EPS),
            Activation(),
            convolution(channels, channels, dilation=2, padding=2, bias=True),
            convolution(channels, channels, 1, groups=frames),
            nn.GroupNorm(frames, channels, NORM_EPS),
        )
        self.temporal = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, channels // 2, bias=False),
            nn.LayerNorm(channels // 2),
            Activation(),
            nn.Linear(channels // 2, channels, bias=False),
            nn.LayerNorm(channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise, and open the gates.

        Args:
            x: (B, R*C, H, W).

        Returns:
            The normalised maps times the gate over places, (B, R*C, H, W), and
            the gate over channels, (B, R*C), yet to be multiplied with them.
        """
        x = self.norm_act(x)
        gate: Tensor = self.spatial(x)
        if torch.is_grad_enabled():
            return gate.sigmoid() * x, self.temporal(x)
        return gate.sigmoid_().mul_(x), self.temporal(x)


class SkipAttention(nn.Module):
    """Attention, mean over runs of R adjacent channels, noise, channel dropout.

    Args:
        channels: Of one frame; of the result, too.
        frames: Number of frames R.
        beta: Parameters of the noise's strength; None for no noise.
        dropout: Probability that a channel is dropped in training.
        diffuse_in_evaluation: Whether noise is added in evaluation, too.
    """

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
        runs = torch.eye(channels).repeat_interleave(frames, 0) / frames
        self.register_buffer("runs", runs, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, R*C, H, W) to (B, C, H, W)."""
        gated, channel_gate = self.attention(x)
        # Gate over channels and mean over runs are one matrix (R*C, C) of each
        # clip: a product with it reads the large map only once.
        mixing = channel_gate[:, :, None] * self.get_buffer("runs")
        batch, _, height, width = gated.shape
        pixels = gated.permute(0, 2, 3, 1).reshape(batch, height * width, -1)
        x = (pixels @ mixing).view(batch, height, width, -1).permute(0, 3, 1, 2)
        if self.diffusion is not None and (self.training or self.diffuse_in_evaluation):
            x = self.diffusion(x)
        result: Tensor = self.dropout(x)
        return result
