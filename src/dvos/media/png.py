"""PNG: its header, its chunks with their checksums, and large pictures and windows of any.

Nothing below a window need be inflated, which saves half the time of one of a large frame; a large
picture takes half the time that OpenCV takes for it.
"""

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
#: What is wrong with an image file that holds several.
ANIMATION = ("an animation of several frames", "one image", "save each frame as a file of its own")

# Bytes of a pixel of 8 bit samples by colour type: grey, RGB, RGBA.
_PIXEL_BYTES = {0: 1, 2: 3, 6: 4}
# Pixels of a picture that is large.
_LARGE = 40_000_000


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
    """Parse the header of a PNG from its first 29 bytes; a MediaError if they are of none."""
    if len(data) < 29 or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        raise MediaError.damaged(path, "PNG", "its header is incomplete")
    width, height, depth, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    return PngHeader(height, width, depth, colour_type, interlaced != 0)


def check_png(data: bytes, path: Path) -> None:
    """Raise a MediaError at a PNG's first chunk that is damaged or begins an animation."""
    for _ in _chunks(data, path):
        pass


def read_png_window(
    path: Path, window: tuple[int, int, int, int], *, size: tuple[int, int]
) -> Bytes | None:
    """Read a window (top, left, height, width) of a PNG, the pixels that ``read_image`` would give.

    uint8 RGB (height, width, 3); None if the file is no PNG of ``size`` (height, width) and of a
    kind that can be read in part (8 bit grey, RGB or RGBA, not interlaced), sound or not. A
    MediaError if it is missing, truncated or corrupt.
    """
    if window == (0, 0, *size) or read_bytes(path, size=len(SIGNATURE)) != SIGNATURE:
        return None
    data = read_bytes(path)
    header = png_header(data, path)
    step = _PIXEL_BYTES.get(header.colour_type, 0)
    if (header.height, header.width) != size or header.depth != 8 or not step or header.interlaced:
        return None
    check_room(path, window[0] + window[2], header.width, 1 + step)
    pixels = _pixels(data, path, window, header, step)
    if step == 3:
        return pixels
    code = cv2.COLOR_GRAY2RGB if step == 1 else cv2.COLOR_RGBA2RGB
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def read_large_png(data: bytes, path: Path, header: PngHeader) -> Bytes | None:
    """All pixels of a PNG of 8 bit RGB as uint8 (height, width, 3), its chunks looked at as well.

    None if it is interlaced, or so small that loading the compiler would take longer. Raises as
    :func:`check_png` does, and if the pixels are damaged.
    """
    if header.interlaced or header.height * header.width < _LARGE:
        return None
    return _pixels(data, path, (0, 0, header.height, header.width), header, 3)


def _pixels(
    data: bytes, path: Path, window: tuple[int, int, int, int], header: PngHeader, step: int
) -> Bytes:
    """A window (top, left, height, width) of a PNG whose pixels have so many bytes."""
    top, left, height, width = window
    row_bytes = 1 + step * header.width
    # All checksums, those of the part not needed too: damage is told at once.
    stored = b"".join([content for kind, content in _chunks(data, path) if kind == b"IDAT"])
    is_whole = top + height == header.height and header.height * header.width >= _LARGE
    inflated = _inflated(stored, (top + height) * row_bytes, is_whole, path)
    rows = np.frombuffer(inflated, np.uint8).reshape(-1, row_bytes)
    if rows.flags.writeable and (top, left, width) == (0, 0, header.width):
        # Fresh memory takes as long as the work: the pixels come to lie where the rows are read.
        pixels = rows.ravel()[: height * width * step].reshape(height, -1)
    else:
        pixels = np.empty((height, width * step), np.uint8)
    # The compiler takes a moment to load: only those who need it pay.
    from dvos.media.png_filters import undo_filters

    if not undo_filters(rows, step, top, step * left, pixels):
        raise MediaError.damaged(path, "PNG", "a row has an unknown filter")
    return pixels.reshape(height, width, step)


def _inflated(stored: bytes, wanted: int, is_whole: bool, path: Path) -> bytes | bytearray:
    """The first bytes of a zlib stream, no more than wanted; a MediaError if there are fewer."""
    if is_whole:
        import imagecodecs  # many parts, which take a moment to load

        # In a quarter of zlib's time; not for a stream that goes on, or is damaged.
        with suppress(imagecodecs.DeflateError):
            room = bytearray(wanted)
            if len(imagecodecs.deflate_decode(stored, out=room)) == wanted:
                return room
    try:
        inflated = zlib.decompressobj().decompress(stored, wanted)
    except zlib.error as error:
        raise MediaError.damaged(path, "PNG", str(error)) from error
    if len(inflated) < wanted:
        raise MediaError.damaged(path, "PNG", "its pixels end early")
    return inflated


def _chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk up to IEND, its checksum compared; none of an animation."""
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
        if kind == b"acTL" and int.from_bytes(view[at + 8 : at + 12], "big") > 1:
            raise MediaError.at(path, *ANIMATION)
        yield kind, view[at + 8 : end - 4]
        at = end
    raise MediaError.damaged(path, "PNG", f"the file ends early, at byte {size}")
