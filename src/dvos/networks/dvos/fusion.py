"""Fusion over time: what the reference frames add to the query, at one scale.

Tensor letters: B clips, T frames of a clip (the last is the query), R = T - 1
references, C channels, H height, W width, N frames of all clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ChannelNorm", "TemporalFusion"]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position (ConvNeXt, arXiv 2201.03545).

    It depends neither on the batch nor on the rest of the frame, so that a crop,
    a tile and a whole frame are treated alike, in training and in prediction.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        # (N, C, H, W) -> (N, H, W, C), a free view of a channels-last tensor.
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class TemporalFusion(nn.Module):
    """Join query and references of one scale, whatever the references' number.

    At each position the references are averaged with weights softmax(q . r / sqrt C),
    so that a reference showing the same thing counts most, and their largest
    responses are kept beside it. Both are symmetric in the references: one set
    of weights serves any number in any order. A depthwise convolution then lets
    neighbours correct what moved between the frames.

    Args:
        channels: C of the maps that come in and go out.
        kernel: Side of the depthwise kernel, odd.
    """

    def __init__(self, channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.mix = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.norm = ChannelNorm(channels)
        self.spread = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, frames: Sequence[Tensor]) -> Tensor:
        """Fuse a clip.

        Args:
            frames: T maps (B, C, H, W), the query last; a query without
                references is its own reference.

        Returns:
            (B, C, H, W).
        """
        query = frames[-1]
        references = frames[:-1] or frames
        # (B, R, H, W): agreement of each reference with the query.
        agreement = torch.stack([(query * reference).sum(1) for reference in references], 1)
        weights = (agreement * self.scale).softmax(1)
        average = references[0] * weights[:, :1]
        largest = references[0]
        for index, reference in enumerate(references[1:], start=1):
            average = average + reference * weights[:, index : index + 1]
            largest = torch.maximum(largest, reference)
        mixed = self.mix(torch.cat([query, average, largest], 1))
        fused: Tensor = query + self.spread(torch.relu(self.norm(mixed)))
        return fused
