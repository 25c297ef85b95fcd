"""The compact video network as it runs: in little memory, and on a GPU.

Over large frames memory goes where maps are fine. Encoder down to stride 8 and decoder from stride
8 up see 30 to 60 pixels far, so they run over tiles with a margin that wide, of which only the
inside is kept. What lies between sees the better part of a frame, and runs over the whole of maps
of at most 1/64 of the pixels. Blended, masks would change: the encoder sees 400 pixels far.

On a GPU it runs in half precision. Compiling gives about twice the frames a second; it takes half a
minute for each size of frame and batch, so it is done where enough frames are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from dvos.errors import RunError
from dvos.networks import spec
from dvos.networks.dvos.efficientnet import FEATURE_STAGES, FEATURE_STRIDES, ConvNorm
from dvos.networks.dvos.network import OBJECT_STRIDE, STRIDE, DvosNetwork, cropped

_log = logging.getLogger(__name__)

#: Pixels of all frames of a size from which on compiling saves more than it costs: on an H200 it
#: saves 1.3 ms for each million, and takes 30 s.
_PIXELS_WORTH_COMPILING = 24 * 10**9
#: Mean difference of compiled outputs from others, in shares of their mean size, that
#: another order of rounding explains in half precision.
_ROUNDING = 0.05
#: Characters shown of what the compiler says.
_LONGEST_REASON = 200

#: Scales of stride 2, 4 and 8, and as many stages of the encoder that lead there.
_FINE = 3
_STRIDE = FEATURE_STRIDES[_FINE - 1]
#: How far the decoder sees from stride 8 up: filters at strides 2 (the widest head's of 5x5, the
#: join's of 3x3) and 4, and the neighbour that each enlarging looks at, at 2, 4 and 8.
_DECODER_REACH = 2 * 3 + 4 + (2 + 4 + 8)

#: Outer and inner box of a tile: top, bottom, left, right in pixels.
_Box = tuple[int, int, int, int]
_Way = Callable[[Any], Any]


class TiledDvosNetwork:
    """A network in evaluation mode in tiles of this side, by 32; equal to it but for rounding."""

    def __init__(self, network: DvosNetwork, tile: int) -> None:
        if tile < 1 or tile % STRIDE:
            raise ValueError(f"the tile side {tile} is no multiple of {STRIDE}")
        self.network, self.references, self.tile = network, network.references, tile
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
        self, features: spec.Maps, size: tuple[int, int], *, reconstruct: bool = False
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
        whole = [side * _STRIDE for side in x.shape[-2:]]
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
        (height, width), margin = size, self.margin
        for top, left in product(*(range(0, side, self.tile) for side in size)):
            bottom, right = min(top + self.tile, height), min(left + self.tile, width)
            rows = max(0, top - margin), min(height, bottom + margin)
            columns = max(0, left - margin), min(width, right + margin)
            yield (*rows, *columns), (top, bottom, left, right)


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


class AcceleratedNetwork:
    """A :class:`~dvos.prediction.views.StreamingNetwork` whose logits are float32.

    A compiled network is compared with the network as it is on its first batch. The weights of
    ``network`` become of the type ``precision`` in place; ``compiles`` is auto, on or off.
    """

    def __init__(
        self,
        network: DvosNetwork | TiledDvosNetwork,
        precision: torch.dtype | None,
        compiles: str = "auto",
        backend: str = "inductor",
    ) -> None:
        self.references = network.references
        self._network, self._compiles = network, compiles
        self._precision = precision or torch.float32
        module = network.network if isinstance(network, TiledDvosNetwork) else network
        module.to(self._precision)
        self._pixels: dict[tuple[int, int], int] = {}
        #: Frames of a batch, for each size of frames that it is compiled for.
        self._batches: dict[tuple[int, int], int] = {}
        self._checked: set[tuple[str, tuple[int, int]]] = set()
        compiled: Any = torch.compile
        self._compiled_encode = compiled(network.encode, dynamic=False, backend=backend)
        self._compiled_decode = compiled(network.decode, dynamic=False, backend=backend)

    def expect(self, size: tuple[int, int], batch: int, frames: int) -> None:
        """Choose whether to compile for a video of so many frames (0: unknown) that begins."""
        if self._compiles == "off" or size in self._batches:
            return
        # Of videos of one size as many are expected as were seen.
        pixels = self._pixels.get(size, 0) + frames * size[0] * size[1]
        if self._compiles == "on" or pixels >= _PIXELS_WORTH_COMPILING:
            self._batches[size] = batch
            _log.info("compiling the network for frames of %d x %d pixels", size[1], size[0])

    def encode(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised, to maps (B, C, h, w)."""
        height, width = frames.shape[-2:]
        size, count = (height, width), len(frames)
        self._pixels[size] = self._pixels.get(size, 0) + frames.numel() // frames.shape[1]
        with torch.autocast(frames.device.type, enabled=False):
            frames = spec.padded(frames, STRIDE).to(self._precision)
            if count > self._batches.get(size, 0):
                return self._network.encode(frames)
            filled = _filled(frames, self._batches[size])
            maps = self._run("encode", size, self._network.encode, self._compiled_encode, filled)
            return [map_[:count] for map_ in maps]

    def decode(
        self, features: spec.Maps, size: tuple[int, int], *, reconstruct: bool = False
    ) -> spec.Outputs:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""
        count, ways = len(features[0][0]), (self._network.decode, self._compiled_decode)
        plain, compiled = (partial(way, size=size, reconstruct=reconstruct) for way in ways)
        with torch.autocast(features[0][0].device.type, enabled=False):
            if count > self._batches.get(size, 0):
                found = plain(features)
            else:
                batch = self._batches[size]
                # Maps of their own each: the compiler takes equal ones for a case of its own.
                filled = [[_filled(map_, batch, own=True) for map_ in scale] for scale in features]
                found = self._run("decode", size, plain, compiled, filled)
            others = {name: maps[:count] for name, maps in found.others.items()}
            logits = found.mask_logits[:count].float()
            # Beyond the range of half precision nothing is known: not even that it is object.
            logits = torch.where(logits.isfinite(), logits, torch.nan)
            return spec.Outputs(logits, found.reconstruction, others)

    def _run(
        self, step: str, size: tuple[int, int], plain: _Way, compiled: _Way, given: Any
    ) -> Any:
        if (step, size) in self._checked:
            return compiled(given)
        expected = plain(given)
        try:
            found = compiled(given)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, the C compiler it calls, and the driver
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            self._give_up(size, f"cannot be compiled ({reason})", error)
            return expected
        difference = _difference(expected, found)
        if not difference <= _ROUNDING:
            self._give_up(size, f"gives other values when compiled, by {difference:.2g}", None)
            return expected
        self._checked.add((step, size))
        return found

    def _give_up(self, size: tuple[int, int], reason: str, cause: Exception | None) -> None:
        if self._compiles == "on":
            remedy = "set compile=off"
            raise RunError.at("compile", f"the network {reason}", remedy=remedy) from cause
        _log.warning("the network %s; it runs as it is", reason)
        self._compiles = "off"
        del self._batches[size]


def _filled(maps: Tensor, count: int, *, own: bool = False) -> Tensor:
    """Maps (B, ...) with the last one repeated up to ``count``; a copy if ``own``."""
    missing = count - len(maps)
    if missing:
        return torch.cat([maps, maps[-1:].expand(missing, *maps.shape[1:])])
    return maps.clone() if own and len(maps) == 1 else maps


def _difference(expected: Any, found: Any) -> float:
    """Largest mean difference of tensors, in shares of their mean size."""
    if isinstance(expected, spec.Outputs):
        expected, found = [expected.mask_logits], [found.mask_logits]
    pairs = zip(expected, found, strict=True)
    return max(float((a - b).abs().mean() / a.abs().mean().clamp_min(1e-6)) for a, b in pairs)
