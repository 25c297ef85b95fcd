"""A window of a PNG without decoding the rest of it.

A PNG is one stream from its first row to its last, so that nothing below a
window need be inflated and little outside it be computed. Half the time of a
random window of a large frame is saved. Other formats are decoded whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media import decode

__all__ = ["read_png_window"]

Bytes = NDArray[np.uint8]

# Bytes of a pixel of 8 bit samples by colour type: grey, RGB, RGBA.
_PIXEL_BYTES = {0: 1, 2: 3, 6: 4}


def read_png_window(
    path: Path, window: tuple[int, int, int, int], *, size: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """Read a window of a PNG, the pixels that ``read_image`` would give.

    Args:
        path: The file; told by content, not by name.
        window: Top, left, height and width in pixels, inside the image.
        size: (height, width) that the image is expected to have.

    Returns:
        uint8 RGB (height, width, 3); None if the file is no PNG of that size
        and of a kind that can be read in part (8 bit grey, RGB or RGBA, not
        interlaced), which says nothing about whether it is sound.

    Raises:
        MediaError: If the file is missing, truncated or corrupt.
    """
    if window == (0, 0, *size):
        return None
    if decode.sniff(_head(path)) != "PNG":
        return None
    data = decode.read_bytes(path)
    header = decode.png_header(data, path)
    step = _PIXEL_BYTES.get(header.colour_type, 0)
    interlaced = data[28:29] != b"\0"
    if (header.height, header.width) != size or header.depth != 8 or not step or interlaced:
        return None
    # All checksums, those of the part not needed too: damage is told at once.
    decode.check_png(data, path)
    top, left, height, width = window
    row_bytes = 1 + step * header.width
    rows = _inflate(data, (top + height) * row_bytes, path).reshape(-1, row_bytes)
    pixels = np.empty((height, width * step), np.uint8)
    if not _compiled()(rows, step, top, step * left, pixels):
        raise MediaError.damaged(path, "PNG", "a row has an unknown filter")
    if step == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    parts = pixels.reshape(height, width, step)
    if step == 4:
        return np.asarray(cv2.cvtColor(parts, cv2.COLOR_RGBA2RGB), np.uint8)
    return parts


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(16)
    except OSError:
        # Reading it whole says what is wrong.
        return decode.read_bytes(path)[:16]


def _inflate(data: bytes, wanted: int, path: Path) -> NDArray[np.uint8]:
    """The first bytes of the filtered rows of a PNG whose chunks are sound."""
    view, parts, at = memoryview(data), [], 8
    while at < len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            parts.append(view[at + 8 : at + 8 + length])
        at += 12 + length
    try:
        rows = zlib.decompressobj().decompress(b"".join(parts), wanted)
    except zlib.error as error:
        raise MediaError.damaged(path, "PNG", str(error)) from error
    if len(rows) < wanted:
        raise MediaError.damaged(path, "PNG", "its pixels end early")
    return np.frombuffer(rows, np.uint8)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., bool]:
    # The compiler takes a moment to load: only those who need it pay.
    from dvos.compiling import jit

    return jit(_unfilter)


def _unfilter(  # noqa: C901 - a loop for each of the five filters, to be read side by side
    raw: Bytes, step: int, top: int, left: int, out: Bytes
) -> bool:
    """Fill a window of the pixels of a PNG; compiled by numba.

    Filters 0 to 4 of the PNG specification (third edition, section 9): a byte
    is stored less a prediction from the byte of the same sample to the left
    (a), above (b) and above to the left (c).

    Args:
        raw: uint8 (rows, 1 + bytes of a row), inflated; each row begins with
            its filter. The last row is the window's last.
        step: Bytes of a pixel.
        top: First row of the window.
        left: First byte of the window in a row.
        out: uint8 (height, bytes of the window's rows), filled.

    Returns:
        Whether all filters were known.
    """
    end = left + out.shape[1]
    # A row that is predicted from nothing above is where to begin.
    first = top
    while first > 0 and raw[first, 0] > 1:
        first -= 1
    if raw[first:, 0].max() > 4:
        return False
    # Where no byte is predicted from the left, what lies there does not matter.
    start = left
    for row in range(first, raw.shape[0]):
        if raw[row, 0] != 0 and raw[row, 0] != 2:
            start = 0
    # A pixel of zeros stands before each row, as the specification has it.
    above = np.zeros(step + end, np.uint8)
    line = np.zeros(step + end, np.uint8)
    for row in range(first, raw.shape[0]):
        kind, stored = raw[row, 0], raw[row, 1:]
        if kind == 0:
            line[step + start :] = stored[start:end]
        elif kind == 1:
            for i in range(start, end):
                line[step + i] = stored[i] + line[i]
        elif kind == 2:
            for i in range(start, end):
                line[step + i] = stored[i] + above[step + i]
        elif kind == 3:
            for i in range(start, end):
                line[step + i] = stored[i] + (np.int32(line[i]) + np.int32(above[step + i])) // 2
        else:
            for i in range(start, end):
                a, b, c = np.int32(line[i]), np.int32(above[step + i]), np.int32(above[i])
                # Whichever of the three is closest to a + b - c.
                to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                nearest = a
                if to_a > to_b or to_a > to_c:
                    nearest = b if to_b <= to_c else c
                line[step + i] = stored[i] + nearest
        if row >= top:
            out[row - top] = line[step + left :]
        above, line = line, above
    return True
