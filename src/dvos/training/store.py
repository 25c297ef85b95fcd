"""Decoded files kept in memory up to a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar, cast

__all__ = ["DecodedFiles"]


class Sized(Protocol):
    """Something that knows how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Memory taken, bytes."""
        ...


T = TypeVar("T", bound=Sized)


class DecodedFiles:
    """What was decoded, by key; the least recently used goes first.

    One store is shared by all sources of a data set, so that one bound holds
    for all. A copy in another process begins empty: files are cheaper to read
    again than to send.

    Args:
        memory: Bytes that may be taken. The latest is kept whatever its size.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._kept: OrderedDict[Hashable, Sized] = OrderedDict()
        self._taken = 0

    def get(self, key: Hashable, decode: Callable[[], T]) -> T:
        """Give what ``key`` stands for, decoding it if it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return cast("T", self._kept[key])
        decoded = decode()
        self._kept[key] = decoded
        self._taken += decoded.nbytes
        while self._taken > self._memory and len(self._kept) > 1:
            self._taken -= self._kept.popitem(last=False)[1].nbytes
        return decoded

    def keeps(self, key: Hashable, size: int) -> bool:
        """Whether what ``key`` stands for is kept, or would be without another going.

        Args:
            key: As of :meth:`get`.
            size: Memory that it takes, bytes.
        """
        return key in self._kept or self._taken + size <= self._memory

    @property
    def taken(self) -> int:
        """Memory taken, bytes."""
        return self._taken

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": self._memory, "_kept": OrderedDict(), "_taken": 0}
