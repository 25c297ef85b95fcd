"""EfficientNet-Lite, the image encoder, written for frozen batch-norm statistics.

Tan and Le, "EfficientNet" (ICML 2019, arXiv 1905.11946), in its Lite form: no
squeeze-and-excitation, ReLU6 throughout, batch-norm epsilon 1e-3; a stem of 32
channels, and a first and a last stage of one block, in every size. The original
pads strided convolutions at the bottom and the right only (TensorFlow's "SAME");
here they are padded evenly, which gives the same values for an image shifted by
31 pixels, away from its border, and spares five copies of feature maps (a
quarter of the forward time on a CPU).

Tensor letters: N frames, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ENCODERS",
    "FEATURE_STAGES",
    "FEATURE_STRIDES",
    "ConvNorm",
    "EfficientNetLite",
    "EncoderSize",
    "FoldedConv",
    "InvertedResidual",
    "fold_norms",
]

_NORM_EPSILON = 1e-3
_NORM_MOMENTUM = 0.01


@dataclass(frozen=True)
class EncoderSize:
    """Factors of the base network, Lite0.

    Attributes:
        width: Of the channels.
        depth: Of the blocks of a stage.
    """

    width: float
    depth: float


#: The sizes by name, as the authors' TPU code defines them.
ENCODERS: Mapping[str, EncoderSize] = MappingProxyType(
    {
        "lite0": EncoderSize(1.0, 1.0),
        "lite1": EncoderSize(1.0, 1.1),
        "lite2": EncoderSize(1.1, 1.2),
    }
)


@dataclass(frozen=True)
class _Stage:
    """One run of equal blocks: the row of the paper's table 1 it stands for."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_CHANNEL_STEP = 8

#: Stages whose output is a feature map, with its stride.
FEATURE_STAGES = (0, 1, 2, 4, 6)
FEATURE_STRIDES = (2, 4, 8, 16, 32)


class ConvNorm(nn.Module):
    """Bias-free convolution, batch norm, and ReLU6 where asked for.

    With frozen statistics, and in evaluation, the norm is a fixed affine map. It
    is folded into the convolution's weight before each use: gradients reach
    weight, scale and shift alike, and no pass over the feature map is spent on it.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the square kernel, odd.
        stride: 1 or 2.
        groups: Channel groups; ``inputs`` for a depthwise convolution.
        activation: Whether ReLU6 follows.
        frozen: Whether the norm's running statistics are used, and never
            changed, in training too.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.groups = groups
        self.activation = activation
        self.frozen = frozen
        self.padding = kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if groups > 1:
            nn.init.normal_(self.weight, std=(2.0 / kernel**2) ** 0.5)
        self.norm = nn.BatchNorm2d(outputs, eps=_NORM_EPSILON, momentum=_NORM_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        if self.frozen or not self.training:
            weight, bias = self.folded()
            x = F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
        else:
            x = F.conv2d(x, self.weight, None, self.stride, self.padding, groups=self.groups)
            x = self.norm(x)
        return F.relu6(x, inplace=True) if self.activation else x

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution equal to convolution and norm."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class FoldedConv(nn.Module):
    """A :class:`ConvNorm` whose norm is folded in once and for all.

    It gives the same values and cannot learn.

    Args:
        layer: Its state is copied.
    """

    def __init__(self, layer: ConvNorm) -> None:
        super().__init__()
        self.stride = layer.stride
        self.groups = layer.groups
        self.activation = layer.activation
        self.padding = layer.padding
        weight, bias = layer.folded()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """As :class:`ConvNorm` in evaluation mode."""
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return F.relu6(x, inplace=True) if self.activation else x


def fold_norms(module: nn.Module) -> None:
    """Put a :class:`FoldedConv` in the place of every :class:`ConvNorm` inside ``module``."""
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            setattr(module, name, FoldedConv(child))
        else:
            fold_norms(child)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; add the input where shapes allow.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the depthwise kernel.
        stride: 1 or 2.
        expansion: Factor of the inner width; 1 leaves the expansion out.
        frozen: See :class:`ConvNorm`.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int, frozen: bool
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvNorm(inputs, inner, frozen=frozen) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(
            inner, inner, kernel=kernel, stride=stride, groups=inner, frozen=frozen
        )
        self.project = ConvNorm(inner, outputs, activation=False, frozen=frozen)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The encoder: five feature maps of strides 2, 4, 8, 16 and 32.

    Attributes:
        size: Key of ``ENCODERS``.
        channels: Channels of the five maps, finest first.

    Args:
        size: Key of ``ENCODERS``.
        frozen: Whether batch-norm statistics stay as loaded. Leave on with
            pretrained weights; turn off to train from random weights.

    Raises:
        ValueError: If there is no such size.
    """

    def __init__(self, size: str = "lite0", *, frozen: bool = True) -> None:
        super().__init__()
        if size not in ENCODERS:
            raise ValueError(f"encoder is {size!r}; it is one of {', '.join(ENCODERS)}")
        self.size = size
        scaled = _scaled_stages(ENCODERS[size])
        self.channels = tuple(scaled[index].channels for index in FEATURE_STAGES)
        self.stem = ConvNorm(3, _STEM_CHANNELS, kernel=3, stride=2, frozen=frozen)
        stages = []
        inputs = _STEM_CHANNELS
        for stage in scaled:
            blocks = []
            for index in range(stage.repeats):
                blocks.append(
                    InvertedResidual(
                        inputs,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stage.stride if index == 0 else 1,
                        expansion=stage.expansion,
                        frozen=frozen,
                    )
                )
                inputs = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def set_frozen(self, frozen: bool) -> None:
        """Freeze the batch-norm statistics, or let them follow the batches."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.frozen = frozen

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Encode frames.

        Args:
            frames: (N, 3, H, W) float, normalised; H and W multiples of 32.

        Returns:
            Five maps (N, C, H / stride, W / stride), finest first, of
            ``channels`` and ``FEATURE_STRIDES``.
        """
        features = []
        x = self.stem(frames)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        return features


def _scaled_stages(size: EncoderSize) -> list[_Stage]:
    """The stages of one size; the first and the last keep their one block."""
    last = len(_STAGES) - 1
    return [
        replace(
            stage,
            channels=_rounded(stage.channels * size.width),
            repeats=stage.repeats if index in (0, last) else math.ceil(stage.repeats * size.depth),
        )
        for index, stage in enumerate(_STAGES)
    ]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth smaller."""
    nearest = max(_CHANNEL_STEP, int(channels / _CHANNEL_STEP + 0.5) * _CHANNEL_STEP)
    return nearest if nearest >= 0.9 * channels else nearest + _CHANNEL_STEP
