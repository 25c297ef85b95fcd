"""The layers of XMem: residual networks with fixed norms, block attention, fusion, gated updates.

Names of submodules are part of the keys of published checkpoints. Letters: B frames of a batch,
N objects, C channels, H and W full size, h and w of a map. Maps of objects are (B * N, C, h, w),
frame by frame; what depends on the frame alone is computed once for all its objects.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.spec import added, folded

_convolution = partial(nn.Conv2d, kernel_size=3, padding=1)


class FixedNorm(nn.BatchNorm2d):
    """Batch norm by its stored statistics, in training too; :func:`normed` folds it away."""


def normed(convolution: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """Convolution and norm of (B, C, H, W) in one pass, whether the norm is folded yet or not."""
    if not isinstance(norm, FixedNorm):
        return cast("Tensor", convolution(x))
    assert isinstance(convolution, nn.Conv2d)
    weight, bias = folded(convolution.weight, norm)
    return F.conv2d(x, weight, bias, convolution.stride, convolution.padding)


def fold_norms(module: nn.Module) -> None:
    """Fold each :class:`FixedNorm` into its convolution for good, in float64 for top-k's sake."""
    for owner in module.modules():
        # A norm follows its convolution wherever both are registered.
        for (_, convolution), (name, norm) in pairwise(list(owner.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, FixedNorm):
                kind = convolution.weight.dtype
                weight, bias = folded(convolution.weight.double(), norm)
                convolution.weight = nn.Parameter(weight.detach().to(kind))
                convolution.bias = nn.Parameter(bias.detach().to(kind))
                setattr(owner, name, nn.Identity())


def _unbiased(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def stem(inputs: int) -> tuple[nn.Conv2d, FixedNorm]:
    """The first convolution of a residual network, 7x7 of stride 2 to 64 channels, and its norm."""
    return _unbiased(inputs, 64, 7, 2), FixedNorm(64)


def stage(
    inputs: int, width: int, blocks: int, stride: int, *, deep: bool = False
) -> nn.Sequential:
    """A run of :class:`ResNetBlock` of one width, the first of which has the stride."""
    first = ResNetBlock(inputs, width, stride, deep=deep)
    outputs = 4 * width if deep else width
    further = (ResNetBlock(outputs, width, deep=deep) for _ in range(1, blocks))
    return nn.Sequential(first, *further)


class ResNetBlock(nn.Module):
    """Convolutions with norms, ReLU between them, beside a shortcut.

    He et al. (arXiv 1512.03385), table 1: of 18 layers, two 3x3 convolutions to ``width`` channels;
    of 50, the ``deep`` one, a 1x1 and a 3x3 one to as many, and a 1x1 one to four times as many.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1, *, deep: bool = False) -> None:
        super().__init__()
        # Channels out, kernel and stride of each convolution.
        layers = [(width, 3, stride), (width, 3, 1)]
        if deep:
            layers = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
        self.depth, channels = len(layers), inputs
        for number, (outputs, kernel, step) in enumerate(layers, start=1):
            self.add_module(f"conv{number}", _unbiased(channels, outputs, kernel, step))
            self.add_module(f"bn{number}", FixedNorm(outputs))
            channels = outputs
        # The input passes as it is where it has the shape of the output.
        self.downsample = None
        if stride > 1 or inputs != channels:
            projected = _unbiased(inputs, channels, 1, stride)
            self.downsample = nn.Sequential(projected, FixedNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        numbers = range(1, self.depth + 1)
        *first, last = [(getattr(self, f"conv{k}"), getattr(self, f"bn{k}")) for k in numbers]
        y = x
        for convolution, norm in first:
            y = normed(convolution, norm, y).relu_()
        skip = self.downsample
        straight = x if skip is None else normed(skip[0], skip[1], x)
        return added(normed(*last, y), straight).relu_()


class _BlockAttention(nn.Module):
    """A gate on channels, then a gate on places (Woo et al., ECCV 2018, arXiv 1807.06521)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 16)
        mlp = (nn.Flatten(), nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels))
        self.ChannelGate = nn.ModuleDict({"mlp": nn.Sequential(*mlp)})
        places = nn.Conv2d(2, 1, 7, padding=3)
        self.SpatialGate = nn.ModuleDict({"spatial": nn.ModuleDict({"conv": places})})

    def forward(self, x: Tensor) -> Tensor:  # (B * N, C, h, w) to the same
        mlp, conv = self.ChannelGate["mlp"], self.SpatialGate["spatial"]["conv"]  # type: ignore[index]
        gate: Tensor = mlp(x.mean((2, 3))) + mlp(x.amax((2, 3)))
        x = x * gate.sigmoid()[:, :, None, None]  # (B * N, C) to (B * N, C, 1, 1)
        gate = conv(torch.stack((x.amax(1), x.mean(1)), 1))  # (B * N, 2, h, w) to (B * N, 1, h, w)
        return x * gate.sigmoid()


def repeat_for_objects(frame_map: Tensor, objects: int) -> Tensor:
    """Repeat a frame's map for its objects: (B, C, h, w) to (B * objects, C, h, w)."""
    return frame_map if objects == 1 else frame_map.repeat_interleave(objects, 0)


class ResidualBlock(nn.Module):
    """Twice ReLU and a 3x3 convolution, beside a shortcut; no norms."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = None if inputs == outputs else _convolution(inputs, outputs)
        self.conv1 = _convolution(inputs, outputs)
        self.conv2 = _convolution(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B * N, inputs, h, w) to (B * N, outputs, h, w)."""
        y = self.conv1(x.relu()).relu_()
        return added(self.conv2(y), x if self.downsample is None else self.downsample(x))


class JoinedConvolution(nn.Conv2d):
    """A 3x3 convolution of joined maps of frame and object; the frame's part is computed once."""

    def __init__(self, frame_channels: int, object_channels: int, outputs: int) -> None:
        super().__init__(frame_channels + object_channels, outputs, 3, padding=1)
        self.frame_channels = frame_channels

    def of_frame(self, x: Tensor) -> Tensor:
        """The part of (B, frame_channels, h, w), with the bias."""
        return F.conv2d(x, self.weight[:, : self.frame_channels], self.bias, padding=1)

    def of_objects(self, x: Tensor, of_frame: Tensor) -> Tensor:
        """The sum of the part of (B * N, object_channels, h, w) and that of its frames."""
        y = F.conv2d(x, self.weight[:, self.frame_channels :], padding=1)
        return added(y, repeat_for_objects(of_frame, len(x) // len(of_frame)))


class _JoiningBlock(nn.Module):
    """A :class:`ResidualBlock` of a frame's map and an object's, joined along the channels."""

    def __init__(self, frame_channels: int, object_channels: int, outputs: int) -> None:
        super().__init__()
        self.downsample = JoinedConvolution(frame_channels, object_channels, outputs)
        self.conv1 = JoinedConvolution(frame_channels, object_channels, outputs)
        self.conv2 = _convolution(outputs, outputs)

    def forward(self, shared: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        straight, first = shared
        y = self.conv1.of_objects(x.relu(), first).relu_()
        return added(self.conv2(y), self.downsample.of_objects(x, straight))


class FusionBlock(nn.Module):
    """Joins the map of a frame with the maps of its objects; ``inner`` channels in between."""

    def __init__(self, frame_channels: int, object_channels: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.block1 = _JoiningBlock(frame_channels, object_channels, inner)
        self.attention = _BlockAttention(inner)
        self.block2 = ResidualBlock(inner, outputs)

    def share(self, frame_map: Tensor) -> tuple[Tensor, Tensor]:
        """What shortcut and first convolution make of a frame's map, which is nowhere negative."""
        return self.block1.downsample.of_frame(frame_map), self.block1.conv1.of_frame(frame_map)

    def forward(self, shared: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        """(B * N, object_channels, h, w) to (B * N, outputs, h, w), with what ``share`` gave."""
        y = self.block1(shared, x)
        return cast("Tensor", self.block2(y + self.attention(y)))


class UpsampleBlock(nn.Module):
    """Doubles the objects' maps, adds the frame's finer map, and refines the sum."""

    def __init__(self, skip_channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        #: Of the frame's finer map (B, skip_channels, 2h, 2w) alone; it gives ``shared``.
        self.skip_conv = _convolution(skip_channels, inputs)
        self.out_conv = ResidualBlock(inputs, outputs)

    def forward(self, shared: Tensor, x: Tensor) -> Tensor:
        """(B * N, inputs, h, w) to (B * N, outputs, 2h, 2w)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        # (B * N, C, 2h, 2w) as (B, N, C, 2h, 2w): each frame's map serves all its objects.
        x.view(len(shared), -1, *x.shape[1:]).add_(shared[:, None])
        return cast("Tensor", self.out_conv(x))


class GatedUpdate(nn.Module):
    """A gated recurrent step of the sensory state; as in XMem, content comes before forgetting."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.transform = _convolution(inputs + hidden, 3 * hidden)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, seen: Tensor, state: Tensor) -> Tensor:
        """Seen (B * N, inputs, h, w) and state (B * N, hidden, h, w) to a state as precise."""
        # (B * N, 3 * hidden, h, w) to three maps of as many channels as the state.
        both = torch.cat((seen, state.to(seen.dtype)), 1)
        forget, update, content = self.transform(both).chunk(3, 1)
        forget, update = forget.sigmoid(), update.sigmoid()
        return cast("Tensor", forget * state * (1 - update) + update * content.tanh())
