"""Blocks that work on a frame's own map and on the maps of each object in it.

Maps of objects are (B * N, C, h, w), clip by clip; maps of frames (B, C, h, w).
What depends on the frame alone is computed once for all its objects.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem.cbam import BlockAttention
from dvos.networks.xmem.convolution import JoinedConvolution, convolve

__all__ = ["FusionBlock", "GatedUpdate", "ResidualBlock", "UpsampleBlock", "spread"]


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def spread(frame_map: Tensor, objects: int) -> Tensor:
    """Repeat a frame's map for its objects: (B, C, h, w) to (B * objects, C, h, w)."""
    return frame_map if objects == 1 else frame_map.repeat_interleave(objects, 0)


class ResidualBlock(nn.Module):
    """Twice ReLU and a 3x3 convolution, beside a shortcut; no norms.

    Args:
        inputs: Channels in.
        outputs: Channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = None if inputs == outputs else _convolution(inputs, outputs)
        self.conv1 = _convolution(inputs, outputs)
        self.conv2 = _convolution(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B * N, inputs, h, w) to (B * N, outputs, h, w); the input may be overwritten."""
        y = convolve(self.conv1, x, relu=True, relu_first=True)
        straight = x if self.downsample is None else convolve(self.downsample, x)
        return convolve(self.conv2, y, add=straight, spend=True)


class FusionBlock(nn.Module):
    """Joins the map of a frame with the maps of its objects.

    Args:
        frame_channels: Of the frame's map.
        object_channels: Of each object's map.
        inner: Channels between the two residual blocks.
        outputs: Channels out.
    """

    def __init__(self, frame_channels: int, object_channels: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.block1 = _JoiningBlock(frame_channels, object_channels, inner)
        self.attention = BlockAttention(inner)
        self.block2 = ResidualBlock(inner, outputs)

    def share(self, frame_map: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block makes of the frame alone.

        Args:
            frame_map: (B, frame_channels, h, w), nowhere negative.

        Returns:
            For the shortcut and for the first convolution, each (B, inner, h, w).
        """
        return self.block1.share(frame_map)

    def forward(self, shared: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        """Join.

        Args:
            shared: From :meth:`share`.
            x: (B * N, object_channels, h, w).

        Returns:
            (B * N, outputs, h, w).
        """
        y = self.block1(shared, x)
        result: Tensor = self.block2(y + self.attention(y))
        return result


class _JoiningBlock(nn.Module):
    """A :class:`ResidualBlock` of a frame's map and an object's, joined along the channels."""

    def __init__(self, frame_channels: int, object_channels: int, outputs: int) -> None:
        super().__init__()
        self.downsample = JoinedConvolution(frame_channels, object_channels, outputs)
        self.conv1 = JoinedConvolution(frame_channels, object_channels, outputs)
        self.conv2 = _convolution(outputs, outputs)

    def share(self, frame_map: Tensor) -> tuple[Tensor, Tensor]:
        # The map is nowhere negative, and so its own ReLU.
        return self.downsample.of_frame(frame_map), self.conv1.of_frame(frame_map)

    def forward(self, shared: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        straight, first = (spread(y, len(x) // len(y)) for y in shared)
        y = self.conv1.of_objects(x.relu(), add=first, relu=True)
        straight = self.downsample.of_objects(x, add=straight)
        return convolve(self.conv2, y, add=straight, spend=True)


class UpsampleBlock(nn.Module):
    """Doubles the objects' maps, adds the frame's finer map, and refines the sum.

    Args:
        skip_channels: Of the frame's finer map.
        inputs: Channels of the objects' maps.
        outputs: Channels out.
    """

    def __init__(self, skip_channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip_conv = _convolution(skip_channels, inputs)
        self.out_conv = ResidualBlock(inputs, outputs)

    def share(self, skip: Tensor) -> Tensor:
        """(B, skip_channels, 2h, 2w) of the frame to (B, inputs, 2h, 2w)."""
        return convolve(self.skip_conv, skip)

    def forward(self, shared: Tensor, x: Tensor) -> Tensor:
        """(B * N, inputs, h, w) to (B * N, outputs, 2h, 2w); ``shared`` is of :meth:`share`."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        # Into the new map, clip by clip: each frame's map serves all its objects.
        x.view(len(shared), -1, *x.shape[1:]).add_(shared[:, None])
        result: Tensor = self.out_conv(x)
        return result


class GatedUpdate(nn.Module):
    """A gated recurrent step of the sensory state.

    As in XMem, the new content is computed before the forget gate acts.

    Args:
        inputs: Channels of what is seen.
        hidden: Channels of the state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.transform = _convolution(inputs + hidden, 3 * hidden)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, seen: Tensor, state: Tensor) -> Tensor:
        """Seen (B * N, inputs, h, w) and state (B * N, hidden, h, w) to the next state."""
        forget, update, content = convolve(self.transform, torch.cat((seen, state), 1)).chunk(3, 1)
        forget, update = forget.sigmoid(), update.sigmoid()
        result: Tensor = forget * state * (1 - update) + update * content.tanh()
        return result
