"""Decoded images and masks, kept in memory up to a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from dvos.media.mask import is_binary, mask_ids, read_mask, unknown_value
from dvos.training.augment.spatial import Box, cut
from dvos.training.clips.clip import seed_points


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


class ImageCache:
    """What was decoded, by key, up to ``memory`` bytes; the least recently used goes first.

    One cache is shared by all sources of a data set, so that one bound holds for all. The latest
    is kept whatever its size. A copy in another process begins empty: files are cheaper to read
    again than to send.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._kept: OrderedDict[Hashable, _Sized] = OrderedDict()
        #: Bytes that are taken.
        self.taken = 0

    def get(self, key: Hashable, decode: Callable[[], T]) -> T:
        """Give what ``key`` stands for, decoding it if it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return cast("T", self._kept[key])
        decoded = decode()
        self._kept[key] = decoded
        self.taken += decoded.nbytes
        while self.taken > self._memory and len(self._kept) > 1:
            self.taken -= self._kept.popitem(last=False)[1].nbytes
        return decoded

    def keeps(self, key: Hashable, size: int) -> bool:
        """Whether ``key`` is kept, or its ``size`` bytes would be without another going."""
        return key in self._kept or self.taken + size <= self._memory

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": self._memory, "_kept": OrderedDict(), "taken": 0}


class DecodedMask:
    """A mask in memory: uint8 or uint16 (H, W), as stored, ``IGNORE`` where unknown."""

    def __init__(self, ids: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        self.ids = ids
        #: int64 (N, 2), (row, column) of pixels spread evenly over the objects.
        self.seed_points = seed_points(ids)
        #: Id of all objects; 0 where there are none, None where there are several ids.
        self.only: int | None = None
        if is_binary(ids):
            self.only = int(ids[tuple(self.seed_points[0])]) if len(self.seed_points) else 0

    @classmethod
    def read(cls, path: Path, void: str = "auto") -> DecodedMask:
        """Read a mask file; ``void`` and errors as of :func:`~dvos.media.mask.read_mask`."""
        mask = read_mask(path, void)
        # Most masks are of 8 bit and wholly known: they stay as they are, at half the memory.
        if mask.dtype == np.uint8 and unknown_value(mask) is None:
            return cls(mask)
        return cls(mask_ids(mask, where=path))

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.ids.nbytes + self.seed_points.nbytes

    def part(self, box: Box) -> NDArray[np.uint16]:
        """Ids in a box, uint16 (height, width); mirrored where it reaches beyond the mask."""
        return cut(cast("NDArray[np.uint16]", self.ids), box).astype(np.uint16)
