"""3x3 convolutions with a quarter, or 4/9, of the products, for inference on the CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016,
arXiv 1509.09308): tiles of the map and the kernel are transformed, the
convolution becomes a product of matrices for each element of a tile, and their
transform back is ``step`` x ``step`` pixels. Steps of 4 spare most and suit
large maps; their weights take four times the memory, and rounding errors are
about ten times those of the plain sum. Steps of 2 take 1.8 times the memory
and round about as the plain sum.

The products of all elements are one convolution of as many groups, whose
channels lie side by side, so that threads share it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["STEPS", "WinogradConvolution"]

#: Tiles transformed together, at most, so that they stay in the cache.
_TILES_AT_ONCE = 128
#: Tiles multiplied together, always as many: weights are packed for a number of them, and with
#: any other the CPU library may arrange them anew, which takes a hundred times as long.
_TILES_A_PRODUCT = 64


class _Transforms(NamedTuple):
    """Matrices along one direction: of the input, the kernel and the output."""

    input: tuple[tuple[float, ...], ...]
    kernel: tuple[tuple[float, ...], ...]
    output: tuple[tuple[float, ...], ...]


#: Pixels of a tile's result along one direction, and how to get them: equations 8 and 12 and
#: their relatives for the points 0, 1, -1, infinity and, for steps of 4, 2 and -2.
STEPS: Mapping[int, _Transforms] = MappingProxyType(
    {
        2: _Transforms(
            input=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
            kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
            output=((1, 1, 1, 0), (0, 1, -1, 1)),
        ),
        4: _Transforms(
            input=(
                (4, 0, -5, 0, 1, 0),
                (0, -4, -4, 1, 1, 0),
                (0, 4, -4, -1, 1, 0),
                (0, -2, -1, 2, 1, 0),
                (0, 2, -1, -2, 1, 0),
                (0, 4, 0, -5, 0, 1),
            ),
            kernel=(
                (1 / 4, 0, 0),
                (-1 / 6, -1 / 6, -1 / 6),
                (-1 / 6, 1 / 6, -1 / 6),
                (1 / 24, 1 / 12, 1 / 6),
                (1 / 24, -1 / 12, 1 / 6),
                (0, 0, 1),
            ),
            output=(
                (1, 1, 1, 1, 1, 0),
                (0, 1, -1, 2, -2, 0),
                (0, 1, 1, 4, 4, 0),
                (0, 1, -1, 8, -8, 1),
            ),
        ),
    }
)


class WinogradConvolution(nn.Module):
    """A 3x3 convolution of stride 1 that keeps the size, for inference on the CPU.

    Args:
        weight: (outputs, inputs, 3, 3), float32.
        bias: (outputs,), or None.
        step: Pixels of a tile's result along one direction; one of :data:`STEPS`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, step: int = 4) -> None:
        super().__init__()
        self.outputs, self.inputs = weight.shape[:2]
        self.step = step
        self.tile = step + 2
        matrices = (torch.tensor(each, dtype=torch.float64) for each in STEPS[step])
        into, kernel, out = matrices
        products = torch.einsum("ij,ocjk,lk->iloc", kernel, weight.detach().double(), kernel)
        self._groups = self.tile**2
        self._input, self._output = torch.kron(into, into).float(), torch.kron(out, out).float()
        self._bias = weight.new_zeros((self._groups, self.outputs))
        if bias is not None:
            # What is added to the element of the point 1 comes out once in every pixel.
            self._bias[self.tile + 1] = bias.detach()
        self._bias = self._bias.flatten()
        plain = products.float().reshape(-1, self.inputs, 1, 1)
        shape = [1, self._groups * self.inputs, _TILES_A_PRODUCT, 1]
        # Not a parameter: packed tensors have no storage that could be saved or moved.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            plain, *_PLACE, self._groups, shape
        )

    @staticmethod
    def is_available(weight: Tensor) -> bool:
        """Whether it can take the place of a plain convolution that can be packed."""
        return tuple(weight.shape[2:]) == (3, 3)

    def forward(
        self,
        x: Tensor,
        *,
        add: Tensor | None = None,
        spend: bool = False,
        relu: bool = False,
        relu_first: bool = False,
    ) -> Tensor:
        """As :func:`dvos.networks.xmem.convolution.convolve`."""
        maps, _, height, width = x.shape
        down, across = -(-height // self.step), -(-width // self.step)
        rows = -(-down // -(-down * across // _TILES_AT_ONCE))
        result = add
        if result is None or not spend:
            result = x.new_empty((maps, self.outputs, height, width))
            result = result.contiguous(memory_format=torch.channels_last)
        for index in range(maps):
            seen, written = (y[index].permute(1, 2, 0) for y in (x, result))
            added = None if add is None else add[index].permute(1, 2, 0)
            for top in range(0, height, rows * self.step):
                place = slice(top, min(top + rows * self.step, height))
                band = self._band(seen, top, (rows, across), relu_first)
                band = band[: place.stop - top, :width]
                if added is not None:
                    band.add_(added[place])
                written[place] = band.relu_() if relu else band
        return result

    def _band(self, x: Tensor, top: int, tiles: tuple[int, int], relu: bool) -> Tensor:
        """Rows of the result from ``top`` on, of as many tiles, and what lies beyond x (H, W, C).

        Returns:
            (rows, columns, outputs), multiples of the step.
        """
        height, width, channels = x.shape
        (down, across), step, tile = tiles, self.step, self.tile
        bottom, right = top + down * step, across * step
        first, last = max(0, top - 1), min(height, bottom + 1)
        around = (0, 0, 1, right + 1 - width, first - top + 1, bottom + 1 - last)
        seen = F.pad(x[first:last], around)
        if relu:
            seen.relu_()
        row, column, _ = seen.stride()
        cut = seen.as_strided(
            (down, across, tile, tile, channels), (step * row, step * column, row, column, 1)
        ).reshape(-1, self._groups, channels)
        del seen
        pixels = self._multiplied(cut).view(down, across, step, step, self.outputs)
        return pixels.transpose(1, 2).reshape(down * step, right, self.outputs)

    def _multiplied(self, tiles: Tensor) -> Tensor:
        """Pixels (tiles, step * step, outputs) of tiles (tiles, groups, inputs)."""
        count, at_once = len(tiles), _TILES_A_PRODUCT
        padded = -(-count // at_once) * at_once
        transformed = tiles.new_empty((padded, *tiles.shape[1:]))
        torch.matmul(self._input, tiles, out=transformed[:count])
        transformed[count:].zero_()
        pixels = tiles.new_empty((count, self.step**2, self.outputs))
        for first in range(0, count, at_once):
            products = torch.ops.mkldnn._convolution_pointwise(
                transformed[first : first + at_once].view(1, at_once, 1, -1).permute(0, 3, 1, 2),
                self._weight,
                self._bias,
                *_PLACE,
                self._groups,
                "none",
                [],
                "",
            )
            products = products.permute(0, 2, 3, 1).view(at_once, self._groups, self.outputs)
            part = pixels[first : first + at_once]
            torch.matmul(self._output, products[: len(part)], out=part)
        return pixels


#: Padding, stride and dilation of a 1x1 convolution.
_PLACE = ([0, 0], [1, 1], [1, 1])
