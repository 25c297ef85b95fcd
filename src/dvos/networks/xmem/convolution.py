"""Convolutions as inference runs them: packed once, with sum and ReLU in the same pass.

PyTorch rearranges the weights of a convolution for the CPU each time it runs;
for XMem that is 250 MB a frame. The operators that PyTorch's compiler uses
take weights that were rearranged once. Where they are missing, and on other
devices, plain convolutions give the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.networks.xmem.winograd import WinogradConvolution

__all__ = ["JoinedConvolution", "PackedConvolution", "convolve", "finish", "pack"]

#: Private to PyTorch, so that another version may lack them.
_OPERATORS = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
#: Of maps, to pack weights for; those of kernels of 3x3 and more suit other sizes too.
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
        self._size = (0, 0)
        if self.is_packed:
            # All at once, before any map is made: else they would lie scattered among the maps.
            self._pack((_LIKELY_SIDE, _LIKELY_SIDE))

    def _pack(self, size: tuple[int, int]) -> None:
        """Arrange the weights as is best for maps of ``size``."""
        plain = self.weight.to_dense() if self.weight.is_mkldnn else self.weight
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            plain, [self.padding] * 2, [self.stride] * 2, [1, 1], 1, [1, plain.shape[1], *size]
        )
        self._size = size

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
        size = (x.shape[2], x.shape[3])
        # For 1x1 kernels the best arrangement hangs on the size, and with another the weights are
        # rearranged at every call, for five times the cost. They are small.
        if self.padding == 0 and size != self._size:
            self._pack(size)
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
    """A :class:`JoinedConvolution` for inference; its maps in tiles of ``step`` unless None."""

    def __init__(self, layer: JoinedConvolution, step: int | None) -> None:
        super().__init__()
        cut = layer.frame_channels
        frame, objects = layer.weight[:, :cut], layer.weight[:, cut:]
        self.frame = _inference_layer(frame, layer.bias, step)
        self.objects = _inference_layer(objects, None, step)

    def of_frame(self, x: Tensor) -> Tensor:
        return convolve(self.frame, x)

    def of_objects(self, x: Tensor, *, add: Tensor, relu: bool = False) -> Tensor:
        return convolve(self.objects, x, add=add, relu=relu)


def pack(module: nn.Module, tiled: Mapping[nn.Module, int] | None = None) -> None:
    """Put convolutions for inference in the place of all plain ones inside ``module``.

    Args:
        module: Changed in place.
        tiled: Modules inside it whose 3x3 convolutions of stride 1 become a
            :class:`~dvos.networks.xmem.winograd.WinogradConvolution` where the CPU has one,
            and the step of its tiles.
    """
    steps = {part: step for owner, step in (tiled or {}).items() for part in owner.modules()}
    for owner in [*module.modules()]:
        step = steps.get(owner)
        for name, layer in [*owner.named_children()]:
            if isinstance(layer, JoinedConvolution):
                setattr(owner, name, _PackedJoined(layer, step))
            elif isinstance(layer, nn.Conv2d):
                stride, padding = layer.stride[0], layer.padding[0]
                assert isinstance(padding, int)
                owner._modules[name] = (
                    _inference_layer(layer.weight, layer.bias, step)
                    if (stride, padding) == (1, 1)
                    else PackedConvolution(layer.weight, layer.bias, stride=stride, padding=padding)
                )


def _inference_layer(weight: Tensor, bias: Tensor | None, step: int | None) -> nn.Module:
    """A convolution of stride 1 and padding 1, in tiles of ``step`` where that is possible."""
    if step is not None and _can_pack(weight) and WinogradConvolution.is_available(weight):
        return WinogradConvolution(weight, bias, step=step)
    return PackedConvolution(weight, bias, padding=1)


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
    )
