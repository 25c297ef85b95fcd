"""Whether an AVI is all there: of one RIFF segment, or of several, as OpenDML has it over 1 GB."""

from __future__ import annotations

import os
import struct
from pathlib import Path

#: Bytes at the head of the file, in which its streams are described.
_HEAD = 2**18
#: Of an index of indices, what stands before its entries, and how long each is.
_INDEX, _ENTRY = 24, 16
_OF_INDICES = 0


def is_whole_avi(path: Path) -> bool:
    """Whether the segments of an AVI end where the file ends, and none that it lists is missing.

    What its header counts as frames does not tell: a recorder counts those that it dropped.
    """
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD)
        place = 0
        while place < end:
            file.seek(place)
            name, length = file.read(4), file.read(4)
            if name != b"RIFF" or len(length) < 4:
                return False
            place += 8 + int.from_bytes(length, "little")
            place += place % 2 and place < end  # to an even place
    return place == end and all(stop <= end for stop in _listed(head))


def _listed(head: bytes) -> list[int]:
    """Where the indices end of the segments that the header lists, OpenDML 1.02, page 16."""
    stops = []
    place = head.find(b"indx")
    while place >= 0:
        body = head[place + 8 :]
        if len(body) >= _INDEX and body[3] == _OF_INDICES:
            count = int.from_bytes(body[4:8], "little")
            entries = body[_INDEX : _INDEX + _ENTRY * count]
            for offset, size, _ in struct.iter_unpack("<QII", entries[: len(entries) // 16 * 16]):
                stops.append(offset + size)
        place = head.find(b"indx", place + 4)
    return stops
