from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dvos.networks.dvos.depthwise import convolve_depthwise

Parts = tuple[Tensor, ...]


def _both(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> tuple[Parts, Parts]:
    """Output and gradients, ours and PyTorch's in float64."""
    parts = []
    for kind in (torch.float32, torch.float64):
        asked = (each for each in (x, weight, bias) if each is not None)
        leaves = [each.detach().to(kind).requires_grad_() for each in asked]
        if kind == torch.float32:
            told = dict(zip(("x", "weight", "bias"), leaves, strict=False))
            y = convolve_depthwise(**told, stride=stride, padding=padding)
        else:
            y = F.conv2d(*leaves, stride=stride, padding=padding, groups=len(weight))
        # Not the same for each place, nor for each frame.
        y.backward(torch.linspace(-1, 2, y.numel()).reshape(y.shape).to(kind))
        parts.append((y.detach(), *(leaf.grad for leaf in leaves)))
    return parts[0], parts[1]


@given(
    frames=st.integers(1, 3),
    channels=st.integers(2, 9),
    size=st.tuples(st.integers(5, 14), st.integers(5, 14)),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    with_bias=st.booleans(),
    last=st.booleans(),
    padded=st.booleans(),
)
def test_outputs_and_gradients_are_those_of_a_plain_convolution(
    frames: int,
    channels: int,
    size: tuple[int, int],
    kernel: int,
    stride: int,
    with_bias: bool,
    last: bool,
    padded: bool,
) -> None:
    padding = kernel // 2 if padded or kernel > min(size) else 0
    draw = torch.Generator().manual_seed(channels)
    x = torch.randn(frames, channels, *size, generator=draw)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, kernel, kernel, generator=draw)
    bias = torch.randn(channels, generator=draw) if with_bias else None
    ours, theirs = _both(x, weight, bias, stride, padding)
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), true, atol=1e-4, rtol=1e-4)


def test_gradients_lie_in_memory_as_convolutions_want_them() -> None:
    x = torch.randn(2, 8, 10, 10).contiguous(memory_format=torch.channels_last).requires_grad_()
    for stride in (1, 2):
        weight = torch.randn(8, 1, 5, 5, requires_grad=True)
        y = convolve_depthwise(x, weight, stride=stride, padding=2)
        (found,) = torch.autograd.grad(y.sum(), x)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_asks_for_no_gradient_gets_none() -> None:
    weight = torch.randn(4, 1, 5, 5, requires_grad=True)
    y = convolve_depthwise(torch.randn(1, 4, 9, 9), weight, padding=2)
    assert torch.autograd.grad(y.sum(), weight)[0].shape == weight.shape
    with torch.no_grad():
        assert not convolve_depthwise(torch.randn(1, 4, 9, 9), weight, padding=2).requires_grad
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    convolve_depthwise(x, weight.detach(), padding=2).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("kernel", [3, 5])
def test_mixed_precision_trains(kernel: int) -> None:
    x, weight = torch.randn(2, 4, 9, 9), torch.randn(4, 1, kernel, kernel, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve_depthwise(x, weight, padding=kernel // 2)
    y.float().square().mean().backward()
    assert y.dtype == torch.bfloat16
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
