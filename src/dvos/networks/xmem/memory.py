"""What XMem remembers of a video: working and long-term memory, and reading from them.

XMem (arXiv 2207.07115), section 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dvos.networks.xmem.likeness import key_rows, query_rows, strongest

__all__ = ["Memory", "MemorySettings", "Reading"]

#: Likenesses computed at once: rows of queries are taken so that they stay in the cache.
_LIKENESSES_AT_ONCE = 1 << 20
#: Uses are counted from this many reads, so that nothing is divided by zero.
_FIRST_READS = 1e-7


@dataclass(frozen=True)
class MemorySettings:
    """How much is remembered, and how often; the published defaults.

    Attributes:
        every: A frame is remembered every so many frames.
        working_min: Frames left in working memory by a consolidation: the
            first and the last ``working_min - 1``.
        working_max: Frames in working memory that set off a consolidation.
        prototypes: Elements of long-term memory made by a consolidation.
        long_term_max: Most elements of long-term memory.
        top_k: Elements read for each place of a frame.
        long_term: Whether there is a long-term memory. Without it working
            memory keeps every remembered frame and grows with the video.
        deep_every: Frames between deep updates of the sensory state; -1 for
            whenever a frame is remembered.
    """

    every: int = 5
    working_min: int = 5
    working_max: int = 10
    prototypes: int = 128
    long_term_max: int = 10_000
    top_k: int = 30
    long_term: bool = True
    deep_every: int = -1

    def __post_init__(self) -> None:
        least = {"every": 1, "working_min": 1, "prototypes": 1, "top_k": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {value}")
        if self.working_max <= self.working_min:
            raise ValueError("working_max must be more than working_min")
        if self.long_term_max < self.prototypes:
            raise ValueError("long_term_max must be at least prototypes")
        if self.deep_every < 1 and self.deep_every != -1:
            raise ValueError("deep_every is -1 (with every remembered frame) or at least 1")


class Reading(NamedTuple):
    """Which elements of memory each place of a frame reads, and how much of each.

    Attributes:
        places: (h * w, k) of the elements.
        weights: (h * w, k), float32, of sum 1.
    """

    places: Tensor
    weights: Tensor


class _Part(NamedTuple):
    """Some objects of a memory, encoded and decoded together.

    Attributes:
        first: Of its objects among those of the memory.
        objects: Number of its objects.
    """

    first: int
    objects: int


class _Frame(NamedTuple):
    """What a consolidation needs of a frame in working memory; each (h * w, channels)."""

    key: Tensor
    shrinkage: Tensor
    selection: Tensor


class Memory:
    """The memory of objects that came in the same frame, so that all share its elements.

    Elements lie in buffers that are written in place: first the frames of
    working memory, the oldest (in which the objects came, and which is never
    consolidated) in front, then long-term memory. The values of objects that
    are decoded together lie side by side in one buffer.

    Args:
        settings: How much is remembered.
        objects: Number of objects.
        at_once: Objects in a part, at most.
    """

    def __init__(self, settings: MemorySettings, objects: int, at_once: int) -> None:
        self.settings = settings
        self.parts = tuple(
            _Part(first, min(at_once, objects - first)) for first in range(0, objects, at_once)
        )
        self._area = 0
        self._frame_count = 0
        self._long_count = 0
        self._frames: list[_Frame] = []
        self._rows = torch.empty(0)
        self._values: list[Tensor] = [torch.empty(0) for _ in self.parts]
        # Of working memory, then of long-term memory: how much it was read, how often it could be.
        self._uses = [torch.empty(0), torch.empty(0)]
        self._reads = [torch.empty(0), torch.empty(0)]

    @property
    def working_frames(self) -> int:
        """Frames in working memory."""
        return self._frame_count

    @property
    def long_term_elements(self) -> int:
        """Elements of long-term memory."""
        return self._long_count

    def remember(
        self, key: Tensor, shrinkage: Tensor, selection: Tensor | None, values: Iterable[Tensor]
    ) -> None:
        """Add a frame to working memory, and consolidate if that is full.

        Args:
            key: (1, CK, h, w).
            shrinkage: (1, 1, h, w).
            selection: (1, CK, h, w); needed with long-term memory.
            values: (1, n, CV, h, w) of each part, in order; taken one by one.
        """
        flat_key, flat_shrinkage = _places(key), _places(shrinkage)
        self._area = len(flat_key)
        start = self._frame_count * self._area
        self._rows = self._reserve(self._rows, key_rows(flat_key, flat_shrinkage))
        self._rows[start : start + self._area] = key_rows(flat_key, flat_shrinkage)
        for index, value in enumerate(values):
            rows = value[0].permute(2, 3, 0, 1).reshape(self._area, -1)
            self._values[index] = self._reserve(self._values[index], rows)
            self._values[index][start : start + self._area] = rows
        self._frame_count += 1
        if self.settings.long_term:
            assert selection is not None
            self._frames.append(_Frame(flat_key, flat_shrinkage, _places(selection)))
            self._count_from(0, self._area, flat_key)
            if self._frame_count >= self.settings.working_max:
                self._consolidate()

    def look_up(self, key: Tensor, selection: Tensor) -> Reading:
        """Find the most alike elements for each place of a frame, and note their use.

        Args:
            key: (1, CK, h, w).
            selection: (1, CK, h, w).
        """
        working, start = self._frame_count * self._area, self._long_start
        length = working + self._long_count
        count = min(self.settings.top_k, length)
        query = query_rows(_places(key), _places(selection))
        at_once = max(1, _LIKENESSES_AT_ONCE // length)
        likeness = query.new_empty((min(at_once, len(query)), length))
        found = []
        for rows in torch.split(query, at_once):
            part = likeness[: len(rows)]
            torch.mm(rows, self._rows[:working].T, out=part[:, :working])
            if self._long_count:
                remembered = self._rows[start : start + self._long_count]
                torch.mm(rows, remembered.T, out=part[:, working:])
            found.append(strongest(part, count))
        weights = torch.cat([values for values, _ in found]).softmax(1)
        places = torch.cat([places for _, places in found])
        if self.settings.long_term:
            use = weights.new_zeros(length)
            use.index_add_(0, places.flatten(), weights.flatten())
            for kind, share in enumerate((use[:working], use[working:])):
                self._uses[kind] += share
                self._reads[kind] += 1
        if self._long_count:
            places = torch.where(places < working, places, places + (start - working))
        return Reading(places, weights)

    def read(self, part: int, reading: Reading, size: tuple[int, int]) -> Tensor:
        """Values of one part's objects.

        Args:
            part: Index into ``parts``.
            reading: From :meth:`look_up`.
            size: (h, w).

        Returns:
            (1, n, CV, h, w).
        """
        values = self._values[part]
        read = F.embedding_bag(
            reading.places,
            values,
            mode="sum",
            per_sample_weights=reading.weights.to(values.dtype),
        )
        return read.view(1, *size, self.parts[part].objects, -1).permute(0, 3, 4, 1, 2)

    @property
    def _long_start(self) -> int:
        """Where long-term memory begins in the buffers."""
        return self.settings.working_max * self._area

    def _reserve(self, buffer: Tensor, like: Tensor, extra: int = 0) -> Tensor:
        """The buffer, or a larger one of the same content, with room for what comes next."""
        if self.settings.long_term:
            needed = self._long_start + self._long_count + extra
        else:
            needed = (self._frame_count + 1) * self._area
        if buffer.numel() and len(buffer) >= needed:
            return buffer
        grown = needed
        if buffer.numel():
            grown = max(needed, len(buffer) + len(buffer) // 4)
        larger = like.new_empty((grown, like.shape[1]))
        if buffer.numel():
            larger[: len(buffer)] = buffer
        return larger

    def _count_from(self, kind: int, count: int, like: Tensor) -> None:
        """Begin to count the uses of elements added to working (0) or long-term (1) memory."""
        for counts, first in ((self._uses, 0.0), (self._reads, _FIRST_READS)):
            new = like.new_full((count,), first)
            counts[kind] = torch.cat((counts[kind].to(new), new))

    def _consolidate(self) -> None:
        """Make prototypes of the frames between the first and the last few, and forget those."""
        settings, area = self.settings, self._area
        kept = settings.working_min - 1
        first, last = area, (self._frame_count - kept) * area
        usage = (self._uses[0] / self._reads[0])[first:last]
        count = min(settings.prototypes, last - first)
        if self._long_count >= settings.long_term_max - count:
            self._evict(self._long_count - (settings.long_term_max - count))
        frames = self._frames[1 : self._frame_count - kept]
        key, shrinkage, selection = (torch.cat(x) for x in zip(*frames, strict=True))
        chosen = usage.topk(count).indices
        query = query_rows(key[chosen], selection[chosen])
        affinity = (query @ self._rows[first:last].T).softmax(1)
        rows = key_rows(key[chosen], affinity @ shrinkage)
        self._rows = self._appended(self._rows, rows)
        for index, values in enumerate(self._values):
            prototypes = affinity.to(values.dtype) @ values[first:last]
            self._values[index] = self._appended(values, prototypes)
        self._long_count += count
        self._count_from(1, count, rows)
        self._drop_frames(range(1, self._frame_count - kept))

    def _appended(self, buffer: Tensor, rows: Tensor) -> Tensor:
        """The buffer with rows behind long-term memory."""
        buffer = self._reserve(buffer, rows, len(rows))
        start = self._long_start + self._long_count
        buffer[start : start + len(rows)] = rows
        return buffer

    def _drop_frames(self, dropped: range) -> None:
        """Move the frames behind the dropped ones forward to their place."""
        area, stop = self._area, self._frame_count * self._area
        source, target = dropped.stop * area, dropped.start * area
        for buffer in (self._rows, *self._values):
            # A copy in between, as the two may overlap.
            buffer[target : target + stop - source] = buffer[source:stop].clone()
        for counts in (self._uses, self._reads):
            counts[0] = torch.cat((counts[0][:target], counts[0][source:]))
        del self._frames[dropped.start : dropped.stop]
        self._frame_count -= len(dropped)

    def _evict(self, excess: int) -> None:
        """Forget the least used elements of long-term memory.

        As in the published code, elements used as little as the last of them
        go with them: mostly such as were never used.
        """
        if excess < 1:
            return
        usage = self._uses[1] / self._reads[1]
        survives = usage > usage.kthvalue(min(excess, len(usage))).values
        places = survives.nonzero().flatten()
        start = self._long_start
        for buffer in (self._rows, *self._values):
            buffer[start : start + len(places)] = buffer[start + places]
        for counts in (self._uses, self._reads):
            counts[1] = counts[1][places]
        self._long_count = len(places)


def _places(x: Tensor) -> Tensor:
    """(1, C, h, w) to (h * w, C), float32."""
    return x[0].flatten(1).T.float().contiguous()
