"""The compact video network over large frames in little memory, with the very same outputs.

Memory goes where maps are fine. Encoder down to stride 8 and decoder from stride 8 up see 30 to 60
pixels far, so they run over tiles with a margin that wide, of which only the inside is kept. What
lies between sees the better part of a frame, but on maps of at most 1/64 of the pixels, and runs
over the whole. Blending masks of tiles would change them: the encoder sees 400 pixels far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from dvos.networks import spec
from dvos.networks.dvos.efficientnet import FEATURE_STAGES, FEATURE_STRIDES, ConvNorm
from dvos.networks.dvos.network import OBJECT_STRIDE, STRIDE, DvosNetwork, cropped

#: Scales of stride 2, 4 and 8, and as many stages of the encoder that lead there.
_FINE = 3
_STRIDE = FEATURE_STRIDES[_FINE - 1]
#: How far the decoder sees from stride 8 up: filters at strides 2 (the widest head's of 5x5, the
#: join's of 3x3) and 4, and the neighbour that each enlarging looks at, at 2, 4 and 8.
_DECODER_REACH = 2 * 3 + 4 + (2 + 4 + 8)

#: Outer and inner box of a tile: top, bottom, left, right in pixels.
_Box = tuple[int, int, int, int]


class TiledDvosNetwork:
    """A network in evaluation mode in tiles of this side, by 32; equal to it but for rounding."""

    def __init__(self, network: DvosNetwork, tile: int) -> None:
        if tile < 1 or tile % STRIDE:
            raise ValueError(f"the tile side {tile} is no multiple of {STRIDE}")
        self.network = network
        self.references = network.references
        self.tile = tile
        fine = [network.encoder.stem, *network.encoder.stages[:_FINE]]
        reach = max(_reach(fine), _DECODER_REACH)
        self.margin = -(-reach // _STRIDE) * _STRIDE

    def encode(self, frames: Tensor) -> list[Tensor]:
        """As :meth:`DvosNetwork.encode`."""
        frames = spec.padded(frames, STRIDE)
        reduce, stages = self.network.reduce, self.network.encoder.stages

        def fine(outer: _Box) -> list[Tensor]:
            x = self.network.encoder.stem(_cut(frames, outer, 1))
            maps = []
            for index, stage in enumerate(stages[:_FINE]):
                x = stage(x)
                # The last one is needed as it is by the stages after it.
                maps.append(reduce[index](x) if index < _FINE - 1 else x)
            return maps

        maps = self._joined(fine, frames.shape[-2:], FEATURE_STRIDES[:_FINE])
        x = maps[-1]
        maps[-1] = reduce[_FINE - 1](x)
        for index, stage in enumerate(stages[_FINE:], start=_FINE):
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
    ) -> spec.Outputs:
        """As :meth:`DvosNetwork.decode`; a ValueError if the reconstruction is asked for."""
        if reconstruct:
            raise ValueError("tiles give no reconstruction")
        network = self.network
        scales = [spec.frames_of(scale) for scale in features]
        maps = [scale[network.window(len(scale))] for scale in scales]
        last = len(maps) - 1
        x = network.joined(network.fused(last, maps[last]), maps, range(_FINE - 1, last))
        finer = list(zip(maps, FEATURE_STRIDES, strict=True))[: _FINE - 1]

        def fine(outer: _Box) -> list[Tensor]:
            parts = [[_cut(frame, outer, stride) for frame in frames] for frames, stride in finer]
            y = network.joined(_cut(x, outer, _STRIDE), parts, range(_FINE - 1))
            return [network.heads[name](y) for name in names]

        names = [name for name in network.heads if name != spec.RECONSTRUCTION]
        strides = [OBJECT_STRIDE if name == spec.OBJECTS else 1 for name in names]
        whole = (x.shape[-2] * _STRIDE, x.shape[-1] * _STRIDE)
        joined = zip(names, self._joined(fine, whole, strides), strict=True)
        outputs = {name: cropped(name, output, size) for name, output in joined}
        return spec.Outputs(outputs.pop(spec.MASK), None, outputs)

    def _joined(
        self, run: Callable[[_Box], list[Tensor]], size: Sequence[int], strides: Sequence[int]
    ) -> list[Tensor]:
        """Maps of the whole, of the given strides, from those of the tiles."""
        whole: list[Tensor] = []
        for outer, (top, bottom, left, right) in self._tiles(size):
            parts = run(outer)
            if not whole:
                sides = [[side // stride for side in size] for stride in strides]
                whole = [
                    spec.channels_last(part.new_empty((*part.shape[:2], *side)))
                    for part, side in zip(parts, sides, strict=True)
                ]
            for map_, part, stride in zip(whole, parts, strides, strict=True):
                inner = (top - outer[0], bottom - outer[0], left - outer[2], right - outer[2])
                _cut(map_, (top, bottom, left, right), stride).copy_(_cut(part, inner, stride))
        return whole

    def _tiles(self, size: Sequence[int]) -> Iterator[tuple[_Box, _Box]]:
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
