"""How much XMem can remember of so many objects in so much memory."""

from __future__ import annotations

from dataclasses import replace

from dvos.errors import RunError
from dvos.networks.xmem.memory import MemorySettings

#: Buffers grow by a quarter at a time, so that up to this much lies idle.
_SLACK = 1.25
#: Of what fits, the share left to working memory where both must shrink.
_WORKING_SHARE = 0.75
_LEAST_WORKING = 2


def memory_bytes(settings: MemorySettings, *, objects: int, area: int, object_bytes: int) -> int:
    """Bytes that full memories take.

    Args:
        settings: With long-term memory.
        objects: Number of objects.
        area: Elements of a frame: its pixels at stride 16.
        object_bytes: Of one object's value at one element.
    """
    elements = settings.max_mid_term_frames * area + settings.long_term_max
    return round(_SLACK * elements * objects * object_bytes)


def fit_memory(
    settings: MemorySettings, *, objects: int, area: int, object_bytes: int, limit: int
) -> MemorySettings:
    """Shorten memories so that they take at most ``limit`` bytes.

    Long-term memory gives way first, as far as four consolidations; then both
    share what there is. Without long-term memory nothing bounds the memories,
    and the settings stay as they are.

    Args:
        settings: As asked for.
        objects: Number of objects.
        area: Elements of a frame: its pixels at stride 16.
        object_bytes: Of one object's value at one element.
        limit: In bytes.

    Raises:
        RunError: If the least that XMem needs does not fit.
    """
    if not settings.long_term:
        return settings
    elements = int(limit / (_SLACK * objects * object_bytes))
    left = elements - settings.max_mid_term_frames * area
    if left >= settings.long_term_max:
        return settings
    if left >= 4 * settings.prototypes:
        return replace(settings, long_term_max=left)
    frames = int(_WORKING_SHARE * elements / area)
    working = min(settings.max_mid_term_frames, max(_LEAST_WORKING, frames))
    while working > _LEAST_WORKING and elements - working * area < settings.prototypes:
        working -= 1
    left = elements - working * area
    if left < settings.prototypes:
        least = replace(settings, min_mid_term_frames=1, max_mid_term_frames=_LEAST_WORKING,
                        long_term_max=settings.prototypes)  # fmt: skip
        needed = memory_bytes(least, objects=objects, area=area, object_bytes=object_bytes)
        raise RunError.at(
            f"{objects} objects",
            f"need {needed / 1e9:.1f} GB of memory at least, and {limit / 1e9:.1f} GB are left",
            remedy="raise xmem.memory_limit, lower xmem.size or --scale, or set xmem.objects=union",
        )
    return replace(
        settings,
        max_mid_term_frames=working,
        min_mid_term_frames=min(settings.min_mid_term_frames, working // 2),
        long_term_max=min(settings.long_term_max, left),
    )
