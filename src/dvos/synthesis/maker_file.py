"""A built maker in a file, for the worker processes of one machine.

Preparing ten thousand cutouts takes some 20 s and 400 MB. The parent does it
once; its workers map the file and share its pages.
"""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path

from dvos.files import atomic_path
from dvos.synthesis.clip import ClipMaker

__all__ = ["read_maker", "write_maker"]

_ALIGNED = 64


def write_maker(path: Path, maker: ClipMaker) -> None:
    """Write ``maker`` with its arrays laid out as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(maker, protocol=5, buffer_callback=buffers.append)
    places = []
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        for buffer in buffers:
            raw = buffer.raw()
            stream.write(bytes(-stream.tell() % _ALIGNED))
            places.append((stream.tell(), raw.nbytes))
            stream.write(raw)
        end = stream.tell()
        stream.write(pickle.dumps((body, places)))
        stream.write(end.to_bytes(8, "little"))


def read_maker(path: Path) -> ClipMaker:
    """Read what :func:`write_maker` wrote in the same run; only for files of one's own."""
    with open(path, "rb") as stream:
        # Copied on write, as compiled kernels tell arrays that may be written
        # from those that may not; nothing is written, so all pages stay shared.
        view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
    end = int.from_bytes(view[-8:], "little")
    body, places = pickle.loads(view[end:-8])
    maker = pickle.loads(body, buffers=[view[at : at + size] for at, size in places])
    if not isinstance(maker, ClipMaker):
        raise TypeError(f"{path} holds a {type(maker).__name__}")
    return maker
