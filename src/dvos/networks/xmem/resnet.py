"""Residual networks down to stride 16, with batch norms that never change.

He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385),
tables 1 (18 and 50 layers), with the stride of a bottleneck on its 3x3
convolution. XMem trains with the statistics of its backbones as they came, so a
norm is always a fixed affine map of each channel; it is folded into the
convolution before it, which spares a pass over every map.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem.convolution import convolve, finish

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "FixedNorm",
    "convolve_and_norm",
    "fold_norms",
    "stage",
    "stem",
]


class FixedNorm(nn.BatchNorm2d):
    """Batch norm by its stored statistics, whether in training or not.

    Weight and bias learn; the statistics do not. It is applied by
    :func:`convolve_and_norm`, with the convolution before it.
    """

    def folded(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution of ``weight`` and this norm in one, in its type."""
        assert self.running_mean is not None
        assert self.running_var is not None
        kind = weight.dtype
        scale = self.weight.to(kind) * torch.rsqrt(self.running_var.to(kind) + self.eps)
        bias = self.bias.to(kind) - self.running_mean.to(kind) * scale
        return weight * scale[:, None, None, None], bias


def convolve_and_norm(
    convolution: nn.Module,
    norm: nn.Module,
    x: Tensor,
    *,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Convolution and norm in one pass, and what :func:`convolve` does; the norm may be folded.

    What is added may be overwritten.
    """
    if not isinstance(norm, FixedNorm):
        return convolve(convolution, x, add=add, spend=True, relu=relu)
    assert isinstance(convolution, nn.Conv2d)
    weight, bias = norm.folded(convolution.weight)
    result = F.conv2d(x, weight, bias, convolution.stride, convolution.padding)
    return finish(result, add, relu)


def fold_norms(module: nn.Module) -> None:
    """Fold every :class:`FixedNorm` inside ``module`` into its convolution, for good.

    Worked out in float64 and rounded once: top-k read-outs hang on small differences.
    """
    for owner in module.modules():
        # A norm follows its convolution wherever both are registered.
        for before, name in pairwise(list(owner._modules)):
            convolution, norm = owner._modules[before], owner._modules[name]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, FixedNorm):
                kind = convolution.weight.dtype
                weight, bias = norm.folded(convolution.weight.double())
                convolution.weight = nn.Parameter(weight.detach().to(kind), requires_grad=False)
                convolution.bias = nn.Parameter(bias.detach().to(kind), requires_grad=False)
                owner._modules[name] = nn.Identity()


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), FixedNorm(outputs))


def _straight(x: Tensor, shortcut: nn.Sequential | None) -> Tensor:
    return x if shortcut is None else convolve_and_norm(shortcut[0], shortcut[1], x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        inputs: Channels in.
        width: Channels out.
        stride: 1 or 2.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = FixedNorm(width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = FixedNorm(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H / stride, W / stride); the input may be overwritten."""
        y = convolve_and_norm(self.conv1, self.bn1, x, relu=True)
        straight = _straight(x, self.downsample)
        return convolve_and_norm(self.conv2, self.bn2, y, add=straight, relu=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut.

    Args:
        inputs: Channels in.
        width: Inner channels; four times as many come out.
        stride: 1 or 2.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = FixedNorm(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = FixedNorm(width)
        self.conv3 = _convolution(width, outputs, 1)
        self.bn3 = FixedNorm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 * width, H / stride, W / stride).

        The input may be overwritten.
        """
        y = convolve_and_norm(self.conv1, self.bn1, x, relu=True)
        y = convolve_and_norm(self.conv2, self.bn2, y, relu=True)
        straight = _straight(x, self.downsample)
        return convolve_and_norm(self.conv3, self.bn3, y, add=straight, relu=True)


def stem(inputs: int) -> tuple[nn.Conv2d, FixedNorm]:
    """The first convolution, 7x7 of stride 2 to 64 channels, and its norm."""
    return _convolution(inputs, 64, 7, 2), FixedNorm(64)


def stage(
    block: Callable[[int, int, int], nn.Module], inputs: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    """A run of blocks of one width, the first of which has the stride."""
    expansion = getattr(block, "expansion", 1)
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(width * expansion, width, 1) for _ in range(1, blocks)))
