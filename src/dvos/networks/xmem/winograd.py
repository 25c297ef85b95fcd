"""3x3 convolutions with a quarter of the products, for large maps on the CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016,
arXiv 1509.09308), F(4x4, 3x3): tiles of 6x6 and the kernel are transformed, the
convolution becomes 36 products of matrices, and their transform back is 4x4
pixels. Rounding errors are about ten times those of the plain sum, which
the last maps before the logits bear: they come to some 1e-5 of a logit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WinogradConvolution"]

_STEP = 4
_TILE = _STEP + 2
_PRODUCTS = _TILE**2
#: Tiles transformed together, so that they stay in the cache.
_TILES_AT_ONCE = 256

# Transforms of input, kernel and output along one direction: equation 12 and
# its relatives for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class WinogradConvolution(nn.Module):
    """A 3x3 convolution of stride 1 that keeps the size, for inference on the CPU.

    Args:
        weight: (outputs, inputs, 3, 3), float32.
        bias: (outputs,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.outputs = len(weight)
        self.bias = bias.detach().clone()
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        products = torch.einsum("ij,ocjk,lk->iloc", kernel, weight.detach().double(), kernel)
        pack = torch.ops.mkldnn._reorder_linear_weight
        self._weights = [
            pack(each.contiguous(), _TILES_AT_ONCE) for each in products.float().flatten(0, 1)
        ]
        self._input, self._output = (
            torch.kron(each, each) for each in (torch.tensor(_INPUT), torch.tensor(_OUTPUT))
        )
        self._input, self._output = self._input.float(), self._output.float()

    @staticmethod
    def is_available(weight: Tensor) -> bool:
        """Whether it can take the place of a plain convolution."""
        operators = torch.ops.mkldnn
        return (
            tuple(weight.shape[2:]) == (3, 3)
            and hasattr(operators, "_linear_pointwise")
            and hasattr(operators, "_reorder_linear_weight")
        )

    def forward(
        self,
        x: Tensor,
        *,
        add: Tensor | None = None,
        spend: bool = False,
        relu: bool = False,
        relu_first: bool = False,
    ) -> Tensor:
        """As :func:`dvos.networks.xmem.convolution.convolve`; H and W are multiples of 4."""
        maps, _, height, width = x.shape
        if height % _STEP or width % _STEP:
            raise ValueError(f"a map of {height} x {width}; multiples of {_STEP} are needed")
        result = add
        if result is None or not spend:
            result = x.new_empty((maps, self.outputs, height, width))
            result = result.contiguous(memory_format=torch.channels_last)
        rows = _STEP * max(1, _TILES_AT_ONCE * _STEP // width)
        for index in range(maps):
            seen, written = (y[index].permute(1, 2, 0) for y in (x, result))
            for top in range(0, height, rows):
                band = self._band(seen, top, min(top + rows, height), relu_first)
                place = slice(top, top + len(band))
                band.add_(self.bias)
                if add is not None:
                    band.add_(add[index].permute(1, 2, 0)[place])
                written[place] = band.relu_() if relu else band
        return result

    def _band(self, x: Tensor, top: int, bottom: int, relu: bool) -> Tensor:
        """Rows ``top`` to ``bottom`` of the result, (rows, W, outputs), of x (H, W, C)."""
        height, width, channels = x.shape
        first, last = max(0, top - 1), min(height, bottom + 1)
        around = (0, 0, 1, 1, first - top + 1, bottom + 1 - last)
        rows = F.pad(x[first:last], around)
        if relu:
            rows.relu_()
        down, across = (bottom - top) // _STEP, width // _STEP
        row, column, _ = rows.stride()
        shape = (_TILE, _TILE, down, across, channels)
        tiles = rows.as_strided(shape, (row, column, _STEP * row, _STEP * column, 1))
        tiles = tiles.reshape(_PRODUCTS, -1)
        transformed = (self._input @ tiles).view(_PRODUCTS, -1, channels)
        del tiles
        multiply = torch.ops.mkldnn._linear_pointwise
        products = x.new_empty((_PRODUCTS, down * across, self.outputs))
        for product, each, weight in zip(products, transformed, self._weights, strict=True):
            product.copy_(multiply(each, weight, None, "none", [], ""))
        pixels = self._output @ products.view(_PRODUCTS, -1)
        pixels = pixels.view(_STEP, _STEP, down, across, self.outputs)
        return pixels.permute(2, 0, 3, 1, 4).reshape(bottom - top, width, self.outputs)
