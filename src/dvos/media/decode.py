"""Bytes of an image file to an array of its stored samples, strictly.

OpenCV and libjpeg hand back what they could decode of a damaged file and say
nothing. A half-grey photo would then be trained on or counted in. Here the
container is checked first (PNG chunk checksums, WebP length) or the decoder is
told to be strict (JPEG, TIFF), and damage is an error.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from dvos.errors import MediaError
from dvos.media.tiff import read_tiff, tiff_size, turned

__all__ = [
    "PngHeader",
    "check_png",
    "decode",
    "header_size",
    "open_header",
    "png_header",
    "read_bytes",
    "sniff",
]

Array = npt.NDArray[Any]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_REEXPORT = "copy the file again from its source or export it again"
#: What Pillow's parsers let escape on damaged input, as fuzzing them shows.
_PARSE_ERRORS = (
    *(OSError, EOFError, ValueError, SyntaxError, TypeError, AttributeError),
    *(KeyError, IndexError, OverflowError, struct.error),
)
#: A camera's stray bytes between segments harm no pixel; all else libjpeg
#: complains of does.
_HARMLESS_JPEG = "extraneous bytes before marker"


class PngHeader(NamedTuple):
    """What the IHDR chunk says. ``colour_type`` 0 grey, 2 RGB, 3 palette, 4 LA, 6 RGBA."""

    height: int
    width: int
    depth: int
    colour_type: int


def read_bytes(path: Path, what: str = "an image file") -> bytes:
    """Read a whole file.

    Raises:
        MediaError: If it is missing, a folder, empty or not readable.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MediaError.at(path, "no such file", what, "check the path") from None
    except IsADirectoryError:
        raise MediaError.at(path, "is a folder", what, "name a file in it") from None
    except OSError as error:
        remedy = "check the path and the file's permissions"
        raise MediaError.at(path, f"cannot be read ({error.strerror})", what, remedy) from error
    if not data:
        raise MediaError.at(path, "the file is empty (0 bytes)", what, _REEXPORT)
    return data


def sniff(head: bytes) -> str:
    """Name the format by its first 16 bytes, as names of files may lie; "" if unknown."""
    if head.startswith(_PNG_SIGNATURE):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return ""


def decode(data: bytes, path: Path) -> Array:
    """Decode the bytes of a PNG, JPEG, TIFF, BMP or WebP file.

    Args:
        data: The whole file.
        path: Its path, for messages only.

    Returns:
        (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, alpha not premultiplied; uint8
        or uint16, other types only from TIFF. JPEG and WebP are turned upright
        by their EXIF orientation, TIFF by its tag; PNG and BMP are as stored.

    Raises:
        MediaError: If the file is of another kind, truncated or corrupt.
    """
    kind = sniff(data[:16])
    if kind == "PNG":
        check_png(data, path)
        return _decode_cv(data, path, kind)
    if kind == "JPEG":
        return _turned_by_exif(_decode_jpeg(data, path), data, path)
    if kind == "TIFF":
        return read_tiff(data, path)
    if kind == "WebP":
        if len(data) < 8 + int.from_bytes(data[4:8], "little"):
            raise MediaError.damaged(path, kind, "the file ends early")
        return _turned_by_exif(_decode_cv(data, path, kind), data, path)
    if kind == "BMP":
        return _decode_cv(data, path, kind)
    raise _unknown(path)


def png_header(data: bytes, path: Path) -> PngHeader:
    """Parse the header of a PNG from its first 26 bytes.

    Raises:
        MediaError: If they are not the beginning of a PNG.
    """
    if len(data) < 26 or not data.startswith(_PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise MediaError.damaged(path, "PNG", "its header is incomplete")
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26])
    return PngHeader(height, width, depth, colour_type)


def check_png(data: bytes, path: Path) -> None:
    """Walk the chunks of a PNG: each whole, each checksum right, IEND at the end.

    Raises:
        MediaError: At the first chunk that is not.
    """
    view, at, size = memoryview(data), len(_PNG_SIGNATURE), len(data)
    while at + 12 <= size:
        length = int.from_bytes(view[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > size:
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            name = kind.decode("latin-1")
            raise MediaError.damaged(path, "PNG", f"wrong checksum in chunk {name!a} at byte {at}")
        if kind == b"IEND":
            return
        at = end
    raise MediaError.damaged(path, "PNG", f"the file ends early, at byte {size}")


@contextmanager
def open_header(source: bytes | Path, path: Path) -> Iterator[Any]:
    """Open an image with Pillow, which parses the header only until pixels are asked for.

    Raises:
        MediaError: If header or pixels cannot be read in the block, or the
            header states more pixels than Pillow's guard against
            decompression bombs lets pass.
    """
    with warnings.catch_warnings():
        # Notes on odd metadata; what matters is raised.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                yield image
        except Image.DecompressionBombError as error:
            remedy = "cut it into tiles"
            raise MediaError.at(path, f"too many pixels ({error})", remedy=remedy) from error
        except _PARSE_ERRORS as error:
            kind = sniff(source[:16]) if isinstance(source, bytes) else ""
            # Pillow names the memory it read from, which means nothing to a user.
            detail = "its header cannot be read" if "BytesIO" in str(error) else str(error)
            raise MediaError.damaged(path, kind or "image", detail) from error


def header_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as :func:`decode` returns it, from the header only.

    Raises:
        MediaError: If the file is missing, empty, no image, or its header is
            damaged.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(32)
    except OSError:
        head = b""
    if not head:
        read_bytes(path)
    kind = sniff(head)
    if not kind:
        raise _unknown(path)
    if kind == "PNG":
        header = png_header(head, path)
        return header.height, header.width
    if kind == "TIFF":
        return tiff_size(path)
    with open_header(path, path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def _decode_cv(data: bytes, path: Path, kind: str) -> Array:
    buffer = np.frombuffer(data, dtype=np.uint8)
    level = cv2.utils.logging.getLogLevel()
    # Our own error says what is wrong; OpenCV's log would stand beside it.
    cv2.utils.logging.setLogLevel(0)
    try:
        array: Array | None = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise MediaError.damaged(path, kind, "it cannot be decoded") from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if array is None:
        raise MediaError.damaged(path, kind, "it cannot be decoded")
    if array.ndim == 2:
        return array
    code = cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(array, code))


def _decode_jpeg(data: bytes, path: Path) -> Array:
    try:
        try:
            colours = simplejpeg.decode_jpeg_header(data, strict=False)[2]
        except KeyError:
            # simplejpeg's answer to a header that ends before the colour space.
            raise MediaError.damaged(path, "JPEG", "its header is incomplete") from None
        if colours in ("CMYK", "YCCK"):
            with open_header(data, path) as image:
                return np.array(image.convert("RGB"))
        grey = colours in ("GRAY", "Gray")
        try:
            array = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB")
        except ValueError as error:
            if _HARMLESS_JPEG not in str(error):
                raise
            array = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=False)
    except (OSError, ValueError) as error:
        raise MediaError.damaged(path, "JPEG", str(error)) from error
    return np.asarray(array[..., 0] if grey else array)


def _turned_by_exif(array: Array, data: bytes, path: Path) -> Array:
    if b"Exif" not in data[:65536] and b"EXIF" not in data:
        return array
    with open_header(data, path) as image:
        return turned(array, _orientation(image))


def _orientation(image: Any) -> int:
    try:
        value = int(image.getexif().get(0x0112, 1))
    except _PARSE_ERRORS:
        # A broken EXIF block is no reason to refuse sound pixels.
        return 1
    return value if 1 <= value <= 8 else 1


def _unknown(path: Path) -> MediaError:
    return MediaError.at(
        path, "not an image", "PNG, JPEG, TIFF, BMP or WebP", "convert it or correct the path"
    )
