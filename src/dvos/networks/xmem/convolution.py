"""Convolutions as inference runs them: packed once, with sum and ReLU in the same pass.

PyTorch rearranges the weights of a convolution for the CPU each time it runs;
for XMem that is 250 MB a frame. The operators that PyTorch's compiler uses
take weights that were rearranged once. Where they are missing, and on other
devices, plain convolutions give the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem.winograd import WinogradConvolution

__all__ = ["JoinedConvolution", "PackedConvolution", "convolve", "finish", "pack"]

#: Of maps, to pack weights for. Those of other sizes take the same weights.
_LIKELY_SIDE = 48


def convolve(
    layer: nn.Module,
    x: Tensor,
    *,
    add: Tensor | None = None,
    spend: bool = False,
    relu: bool = False,
    relu_first: bool = False,
) -> Tensor:
    """Convolve; then add a map and cut off what is negative, where asked for.

    Args:
        layer: A convolution, packed or not.
        x: (N, C, H, W).
        add: Of the shape of the result.
        spend: Whether ``add`` is not needed any more, so that the result may
            take its place.
        relu: Whether ReLU follows.
        relu_first: Whether ReLU goes before; ``x`` itself stays as it is.
    """
    result: Tensor
    if isinstance(layer, WinogradConvolution):
        result = layer(x, add=add, spend=spend, relu=relu, relu_first=relu_first)
        return result
    x = x.relu() if relu_first else x
    if isinstance(layer, PackedConvolution):
        result = layer(x, add=add, spend=spend, relu=relu)
        return result
    result = layer(x)
    return finish(result, add, relu)


def finish(result: Tensor, add: Tensor | None, relu: bool) -> Tensor:
    """Add and ReLU into the output of a convolution, which no gradient needs."""
    if add is not None:
        # Mixed precision: the sum keeps the wider type.
        result = result.add_(add) if result.dtype == add.dtype else result + add
    return result.relu_() if relu else result


class PackedConvolution(nn.Module):
    """A convolution for inference on the device its weight is on.

    Args:
        weight: (outputs, inputs, k, k).
        bias: (outputs,), or None.
        stride: Of the convolution.
        padding: Likewise.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.bias = None if bias is None else bias.detach().clone()
        plain = weight.detach().clone(memory_format=torch.channels_last)
        self.is_packed = _can_pack(plain)
        # Not a parameter: packed tensors have no storage that could be saved or moved.
        self.weight = plain
        if self.is_packed:
            # All at once, before any map is made: else they would lie scattered among the maps.
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                plain,
                [padding] * 2,
                [stride] * 2,
                [1, 1],
                1,
                [1, plain.shape[1], _LIKELY_SIDE, _LIKELY_SIDE],
            )

    def forward(
        self,
        x: Tensor,
        *,
        add: Tensor | None = None,
        spend: bool = False,
        relu: bool = False,
    ) -> Tensor:
        """As :func:`convolve`."""
        if not self.is_packed:
            result = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            return finish(result, add, relu)
        place = ([self.padding] * 2, [self.stride] * 2, [1, 1], 1)
        operators = torch.ops.mkldnn
        fused: Tensor
        if add is None:
            alone = "relu" if relu else "none"
            fused = operators._convolution_pointwise(
                x, self.weight, self.bias, *place, alone, [], ""
            )
            return fused
        rest: tuple[Any, ...] = (
            self.weight,
            self.bias,
            *place,
            "add",
            1.0,
            "relu" if relu else None,
            [],
            None,
        )
        if spend:
            fused = operators._convolution_pointwise_.binary(add, x, *rest)
        else:
            fused = operators._convolution_pointwise.binary(x, add, *rest)
        return fused


class JoinedConvolution(nn.Conv2d):
    """A 3x3 convolution of a frame's map and an object's, joined along the channels.

    It is the sum of a convolution of either map, and that of the frame's is the
    same for all its objects.

    Args:
        frame_channels: Of the frame's map.
        object_channels: Of the object's.
        outputs: Channels out.
    """

    def __init__(self, frame_channels: int, object_channels: int, outputs: int) -> None:
        super().__init__(frame_channels + object_channels, outputs, 3, padding=1)
        self.frame_channels = frame_channels

    def of_frame(self, x: Tensor) -> Tensor:
        """The part of (B, frame_channels, h, w), with the bias."""
        return F.conv2d(x, self.weight[:, : self.frame_channels], self.bias, padding=1)

    def of_objects(self, x: Tensor, *, add: Tensor, relu: bool = False) -> Tensor:
        """The part of (B * N, object_channels, h, w), with that of the frame added."""
        weight = self.weight[:, self.frame_channels :]
        return finish(F.conv2d(x, weight, padding=1), add, relu)


class _PackedJoined(nn.Module):
    """A :class:`JoinedConvolution` for inference."""

    def __init__(self, layer: JoinedConvolution) -> None:
        super().__init__()
        cut = layer.frame_channels
        self.frame = PackedConvolution(layer.weight[:, :cut], layer.bias, padding=1)
        self.objects = PackedConvolution(layer.weight[:, cut:], None, padding=1)

    def of_frame(self, x: Tensor) -> Tensor:
        return convolve(self.frame, x)

    def of_objects(self, x: Tensor, *, add: Tensor, relu: bool = False) -> Tensor:
        return convolve(self.objects, x, add=add, relu=relu)


def pack(module: nn.Module, large: Sequence[nn.Module] = ()) -> None:
    """Put packed convolutions in the place of all plain ones inside ``module``.

    Args:
        module: Changed in place.
        large: Modules inside it whose maps are large and whose errors are not
            passed on, for :class:`~dvos.networks.xmem.winograd.WinogradConvolution`.
    """
    for part in large:
        for owner in [*part.modules()]:
            for name, layer in [*owner.named_children()]:
                if isinstance(layer, nn.Conv2d) and _can_tile(layer):
                    assert layer.bias is not None
                    owner._modules[name] = WinogradConvolution(layer.weight, layer.bias)
    for owner in [*module.modules()]:
        for name, layer in [*owner.named_children()]:
            if isinstance(layer, JoinedConvolution):
                setattr(owner, name, _PackedJoined(layer))
            elif isinstance(layer, nn.Conv2d):
                padding = layer.padding[0]
                assert isinstance(padding, int)
                packed = PackedConvolution(
                    layer.weight, layer.bias, stride=layer.stride[0], padding=padding
                )
                owner._modules[name] = packed


def _can_tile(layer: nn.Conv2d) -> bool:
    return _can_pack(layer.weight) and WinogradConvolution.is_available(layer.weight)


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )
