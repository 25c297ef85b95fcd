"""What XMem remembers of a video: working and long-term memory (arXiv 2207.07115, 3.2 and 3.3).

The affinity of a remembered place n and a queried one q is ``-s_n / sqrt(CK) * sum_c e_qc (k_nc -
k_qc)^2`` (equation 6), multiplied out one product of rows ``[s k k, s k, s]`` and ``[-e, 2 e k,
-sum e k k]``. Letters: B clips, N objects, T frames, h and w of a map at stride 16, CK key and CV
value channels, n remembered and q queried places, k places read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Rows of at least so many affinities are looked through in blocks of so many.
_MANY, _BLOCK = 2048, 32
#: Affinities computed at once: on a CPU as many rows of queries are taken as stay in the cache,
#: elsewhere as few parts as memory lets there be (256 MB).
_AFFINITIES_ON_A_CPU, _AFFINITIES = 1 << 20, 1 << 26
#: Uses are counted from this many reads, so that nothing is divided by zero.
_FIRST_READS = 1e-7


def key_rows(key: Tensor, shrinkage: Tensor) -> Tensor:
    """Rows of remembered places: key (..., n, CK), shrinkage (..., n, 1) to (..., n, 2 CK + 1)."""
    scale = shrinkage / math.sqrt(key.shape[-1])
    scaled = key * scale
    return torch.cat((scaled * key, scaled, scale), -1)


def query_rows(key: Tensor, selection: Tensor) -> Tensor:
    """Rows of queried places: key and selection (..., q, CK) to (..., q, 2 CK + 1)."""
    chosen = selection * key
    return torch.cat((-selection, 2 * chosen, -(chosen * key).sum(-1, keepdim=True)), -1)


def top_k(affinity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The k = ``count`` largest values of each row of (q, n), in any order, and their places."""
    length = affinity.shape[1]
    if length < max(_MANY, 2 * _BLOCK * count) or not affinity.is_cpu:
        values, places = affinity.topk(count, 1, sorted=False)
        return values, places
    # The largest values lie in the blocks of largest maxima, as many of them.
    whole = length // _BLOCK * _BLOCK
    blocks = affinity[:, :whole].view(len(affinity), -1, _BLOCK)  # (q, n / block, block)
    best = blocks.amax(2).topk(count, 1, sorted=False).indices  # (q, k)
    chosen = blocks.gather(1, best[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    values, within = torch.cat((chosen, affinity[:, whole:]), 1).topk(count, 1, sorted=False)
    inside = within < count * _BLOCK
    block = best.gather(1, torch.where(inside, within // _BLOCK, 0))
    rest = within - count * _BLOCK + whole
    return values, torch.where(inside, block * _BLOCK + within % _BLOCK, rest)


def read_all(
    query_key: Tensor,
    query_selection: Tensor,
    memory_key: Tensor,
    memory_shrinkage: Tensor,
    memory_value: Tensor,
) -> Tensor:
    """Values of the places most like each place of the query; all places count, as in training.

    Of queries key and selection are (B, CK, h, w); of what is remembered key and shrinkage are
    (B, CK or 1, T, h, w), the value (B, N, CV, T, h, w). Gives (B, N, CV, h, w).
    """
    clips, objects = memory_value.shape[:2]
    # In full precision: differences of squares, then an exponential.
    with torch.autocast(query_key.device.type, enabled=False):
        # Each (B, channels, ...) to rows (B, places, channels).
        key, shrinkage, query, selection = (
            x.float().flatten(2).transpose(1, 2)
            for x in (memory_key, memory_shrinkage, query_key, query_selection)
        )
        remembered = key_rows(key, shrinkage).transpose(1, 2)
        weights = (query_rows(query, selection) @ remembered).softmax(2)  # (B, q, n)
    # (B, N, CV, T, h, w) to (B, N * CV, n): all objects read the same places.
    value = memory_value.flatten(3).flatten(1, 2)
    read = value @ weights.to(value.dtype).transpose(1, 2)
    return read.view(clips, objects, -1, *query_key.shape[-2:])


@dataclass(frozen=True)
class MemorySettings:
    """How much is remembered, and how often; a ValueError if values do not fit."""

    mem_every: int = 5  # A frame is remembered every so many frames.
    #: Frames left in working memory by a consolidation: the first, and the last but one fewer.
    min_mid_term_frames: int = 5
    max_mid_term_frames: int = 10  # Frames in working memory that set off a consolidation.
    prototypes: int = 128  # Elements of long-term memory made by a consolidation.
    long_term_max: int = 10_000  # Most elements of long-term memory.
    top_k: int = 30  # Elements read for each place of a frame.
    #: Without it working memory keeps every remembered frame and grows with the video.
    long_term: bool = True

    def __post_init__(self) -> None:
        if min(self.mem_every, self.min_mid_term_frames, self.prototypes, self.top_k) < 1:
            raise ValueError(f"each number is at least 1: {self}")
        if self.max_mid_term_frames <= self.min_mid_term_frames:
            raise ValueError("max_mid_term_frames must be more than min_mid_term_frames")
        if self.long_term_max < self.prototypes:
            raise ValueError("long_term_max must be at least prototypes")


class Reading(NamedTuple):
    """Which elements of memory each place of a frame reads, and weights of sum 1; (h * w, k)."""

    places: Tensor
    weights: Tensor


class Memory:
    """The memory of objects that came in the same frame, so that all share its elements.

    Elements lie in buffers that are written in place: first the frames of working memory, the
    oldest (in which the objects came, and which is never consolidated) in front, then long-term
    memory. The values of up to ``at_once`` objects that are decoded together, a part, lie side by
    side in one buffer; ``parts`` are their places.
    """

    def __init__(self, settings: MemorySettings, objects: int, at_once: int) -> None:
        self.settings = settings
        firsts = range(0, objects, at_once)
        self.parts = [slice(first, min(first + at_once, objects)) for first in firsts]
        self.working_frames = self.long_term_elements = self._area = 0
        # Of each frame in working memory key, shrinkage and selection, (h * w, channels).
        self._frames: list[tuple[Tensor, Tensor, Tensor]] = []
        self._rows: Tensor | None = None
        self._values: list[Tensor | None] = [None] * len(self.parts)
        # Of working memory, then of long-term memory: how much it was read, how often it could be.
        self._uses: list[Tensor] = []
        self._reads: list[Tensor] = []

    def remember(
        self, key: Tensor, shrinkage: Tensor, selection: Tensor, values: Iterable[Tensor]
    ) -> None:
        """Add a frame; values (1, n, CV, h, w) of each part, in order, are taken one by one."""
        frame = _places(key), _places(shrinkage), _places(selection)
        self._area = len(frame[0])
        start = self.working_frames * self._area
        self._rows = self._written(self._rows, key_rows(*frame[:2]), start)
        for index, value in enumerate(values):
            # (1, n, CV, h, w) to (h * w, n * CV).
            rows = value[0].permute(2, 3, 0, 1).reshape(self._area, -1)
            self._values[index] = self._written(self._values[index], rows, start)
        self.working_frames += 1
        if self.settings.long_term:
            self._frames.append(frame)
            if not self._uses:
                none = frame[0].new_empty(0)
                self._uses, self._reads = [none, none], [none, none]
            self._count_from(0, self._area)
            if self.working_frames >= self.settings.max_mid_term_frames:
                self._consolidate()

    def look_up(self, key: Tensor, selection: Tensor) -> Reading:
        """The elements of largest affinity for each place of (1, CK, h, w), whose use is noted."""
        assert self._rows is not None
        working, start = self.working_frames * self._area, self._long_start
        length = working + self.long_term_elements
        count = min(self.settings.top_k, length)
        query = query_rows(_places(key), _places(selection))
        at_once = max(1, (_AFFINITIES_ON_A_CPU if query.is_cpu else _AFFINITIES) // length)
        affinity = query.new_empty((min(at_once, len(query)), length))
        found = []
        for rows in torch.split(query, at_once):
            part = affinity[: len(rows)]
            torch.mm(rows, self._rows[:working].T, out=part[:, :working])
            if self.long_term_elements:
                remembered = self._rows[start : start + self.long_term_elements]
                torch.mm(rows, remembered.T, out=part[:, working:])
            found.append(top_k(part, count))
        weights = torch.cat([values for values, _ in found]).softmax(1)
        places = torch.cat([places for _, places in found])
        if self.settings.long_term:
            use = weights.new_zeros(length)
            use.index_add_(0, places.flatten(), weights.flatten())
            for kind, share in enumerate((use[:working], use[working:])):
                self._uses[kind] += share
                self._reads[kind] += 1
        if self.long_term_elements:
            places = torch.where(places < working, places, places + (start - working))
        return Reading(places, weights)

    def read(self, part: int, reading: Reading, size: Sequence[int]) -> Tensor:
        """Values (1, n, CV, h, w) of the objects of ``parts[part]``; size is (h, w)."""
        values = self._values[part]
        assert values is not None
        weights = reading.weights.to(values.dtype)
        read = F.embedding_bag(reading.places, values, mode="sum", per_sample_weights=weights)
        # (h * w, n * CV) to (1, n, CV, h, w).
        objects = self.parts[part].stop - self.parts[part].start
        return read.view(1, *size, objects, -1).permute(0, 3, 4, 1, 2)

    @property
    def _long_start(self) -> int:
        """Where long-term memory begins in the buffers."""
        return self.settings.max_mid_term_frames * self._area

    def _written(self, buffer: Tensor | None, rows: Tensor, start: int) -> Tensor:
        """The buffer with rows from ``start`` on: itself, or a larger one of the same content."""
        needed = start + len(rows)
        if self.settings.long_term:
            # Working memory has its room from the beginning.
            needed = max(needed, self._long_start + self.long_term_elements)
        if buffer is None:
            buffer = rows.new_empty((needed, rows.shape[1]))
        elif len(buffer) < needed:
            grown = max(needed, len(buffer) + len(buffer) // 4)
            larger = rows.new_empty((grown, rows.shape[1]))
            larger[: len(buffer)] = buffer
            buffer = larger
        buffer[start : start + len(rows)] = rows
        return buffer

    def _count_from(self, kind: int, count: int) -> None:
        """Begin to count the uses of elements added to working (0) or long-term (1) memory."""
        for counts, first in ((self._uses, 0.0), (self._reads, _FIRST_READS)):
            counts[kind] = torch.cat((counts[kind], counts[kind].new_full((count,), first)))

    def _consolidate(self) -> None:
        """Make prototypes of the frames between the first and the last few, and forget those."""
        assert self._rows is not None
        settings, area = self.settings, self._area
        stop = self.working_frames - (settings.min_mid_term_frames - 1)
        first, last = area, stop * area
        usage = (self._uses[0] / self._reads[0])[first:last]
        count = min(settings.prototypes, last - first)
        if self.long_term_elements >= settings.long_term_max - count:
            self._evict(self.long_term_elements - (settings.long_term_max - count))
        key, shrinkage, selection = (torch.cat(x) for x in zip(*self._frames[1:stop], strict=True))
        chosen = usage.topk(count).indices
        query = query_rows(key[chosen], selection[chosen])
        weights = (query @ self._rows[first:last].T).softmax(1)
        end = self._long_start + self.long_term_elements
        self._rows = self._written(self._rows, key_rows(key[chosen], weights @ shrinkage), end)
        for index, values in enumerate(self._values):
            assert values is not None
            prototypes = weights.to(values.dtype) @ values[first:last]
            self._values[index] = self._written(values, prototypes, end)
        self.long_term_elements += count
        self._count_from(1, count)
        # The frames behind those that are forgotten move forward to their place.
        end = self.working_frames * area
        for buffer in self._buffers():
            # A copy in between, as the two may overlap.
            buffer[first : first + end - last] = buffer[last:end].clone()
        for counts in (self._uses, self._reads):
            counts[0] = torch.cat((counts[0][:first], counts[0][last:]))
        del self._frames[1:stop]
        self.working_frames -= stop - 1

    def _buffers(self) -> list[Tensor]:
        return [buffer for buffer in (self._rows, *self._values) if buffer is not None]

    def _evict(self, excess: int) -> None:
        """Forget the least used elements; as published, all used as little as the last go."""
        if excess < 1:
            return
        usage = self._uses[1] / self._reads[1]
        survives = usage > usage.kthvalue(min(excess, len(usage))).values
        places, start = survives.nonzero().flatten(), self._long_start
        for buffer in self._buffers():
            buffer[start : start + len(places)] = buffer[start + places]
        for counts in (self._uses, self._reads):
            counts[1] = counts[1][places]
        self.long_term_elements = len(places)


def _places(x: Tensor) -> Tensor:
    """(1, C, h, w) to (h * w, C), float32."""
    return x[0].flatten(1).T.float().contiguous()
