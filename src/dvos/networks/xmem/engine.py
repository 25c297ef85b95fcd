"""Running XMem over a video, frame by frame, with objects that come when they come.

Letters: N objects, H height and W width of a frame, h and w at stride 16, CV value and CH hidden
channels. Everything a video leaves behind lies on the device of its frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dvos.networks.devices import AtOnce
from dvos.networks.xmem.memory import Memory, MemorySettings
from dvos.networks.xmem.network import Keys, SharedMaps, XMem, aggregate_probability

_STRIDE = 16
#: Objects together by default; on a GPU they keep it busy, and maps take 1.5 GB at 480 x 848.
_ON_A_CPU, _ON_A_GPU = 8, 16


class XMemEngine:
    """One video's state: its objects, their memories, and where the video stands.

    Objects that come in the same frame share one memory; ``memories`` are in the order of
    ``object_ids``, the planes of :meth:`step`'s probability. The network is in evaluation mode,
    best from :meth:`XMem.for_inference`; ``objects_at_once``, 0 for 8 on a CPU and 16 elsewhere,
    are encoded and decoded together: fewer where memory runs out, with the same results.
    """

    def __init__(
        self, network: XMem, *, settings: MemorySettings | None = None, objects_at_once: int = 0
    ) -> None:
        if objects_at_once < 0:
            raise ValueError(f"objects_at_once is {objects_at_once}; at least 0")
        self.network, self.settings = network, settings or MemorySettings()
        on_a_cpu = next(network.parameters(), torch.empty(0)).is_cpu
        usual = _ON_A_CPU if on_a_cpu else _ON_A_GPU
        self.at_once = AtOnce(objects_at_once or usual, "objects")
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next frame begins another video."""
        self.object_ids: tuple[int, ...] = ()
        self.memories: list[Memory] = []
        self._hidden: Tensor | None = None  # (1, N, CH, h, w)
        self._size: tuple[int, int] | None = None
        self._index, self._remembered = -1, 0

    @torch.no_grad()
    def step(
        self,
        frame: Tensor,
        mask: Tensor | None = None,
        object_ids: Sequence[int] | None = None,
        *,
        end: bool = False,
    ) -> Tensor:
        """Segment the next frame of the video, (3, H, W) float, normalised, of one size for all.

        A mask (N, H, W), bool or 0..1, gives objects in this frame, new ones or known ones anew, of
        these ids, distinct positive integers; None for 1..N. Others are segmented outside those.
        After the ``end`` nothing need be remembered. Gives (objects + 1, H, W) float32 of sum 1,
        background first, then objects as in ``object_ids``. A ValueError if masks and ids misfit.
        """
        given = self._check(frame, mask, object_ids)
        if not given and not self.object_ids:
            return frame.new_ones((1, *frame.shape[-2:]), dtype=torch.float32)
        self._index += 1
        due = self._index - self._remembered >= self.settings.mem_every
        remembers = (due or bool(given)) and not end
        image = _padded(frame)[None]
        keys = self.network.encode_key(image)
        probability = None
        # Where all known objects are given anew there is nothing to find.
        if not set(self.object_ids) <= set(given):
            shared = self.network.decoder.share(keys.features)
            # The finer maps are done with, and are the largest.
            keys = keys._replace(features=(keys.features[0],) * 3)
            # The sensory state moves on with the frame, or learns from what is remembered of it.
            probability = self._segment(keys, shared, update_hidden=not (end or remembers))
        if mask is not None and given:
            probability = self._with_given(probability, _padded(mask.to(image.device)), given)
        assert probability is not None
        if remembers:
            self._remember(image, keys, probability[1:])
        (height, width), (left, _, top, _) = frame.shape[-2:], _padding(frame)
        return probability[..., top : top + height, left : left + width]

    def _check(
        self, frame: Tensor, mask: Tensor | None, object_ids: Sequence[int] | None
    ) -> list[int]:
        """Ids of the objects given in a frame; raises what :meth:`step` says."""
        if frame.ndim != 3 or frame.shape[0] != 3:
            raise ValueError(f"a frame is (3, H, W), not {tuple(frame.shape)}")
        size = (frame.shape[1], frame.shape[2])
        if self._size not in (None, size):
            raise ValueError(f"the frame is {size}, the video's frames are {self._size}")
        if mask is None:
            if object_ids:
                raise ValueError("object_ids come with a mask")
            self._size = size
            return []
        if mask.ndim != 3 or tuple(mask.shape[1:]) != size:
            raise ValueError(f"the mask is {tuple(mask.shape)}, not (N, {size[0]}, {size[1]})")
        given = list(range(1, len(mask) + 1)) if object_ids is None else [*map(int, object_ids)]
        if len(given) != len(mask) or len(set(given)) != len(given) or min(given, default=1) < 1:
            needed = f"{len(mask)} planes of the mask need as many distinct positive ids"
            raise ValueError(f"{needed}, not {given}")
        self._size = size
        return given

    def _parts(self) -> Iterator[tuple[Memory, int, slice]]:
        """Objects encoded and decoded together: memory, part of it, and places among all."""
        first = 0
        for memory in self.memories:
            for index, part in enumerate(memory.parts):
                yield memory, index, slice(first + part.start, first + part.stop)
            first += memory.parts[-1].stop

    def _segment(self, keys: Keys, shared: SharedMaps, *, update_hidden: bool) -> Tensor:
        """Probabilities (objects + 1, H, W) of the known objects."""
        assert self._hidden is not None
        size = keys.key.shape[-2:]
        whole = [_STRIDE * side for side in size]
        single = keys.key.new_empty((len(self.object_ids), *whole), dtype=torch.float32)

        def decode(readout: Tensor, hidden: Tensor, found: Tensor, part: slice) -> None:
            state, logits = self.network.decoder(
                shared, readout[:, part], hidden[:, part], update_hidden=update_hidden
            )
            torch.sigmoid(logits[0].float(), out=found[part])
            if update_hidden:
                hidden[:, part] = state

        reading = None
        for memory, part, places in self._parts():
            if reading is None or part == 0:
                reading = memory.look_up(keys.key, keys.selection)
            readout = memory.read(part, reading, size)
            # Of these objects, views that are written.
            hidden, found = self._hidden[:, places], single[places]
            self.at_once.run(len(found), partial(decode, readout, hidden, found))
        return aggregate_probability(single)

    def _with_given(self, probability: Tensor | None, mask: Tensor, given: list[int]) -> Tensor:
        """Probabilities with the objects given in the frame, and room for the new ones."""
        new = [name for name in given if name not in self.object_ids]
        self.object_ids = (*self.object_ids, *new)
        single = mask.new_zeros((len(self.object_ids), *mask.shape[1:]))
        if probability is not None:
            single[: len(probability) - 1] = probability[1:]
            single.masked_fill_(mask.sum(0) > 0.5, 0)
        # One by one: a device would be waited for to bring it a list of places.
        for name, plane in zip(given, mask, strict=True):
            single[self.object_ids.index(name)] = plane
        if new:
            self.memories.append(Memory(self.settings, len(new), self.at_once.size))
            size = [length // _STRIDE for length in mask.shape[1:]]
            state = mask.new_zeros((1, len(new), self.network.hidden_dim, *size))
            self._hidden = state if self._hidden is None else torch.cat((self._hidden, state), 1)
        return aggregate_probability(single)

    def _remember(self, image: Tensor, keys: Keys, masks: Tensor) -> None:
        """Add the frame to the memories of all objects, whose sensory states learn from it."""
        assert self._hidden is not None
        hidden_states, total = self._hidden, masks.sum(0)
        shared = self.network.value_encoder.share(keys.features[0])

        def values(memory: Memory) -> Iterator[Tensor]:
            for owner, _, places in self._parts():
                if owner is memory:
                    found: list[Tensor] = []
                    own, hidden = masks[places], hidden_states[:, places]
                    self.at_once.run(len(own), partial(encode, own, hidden, found))
                    yield torch.cat(found, 1)

        def encode(own: Tensor, hidden: Tensor, found: list[Tensor], part: slice) -> None:
            mask = own[part][None]
            value, hidden[:, part] = self.network.value_encoder(
                image, shared, hidden[:, part], mask, total - mask, update_hidden=True
            )
            found.append(value)

        for memory in self.memories:
            memory.remember(*keys[:3], values(memory))
        self._remembered = self._index


def _padding(x: Tensor) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: what (..., H, W) lacks to multiples of 16, evenly."""
    down, across = (-length % _STRIDE for length in x.shape[-2:])
    return across // 2, across - across // 2, down // 2, down - down // 2


def _padded(x: Tensor) -> Tensor:
    return F.pad(x.float(), _padding(x))
