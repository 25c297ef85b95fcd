"""Pictures and videos made for the tests; nothing is read from outside."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

QUADRANTS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 60))


def picture(index: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Four coloured quadrants, so that every turn shows; a bar tells the frame."""
    height, width = size
    image = np.empty((height, width, 3), dtype=np.uint8)
    for k, colour in enumerate(QUADRANTS):
        rows = slice(0, height // 2) if k < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if k % 2 == 0 else slice(width // 2, width)
        image[rows, columns] = colour
    image[height // 2 - 4 : height // 2 + 4] = (7 * index) % 256
    return image


def noisy(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture whose compressed size is large enough to cut pieces out."""
    noise = np.random.default_rng(index).integers(0, 24, (*size, 3), dtype=np.uint8)
    return picture(index, size) // 2 + noise


def write_plain(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: list[int] | None = None,
    rate: int = 25,
    ticks: int = 1000,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """Write a video with PyAV alone: what other programs make; ``ticks`` of ``pts`` a second."""
    import av

    base = Fraction(1, ticks if pts else rate)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts = pts[index] if pts else index
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def as_open_dml(data: bytes, *, first: int, empty: int = 0) -> bytes:
    """An AVI of PyAV as recorders write those over 1 GB: in two RIFF segments, OpenDML 1.02.

    Args:
        data: The AVI, of one stream.
        first: Frames in the first segment, the others are in the second.
        empty: Frames without data that are added at the end, as of a recorder that dropped them.
    """
    parts = {body[:4] if name == b"LIST" else name: body for name, body in _chunks(data[12:])}
    frames = [body for _, body in _chunks(parts[b"movi"][4:])] + [b""] * empty
    (_, main), (_, stream), *_ = _chunks(parts[b"hdrl"][4:])
    (_, strh), (_, strf), *_ = _chunks(stream[4:])
    main = main[:16] + struct.pack("<I", first) + main[20:]
    strh = strh[:32] + struct.pack("<I", len(frames)) + strh[36:]
    segments = frames[:first], frames[first:]

    def written(offsets: list[int]) -> bytes:
        index = struct.pack("<HBBI4s12x", 4, 0, 0, 2, b"00dc")
        for offset, part in zip(offsets, segments, strict=True):
            index += struct.pack("<QII", offset, 32 + 8 * len(part), len(part))
        strl = _chunk(b"strh", strh) + _chunk(b"strf", strf) + _chunk(b"indx", index)
        odml = _list(b"odml", _chunk(b"dmlh", struct.pack("<I", len(frames))))
        head = _list(b"hdrl", _chunk(b"avih", main) + _list(b"strl", strl) + odml)
        # RIFF and movi each begin with twelve bytes.
        found = _chunk(b"RIFF", b"AVI " + head + _movi(segments[0], 24 + len(head)))
        return found + _chunk(b"RIFF", b"AVIX" + _movi(segments[1], len(found) + 24))

    # Of the same length whatever the offsets, which are known only then.
    return written([place.start() for place in re.finditer(b"ix00", written([0, 0]))])


def _movi(frames: list[bytes], start: int) -> bytes:
    body, entries = b"", b""
    for frame in frames:
        entries += struct.pack("<II", len(body) + 8, len(frame))
        body += _chunk(b"00dc", frame)
    head = struct.pack("<HBBI4sQ4x", 2, 0, 1, len(frames), b"00dc", start)
    return _list(b"movi", body + _chunk(b"ix00", head + entries))


def _list(kind: bytes, body: bytes) -> bytes:
    return _chunk(b"LIST", kind + body)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        (size,) = struct.unpack("<I", data[place + 4 : place + 8])
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
