"""How large an image may be: as OpenCV reads it at most, and as the machine has memory for.

Readers at the same time have each a share of what was free; what was decoded is kept to a bound.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from dvos.errors import MediaError

#: Most pixels of an image, OpenCV's limit.
MOST_PIXELS = 2**30
#: What fits in so much is not looked at.
_SMALL = 2**28
#: What a container may take, what it has taken, and of what, in cgroups of version 2 and 1.
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_CGROUPS = Path("/sys/fs/cgroup")
_CACHED = ("inactive_file", "active_file")
T = TypeVar("T")


class MemoryShare(NamedTuple):
    """How many bytes each of some processes or threads may take at ``most``."""

    readers: int
    most: float

    @classmethod
    def of(cls, readers: int) -> Self:
        """A share of what this process may still take, or of its own share."""
        return cls(readers * _share.readers, min(free_memory(), _share.most) / readers)


_share = MemoryShare(1, float("inf"))


def check_room(path: Path, height: int, width: int, bytes_a_pixel: float) -> None:
    """Refuse an image before it is decoded, by a MediaError.

    It has no pixel, more than :data:`MOST_PIXELS`, or needs more memory than is known to be free.
    """
    if height * width == 0:
        raise MediaError.at(path, f"no pixels ({width} x {height})")
    remedy = "cut it into tiles"
    if height * width > MOST_PIXELS:
        found = f"too many pixels ({width} x {height})"
        raise MediaError.at(path, found, f"at most {MOST_PIXELS:,}", remedy)
    needed = height * width * bytes_a_pixel
    if needed > _SMALL and needed > (free := min(free_memory(), _share.most)):
        sizes = f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        if _share.readers > 1:
            sizes += f" for each of {_share.readers} workers"
            remedy += ", use fewer workers"
        found = f"{width} x {height} pixels need {sizes}"
        raise MediaError.at(path, found, remedy=f"{remedy}, or use a machine with more memory")


def set_memory_share(share: MemoryShare) -> None:
    """Keep to a share from now on: what a worker process does first."""
    global _share
    _share = share


@contextmanager
def memory_shared(readers: int) -> Iterator[None]:
    """Part what this process may take among threads that read in the block."""
    before = _share
    set_memory_share(MemoryShare.of(readers))
    try:
        yield
    finally:
        set_memory_share(before)


def free_memory() -> float:
    """Bytes that this process may still take; infinite where the system does not tell."""
    free = float("inf")
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        stated = next(line for line in lines if line.startswith("MemAvailable:"))
        free = 1024.0 * int(stated.split()[1])
    for limit, taken, kinds in _CONTAINERS:
        # Without a container there is no such file, or "max" in it.
        with suppress(OSError, ValueError):
            most, used = (int((_CGROUPS / name).read_text()) for name in (limit, taken))
            rows = (line.split() for line in (_CGROUPS / kinds).read_text().splitlines())
            # Pages of files count as taken and are given up when memory is asked for.
            cached = sum(int(size) for kind, size in rows if kind in _CACHED)
            free = min(free, most - used + cached)
    return free


class ImageCache:
    """What was decoded, by key, up to ``memory`` bytes; the least recently used goes first.

    All sources of a data set share one, so that one bound holds. The latest is kept whatever its
    size. A copy in another process begins empty: files are cheaper to read again than to send.
    """

    def __init__(self, memory: int, size_of: Callable[[Any], int] = attrgetter("nbytes")) -> None:
        self.memory, self._size_of = memory, size_of
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()
        #: Bytes that are taken.
        self.taken = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.memory, self._size_of)

    def get(self, key: Hashable, decode: Callable[[], T]) -> T:
        """Give what ``key`` stands for, decoding it if it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                kept: T = self._kept[key]
                return kept
        decoded = decode()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = decoded
                self.taken += self._size_of(decoded)
            while self.taken > self.memory and len(self._kept) > 1:
                self.taken -= self._size_of(self._kept.popitem(last=False)[1])
        return decoded

    def keeps(self, key: Hashable, size: int) -> bool:
        """Whether ``key`` is kept, or its ``size`` bytes would be without another going."""
        return key in self._kept or self.taken + size <= self.memory
