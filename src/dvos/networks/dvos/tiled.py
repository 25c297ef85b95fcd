"""The compact video network over large frames in little memory, with the very same outputs.

Memory goes where maps are fine. Encoder down to stride 8 and decoder from
stride 8 up see 30 to 60 pixels far, so they run over tiles with a margin that
wide, of which only the inside is kept. What lies between sees the better part
of a frame, but on maps of at most 1/64 of the pixels, and runs over the whole.
Blending the masks of tiles instead, however wide they overlap, changes them:
the encoder as a whole sees more than 400 pixels far.

Tensor letters: B batch, N frames, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from dvos.networks.dvos.efficientnet import FEATURE_STAGES, FEATURE_STRIDES, ConvNorm
from dvos.networks.dvos.heads import OBJECT_STRIDE, cropped
from dvos.networks.dvos.network import DvosNetwork, Fusion, frames_of, padded
from dvos.networks.spec import MASK, OBJECTS, RECONSTRUCTION, Outputs

#: Scales of stride 2, 4 and 8; stages of the encoder that lead there.
_FINE = 3
_FINE_STAGES = 3
_STRIDE = FEATURE_STRIDES[_FINE - 1]
#: How far the decoder sees from stride 8 up: filters at strides 2 (the widest head's of 5x5, the
#: join's of 3x3) and 4, and the neighbour that each enlarging looks at, at 2, 4 and 8.
_DECODER_REACH = 2 * 3 + 4 + (2 + 4 + 8)

#: Outer and inner box of a tile: top, bottom, left, right in pixels.
_Box = tuple[int, int, int, int]


class TiledDvosNetwork:
    """A network that encodes and decodes in tiles; equal to it but for rounding.

    Args:
        network: In evaluation mode.
        tile: Side of the tiles without their margin, pixels; a multiple of 32.

    Raises:
        ValueError: If ``tile`` is no such multiple.
    """

    def __init__(self, network: DvosNetwork, tile: int) -> None:
        if tile < 1 or tile % FEATURE_STRIDES[-1]:
            raise ValueError(f"the tile side {tile} is no multiple of {FEATURE_STRIDES[-1]}")
        self.network = network
        self.references = network.references
        self.tile = tile
        fine = [network.encoder.stem, *network.encoder.stages[:_FINE_STAGES]]
        reach = max(_reach(fine), _DECODER_REACH)
        self.margin = -(-reach // _STRIDE) * _STRIDE

    def encode(self, frames: Tensor) -> list[Tensor]:
        """As :meth:`DvosNetwork.encode`."""
        frames = padded(frames)
        reduce, stages = self.network.reduce, self.network.encoder.stages

        def fine(outer: _Box) -> list[Tensor]:
            x = self.network.encoder.stem(_cut(frames, outer, 1))
            maps = []
            for index, stage in enumerate(stages[:_FINE_STAGES]):
                x = stage(x)
                # The last one is needed as it is by the stages after it.
                maps.append(reduce[index](x) if index < _FINE_STAGES - 1 else x)
            return maps

        size = (frames.shape[-2], frames.shape[-1])
        maps = self._joined(fine, size, FEATURE_STRIDES[:_FINE])
        x = maps[-1]
        maps[-1] = reduce[_FINE - 1](x)
        for index, stage in enumerate(stages[_FINE_STAGES:], start=_FINE_STAGES):
            x = stage(x)
            if index in FEATURE_STAGES:
                maps.append(reduce[len(maps)](x))
        return maps

    def decode(
        self,
        features: Sequence[Tensor | Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = False,
    ) -> Outputs:
        """As :meth:`DvosNetwork.decode`, without the reconstruction.

        Raises:
            ValueError: If the reconstruction is asked for.
        """
        if reconstruct:
            raise ValueError("tiles give no reconstruction")
        network = self.network
        scales = [frames_of(scale) for scale in features]
        maps = [scale[network.window(len(scale))] for scale in scales]
        *finer, coarsest = range(len(FEATURE_STRIDES))
        joins = dict(zip(reversed(finer), network.decoder.joins, strict=True))
        x = self._fused(maps, coarsest)
        for scale in reversed(range(_FINE - 1, coarsest)):
            x = joins[scale](x, self._fused(maps, scale))

        def fine(outer: _Box) -> list[Tensor]:
            y = _cut(x, outer, _STRIDE)
            for scale in reversed(range(_FINE - 1)):
                y = joins[scale](y, self._fused(maps, scale, outer))
            return [network.heads[name](y) for name in names]

        names = [name for name in network.heads if name != RECONSTRUCTION]
        strides = [OBJECT_STRIDE if name == OBJECTS else 1 for name in names]
        whole = (x.shape[-2] * _STRIDE, x.shape[-1] * _STRIDE)
        joined = zip(names, self._joined(fine, whole, strides), strict=True)
        outputs = {name: cropped(name, output, size) for name, output in joined}
        return Outputs(outputs.pop(MASK), None, outputs)

    def _fused(
        self, maps: Sequence[Sequence[Tensor]], scale: int, box: _Box | None = None
    ) -> Tensor:
        """The fusion of T maps of a scale, of all of them or of what a box covers."""
        fusion, frames = self.network.fusions[scale], maps[scale]
        needed = frames if isinstance(fusion, Fusion) else frames[-1:]
        if box is not None:
            needed = [_cut(frame, box, FEATURE_STRIDES[scale]) for frame in needed]
        fused: Tensor = fusion(
            [frame.contiguous(memory_format=torch.channels_last) for frame in needed]
        )
        return fused

    def _joined(
        self, run: Callable[[_Box], list[Tensor]], size: tuple[int, int], strides: Sequence[int]
    ) -> list[Tensor]:
        """Maps of the whole, of the given strides, from those of the tiles."""
        whole: list[Tensor] = []
        for outer, (top, bottom, left, right) in self._tiles(size):
            parts = run(outer)
            if not whole:
                whole = [
                    part.new_empty(
                        (*part.shape[:2], size[0] // stride, size[1] // stride)
                    ).contiguous(memory_format=torch.channels_last)
                    for part, stride in zip(parts, strides, strict=True)
                ]
            for map_, part, stride in zip(whole, parts, strides, strict=True):
                inner = (top - outer[0], bottom - outer[0], left - outer[2], right - outer[2])
                _cut(map_, (top, bottom, left, right), stride).copy_(_cut(part, inner, stride))
        return whole

    def _tiles(self, size: tuple[int, int]) -> Iterator[tuple[_Box, _Box]]:
        """Outer box, with margin, and inner box of each tile."""
        height, width = size
        for top in range(0, height, self.tile):
            bottom = min(top + self.tile, height)
            for left in range(0, width, self.tile):
                right = min(left + self.tile, width)
                outer = (
                    max(0, top - self.margin),
                    min(height, bottom + self.margin),
                    max(0, left - self.margin),
                    min(width, right + self.margin),
                )
                yield outer, (top, bottom, left, right)


def _cut(x: Tensor, box: _Box, stride: int) -> Tensor:
    """The part of a map that a box of the frame covers."""
    top, bottom, left, right = (edge // stride for edge in box)
    return x[..., top:bottom, left:right]


def _reach(layers: Sequence[nn.Module]) -> int:
    """How many pixels away a position of the last layer's map still sees the frame."""
    reach, step = 0, 1
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, ConvNorm):
                reach += module.padding * step
                step *= module.stride
    return reach
