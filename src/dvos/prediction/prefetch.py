"""Reading ahead in a thread, so that decoding and the network overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["read_ahead"]

T = TypeVar("T")

#: Seconds after which a waiting reader looks whether it is still wanted.
_POLL = 0.1


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def read_ahead(items: Iterator[T], *, depth: int) -> Generator[T, None, None]:
    """Give ``items`` in order while a thread already fetches the next ones.

    An exception of ``items`` is raised here, after the items before it. When
    the consumer stops early the thread ends, and ``items`` is closed in it.

    Args:
        items: Taken from in the thread only.
        depth: At most so many items wait, which bounds the memory.
    """
    waiting: queue.Queue[_Item[T] | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: _Item[T] | _End) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                waiting.put(entry, timeout=_POLL)
                return True
        return False

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(_Item(item)):
                    break
        except BaseException as caught:  # handed to the consumer, which raises it
            error = caught
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        put(_End(error))

    reader = threading.Thread(target=read, name="dvos-reader", daemon=True)
    reader.start()
    try:
        while isinstance(entry := waiting.get(), _Item):
            yield entry.value
        if entry.error is not None:
            raise entry.error
    finally:
        stopped.set()
        reader.join()
