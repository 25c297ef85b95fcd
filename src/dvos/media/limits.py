"""How large an image may be: as OpenCV reads it at most, and as the machine has memory for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dvos.errors import MediaError

#: Most pixels of an image, OpenCV's limit.
MOST_PIXELS = 2**30
#: What fits in so much is not looked at.
_SMALL = 2**28
#: What a container may take, and what it has taken, in cgroups of version 2 and 1.
_CONTAINERS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def check_room(path: Path, height: int, width: int, bytes_a_pixel: float) -> None:
    """Refuse an image before it is decoded that is too large for the machine.

    Args:
        path: Of the image, for messages only.
        height: As its header states it.
        width: Likewise.
        bytes_a_pixel: Memory that decoding and converting it takes at most.

    Raises:
        MediaError: If it has no pixel, more than :data:`MOST_PIXELS`, or needs more
            memory than is free, where the system tells how much that is.
    """
    if height * width == 0:
        raise MediaError.at(path, f"no pixels ({width} x {height})")
    remedy = "cut it into tiles"
    if height * width > MOST_PIXELS:
        found = f"too many pixels ({width} x {height})"
        raise MediaError.at(path, found, f"at most {MOST_PIXELS:,}", remedy)
    needed = height * width * bytes_a_pixel
    if needed > _SMALL and needed > (free := free_memory()):
        sizes = f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        found = f"{width} x {height} pixels need {sizes}"
        raise MediaError.at(path, found, remedy=f"{remedy}, or use a machine with more memory")


def free_memory() -> float:
    """Bytes that this process may still take; infinite where the system does not tell."""
    free = float("inf")
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        stated = next(line for line in lines if line.startswith("MemAvailable:"))
        free = 1024.0 * int(stated.split()[1])
    for limit, taken in _CONTAINERS:
        # Without a container there is no such file, or "max" in it.
        with suppress(OSError, ValueError):
            free = min(free, int(Path(limit).read_text()) - int(Path(taken).read_text()))
    return free
