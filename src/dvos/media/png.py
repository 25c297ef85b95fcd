"""PNG: its header, its chunks with their checksums, and a window of it without the rest.

A PNG is one stream from its first row to its last: nothing below a window need
be inflated, which saves half the time of a random window of a large frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import read_bytes
from dvos.media.limits import check_room

Bytes = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Bytes of a pixel of 8 bit samples by colour type: grey, RGB, RGBA.
_PIXEL_BYTES = {0: 1, 2: 3, 6: 4}


class PngHeader(NamedTuple):
    """What the IHDR chunk says. ``colour_type`` 0 grey, 2 RGB, 3 palette, 4 LA, 6 RGBA."""

    height: int
    width: int
    depth: int
    colour_type: int
    interlaced: bool

    @property
    def room(self) -> int:
        """Bytes a pixel that OpenCV's 1, 3 or 4 samples, their order changed, and RGB take."""
        samples = {0: 1, 2: 3}.get(self.colour_type, 4)
        stored = samples * (2 if self.depth == 16 else 1)
        return max(stored if samples == 1 else 2 * stored, stored + samples + 4)


def png_header(data: bytes, path: Path) -> PngHeader:
    """Parse the header of a PNG from its first 29 bytes.

    Raises:
        MediaError: If they are not the beginning of a PNG.
    """
    if len(data) < 29 or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        raise MediaError.damaged(path, "PNG", "its header is incomplete")
    width, height, depth, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    return PngHeader(height, width, depth, colour_type, interlaced != 0)


def check_png(data: bytes, path: Path) -> None:
    """Walk the chunks of a PNG: each whole, each checksum right, IEND at the end, one frame.

    Raises:
        MediaError: At the first chunk that is not, or that begins an animation.
    """
    for kind, content in _chunks(data, path):
        if kind == b"acTL" and int.from_bytes(content[:4], "big") > 1:
            raise animation(path)


def animation(path: Path) -> MediaError:
    """The error of an image file that holds several."""
    remedy = "save each frame as a file of its own"
    return MediaError.at(path, "an animation of several frames", "one image", remedy)


def read_png_window(
    path: Path, window: tuple[int, int, int, int], *, size: tuple[int, int]
) -> Bytes | None:
    """Read a window (top, left, height, width) of a PNG, the pixels that ``read_image`` gives.

    Returns:
        uint8 RGB (height, width, 3); None if the file is no PNG of that ``size`` (height, width)
        and of a kind that can be read in part (8 bit grey, RGB or RGBA, not
        interlaced), which says nothing about whether it is sound.

    Raises:
        MediaError: If the file is missing, truncated or corrupt.
    """
    if window == (0, 0, *size):
        return None
    with suppress(OSError), open(path, "rb") as stream:
        if stream.read(len(SIGNATURE)) != SIGNATURE:
            return None
    # What could not be opened is told by the reader of the whole.
    data = read_bytes(path)
    header = png_header(data, path)
    step = _PIXEL_BYTES.get(header.colour_type, 0)
    if (header.height, header.width) != size or header.depth != 8 or not step or header.interlaced:
        return None
    top, left, height, width = window
    row_bytes = 1 + step * header.width
    check_room(path, top + height, header.width, 1 + step)
    # All checksums, those of the part not needed too: damage is told at once.
    stored = b"".join([content for kind, content in _chunks(data, path) if kind == b"IDAT"])
    wanted = (top + height) * row_bytes
    try:
        inflated = zlib.decompressobj().decompress(stored, wanted)
    except zlib.error as error:
        raise MediaError.damaged(path, "PNG", str(error)) from error
    if len(inflated) < wanted:
        raise MediaError.damaged(path, "PNG", "its pixels end early")
    # A PNG of these rows alone, whose stored samples the decoder has only to put together.
    head = data[16:20] + (top + height).to_bytes(4, "big") + data[24:29]
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(inflated, 0)), (b"IEND", b""))
    part = SIGNATURE + b"".join(_chunk(*chunk) for chunk in parts)
    pixels = cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise MediaError.damaged(path, "PNG", "a row has an unknown filter")
    return np.ascontiguousarray(pixels[top:, left : left + width], np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def _chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk up to IEND, its checksum compared."""
    view, at, size = memoryview(data), len(SIGNATURE), len(data)
    while at + 12 <= size:
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if end > size:
            break
        kind = data[at + 4 : at + 8]
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            name = kind.decode("latin-1")
            raise MediaError.damaged(path, "PNG", f"wrong checksum in chunk {name!a} at byte {at}")
        if kind == b"IEND":
            return
        yield kind, view[at + 8 : end - 4]
        at = end
    raise MediaError.damaged(path, "PNG", f"the file ends early, at byte {size}")
