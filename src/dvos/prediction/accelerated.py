"""The compact network on a GPU: in half precision, and compiled where that is worth the wait.

Compiling gives about twice the frames a second. It takes half a minute for each size of frame and
batch, so it is done where enough frames are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dvos.errors import RunError
from dvos.networks.dvos.network import STRIDE, DvosNetwork
from dvos.networks.dvos.tiled import TiledDvosNetwork
from dvos.networks.spec import Outputs, padded

_log = logging.getLogger(__name__)

#: Pixels of all frames of a size from which on compiling saves more than it costs: on an
#: H200 it saves 1.3 ms for each million, and takes 30 s.
_PIXELS_WORTH_COMPILING = 24 * 10**9
#: Mean difference of compiled outputs from others, in shares of their mean size, that
#: another order of rounding explains in half precision.
_ROUNDING = 0.05
_REMEDY = "set compile=off"
#: Characters shown of what the compiler says.
_LONGEST_REASON = 200


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
            frames = padded(frames, STRIDE).to(self._precision)
            if count > self._batches.get(size, 0):
                return self._network.encode(frames)
            filled = _filled(frames, self._batches[size])
            maps = self._run("encode", size, self._network.encode, self._compiled_encode, filled)
            return [map_[:count] for map_ in maps]

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = False,
    ) -> Outputs:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""
        count = len(features[0][0])

        def decode(decoder: Callable[..., Outputs]) -> Callable[[Any], Outputs]:
            return lambda maps: decoder(maps, size, reconstruct=reconstruct)

        with torch.autocast(features[0][0].device.type, enabled=False):
            if count > self._batches.get(size, 0):
                found = self._network.decode(features, size, reconstruct=reconstruct)
            else:
                batch = self._batches[size]
                # Maps of their own each: the compiler takes equal ones for a case of its own.
                filled = [[_filled(map_, batch, own=True) for map_ in scale] for scale in features]
                plain, compiled = decode(self._network.decode), decode(self._compiled_decode)
                found = self._run("decode", size, plain, compiled, filled)
            others = {name: maps[:count] for name, maps in found.others.items()}
            logits = found.mask_logits[:count].float()
            # Beyond the range of half precision nothing is known: not even that it is object.
            logits = torch.where(logits.isfinite(), logits, torch.nan)
            return Outputs(logits, found.reconstruction, others)

    def _run(
        self,
        step: str,
        size: tuple[int, int],
        plain: Callable[[Any], Any],
        compiled: Callable[[Any], Any],
        given: Any,
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
            raise RunError.at("compile", f"the network {reason}", remedy=_REMEDY) from cause
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
    if isinstance(expected, Outputs):
        expected, found = [expected.mask_logits], [found.mask_logits]
    pairs = zip(expected, found, strict=True)
    return max(float((a - b).abs().mean() / a.abs().mean().clamp_min(1e-6)) for a, b in pairs)
