"""Images in and out: PNG, JPEG, TIFF, BMP, WebP, and what a photo tells of its camera.

See ``docs/reference/media.md``. OpenCV and libjpeg hand back what they could decode of a damaged
file and say nothing: here the container is checked first, or the decoder is told to be strict.
"""

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from dvos.errors import MediaError
from dvos.files import read_bytes, refuse_foreign, write_bytes
from dvos.media.limits import check_room
from dvos.media.png import ANIMATION, SIGNATURE, check_png, png_header, read_large_png
from dvos.media.tiff import by_rows, read_tiff, tiff_size, turned

Array = NDArray[Any]

#: What Pillow's parsers let escape on damaged input, as fuzzing them shows.
_PARSE_ERRORS = (
    *(OSError, EOFError, ValueError, SyntaxError, TypeError, AttributeError),
    *(KeyError, IndexError, OverflowError, struct.error),
)
#: What turns grey, and what turns colour with or without alpha, into RGB and RGBA.
_TO_RGB = (cv2.COLOR_GRAY2RGB, cv2.COLOR_RGBA2RGB)
_TO_RGBA = (cv2.COLOR_GRAY2RGBA, cv2.COLOR_RGB2RGBA)
#: How files of each format begin; WebP says it behind its length.
_BEGINNINGS = {
    SIGNATURE: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}
_UNKNOWN = ("not an image", "PNG, JPEG, TIFF, BMP or WebP", "convert it or correct the path")
_GUARD = Lock()
#: Bytes of a PNG up to its second chunk; of an image, those that may tell its maker.
_PNG_HEAD, _HEAD = 33, 200
_SOFTWARE = b"Software\0"  # the keyword of PNG that tells it
#: A camera's stray bytes between segments harm no pixel; all else libjpeg complains of does.
_HARMLESS_JPEG = "extraneous bytes before marker"


def read_image(path: Path, intensity: str = "full") -> NDArray[np.uint8]:
    """Read an image as contiguous uint8 RGB (H, W, 3): grey is replicated, alpha dropped.

    A PNG, JPEG, TIFF, BMP or WebP file is told by content, not by name; for samples of more than 8
    bit see :func:`to_uint8`. A MediaError if it is missing, no image or damaged, or has samples of
    neither 8 nor 16 bit while ``intensity`` is ``full``.
    """
    return _read(Path(path), intensity, 3)


def read_reduced(path: Path, side: int) -> NDArray[np.uint8] | None:
    """A JPEG decoded small, no side below ``side``, in a quarter of the time; None of others."""
    data = read_bytes(path)
    if sniff(data[:16]) != "JPEG":
        return None
    pixels = to_uint8(_turned_by_exif(_decode_jpeg(data, path, side), data, path, b"Exif"))
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def read_rgba(path: Path) -> NDArray[np.uint8]:
    """As :func:`read_image`, as RGBA (H, W, 4), not premultiplied; without alpha it is 255."""
    return _read(Path(path), "full", 4)


def to_uint8(array: NDArray[Any], intensity: str = "full") -> NDArray[np.uint8]:
    """Samples as uint8; uint8 passes.

    The intensity ``full`` divides uint16 by 257, rounded; ``LOW,HIGH`` spreads what lies between,
    of any real type, evenly over 0 to 255 and cuts off what does not. No number counts as ``LOW``.
    """
    if array.dtype == np.uint8:
        return array
    if intensity == "full":
        # 257 * 255 = 65535: the one factor that maps full scale to full scale.
        return by_rows(lambda rows: ((rows.astype(np.uint32) + 128) // 257).astype(np.uint8), array)
    if array.dtype == np.uint16:
        return by_rows(lambda rows: _table(intensity)[rows], array)
    return by_rows(lambda rows: _spread(rows, intensity), array)


@lru_cache(maxsize=8)
def _table(intensity: str) -> NDArray[np.uint8]:
    return _spread(np.arange(2**16), intensity)


def _spread(array: NDArray[Any], intensity: str) -> NDArray[np.uint8]:
    low, high = map(float, intensity.split(","))
    share = np.nan_to_num((array.astype(np.float64) - low) / (high - low))
    return (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def resized(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """An image (H, W, 3) with its sides times ``scale``."""
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as :func:`read_image` would return it, from the header only."""
    path = path if isinstance(path, Path) else Path(path)  # to make one again takes its time
    head = read_bytes(path, size=32)
    kind = sniff(head)
    if not kind:
        raise MediaError.at(path, *_UNKNOWN)
    if kind == "PNG":
        return png_header(head, path)[:2]
    if kind == "TIFF":
        return tiff_size(path)
    with open_header(path, path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def write_image(path: Path, array: NDArray[Any], *, quality: int = 95, maker: str = "") -> None:
    """Write an image, atomically, as ``.png``, ``.tif``, ``.tiff``, ``.jpg`` or ``.jpeg``.

    It is (H, W) or (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) RGBA, uint8, or uint16 for PNG and
    TIFF (LZW), which are lossless. JPEG takes no alpha, and a ``quality`` of 1 to 100, its colour
    at full resolution. PNG and JPEG note their ``maker``, as :func:`refuse_other_image` reads it. A
    MediaError if ending and array do not fit.
    """
    path = path if isinstance(path, Path) else Path(path)
    suffix = path.suffix.lower()
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shape_fits or array.size == 0 or array.dtype not in (np.uint8, np.uint16):
        found = f"an array of shape {array.shape}, type {array.dtype}"
        raise MediaError.at(path, found, "grey, RGB or RGBA pixels of type uint8 or uint16")
    array = np.ascontiguousarray(array)
    if suffix in (".jpg", ".jpeg"):
        data = _encode_jpeg(path, array, quality)
    elif suffix in (".png", ".tif", ".tiff"):
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else []
        done, encoded = cv2.imencode(suffix, _swapped(array), options)
        if not done:
            raise MediaError.at(path, f"{array.shape} pixels cannot be encoded as {suffix}")
        data = bytes(encoded.tobytes())
    else:
        found = f"cannot write images as {suffix or 'a file without ending'}"
        endings = "one of .png, .jpg, .jpeg, .tif, .tiff"
        raise MediaError.at(path, found, endings, "change the ending")
    write_bytes(path, _with_maker(data, maker) if maker else data)


def refuse_other_image(path: Path, maker: str) -> None:
    """Raise an OutputError if there is anything but an image that notes this maker."""
    with suppress(MediaError):
        if _SOFTWARE + maker.encode() in read_bytes(path, size=_HEAD):
            return
    refuse_foreign([path], f"{maker} (which notes it in pictures, as no earlier release did)")


def _with_maker(data: bytes, maker: str) -> bytes:
    """The bytes of a PNG or a JPEG with its maker behind its header; others cannot tell it."""
    note = _SOFTWARE + maker.encode()
    if data.startswith(SIGNATURE):
        text = struct.pack(">I4s", len(note), b"tEXt") + note
        text += struct.pack(">I", zlib.crc32(text[4:]))
        return data[:_PNG_HEAD] + text + data[_PNG_HEAD:]
    if not data.startswith(b"\xff\xd8"):
        return data
    end = 4 + int.from_bytes(data[4:6], "big")  # of JFIF's own segment, which comes first
    return data[:end] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + data[end:]


def decode(data: bytes, path: Path) -> Array:
    """Decode the bytes of a PNG, JPEG, TIFF, BMP or WebP file; its path is for messages only.

    Given are (H, W), RGB (H, W, 3) or RGBA (H, W, 4), alpha not premultiplied, uint8 or uint16, of
    TIFF other types too; turned upright by the EXIF orientation of JPEG and WebP, TIFF's tag.
    """
    kind = sniff(data[:16])
    if kind == "PNG":
        header = png_header(data, path)
        check_room(path, header.height, header.width, header.room)
        # A transparent colour would become alpha.
        is_rgb = header[2:4] == (8, 2) and b"tRNS" not in data[: data.find(b"IDAT")]
        if is_rgb and (pixels := read_large_png(data, path, header)) is not None:
            return pixels
        check_png(data, path)
        return _decode_cv(data, path, kind, is_rgb=is_rgb)
    if kind == "JPEG":
        return _turned_by_exif(_decode_jpeg(data, path), data, path, b"Exif")
    if kind == "TIFF":
        return read_tiff(data, path)
    if kind not in ("WebP", "BMP"):
        raise MediaError.at(path, *_UNKNOWN)
    if kind == "WebP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise MediaError.damaged(path, kind, "the file ends early")
    with open_header(data, path) as header:
        if getattr(header, "n_frames", 1) > 1:
            raise MediaError.at(path, *ANIMATION)
        array = _decode_cv(data, path, kind)
    return array if kind == "BMP" else _turned_by_exif(array, data, path, b"EXIF")


def sniff(head: bytes) -> str:
    """Name the format by its first 16 bytes, as names of files may lie; "" if unknown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((kind for begins, kind in _BEGINNINGS.items() if head.startswith(begins)), "")


@contextmanager
def open_header(source: bytes | Path, path: Path) -> Iterator[Any]:
    """Open an image with Pillow, which parses the header only until pixels are asked for.

    A MediaError if that fails, or the machine lacks memory for the pixels of a whole file.
    """
    with warnings.catch_warnings():
        # Notes on odd metadata; what matters is raised.
        warnings.simplefilter("ignore")
        try:
            # Pillow's own limit is that of its whole process, and lower than ours.
            with _GUARD:
                limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                try:
                    opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
            with opened as image:
                if isinstance(source, bytes):
                    check_room(path, image.height, image.width, 14)
                yield image
        except _PARSE_ERRORS as error:
            kind = sniff(source[:16]) if isinstance(source, bytes) else ""
            # Pillow names the memory it read from, which means nothing to a user.
            detail = "its header cannot be read" if "BytesIO" in str(error) else str(error)
            raise MediaError.damaged(path, kind or "image", detail) from error


def _read(path: Path, intensity: str, channels: int) -> NDArray[np.uint8]:
    array = decode(read_bytes(path), path)
    if array.dtype not in (np.uint8, np.uint16) and intensity == "full":
        remedy = "give the samples that become black and white as intensity LOW,HIGH"
        raise MediaError.at(path, f"samples of type {array.dtype}", "8 or 16 bit, unsigned", remedy)
    pixels = to_uint8(array, intensity)
    if pixels.ndim == 3 and pixels.shape[2] == channels:
        return np.ascontiguousarray(pixels)
    codes = _TO_RGB if channels == 3 else _TO_RGBA
    return np.asarray(cv2.cvtColor(pixels, codes[pixels.ndim - 2]))


def _encode_jpeg(path: Path, array: Array, quality: int) -> bytes:
    if array.dtype != np.uint8 or (array.ndim == 3 and array.shape[2] == 4):
        found = "alpha" if array.dtype == np.uint8 else "16-bit samples"
        raise MediaError.at(path, f"JPEG cannot hold {found}", remedy="write it as PNG")
    if not 1 <= quality <= 100:
        raise MediaError.at(path, f"JPEG quality {quality}", "1 to 100")
    kind = ("GRAY", "Gray") if array.ndim == 2 else ("RGB", "444")
    return bytes(simplejpeg.encode_jpeg(np.atleast_3d(array), quality, *kind))


def _decode_cv(data: bytes, path: Path, kind: str, *, is_rgb: bool = False) -> Array:
    # What is RGB and nothing else need not be put in its order afterwards.
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION if is_rgb else cv2.IMREAD_UNCHANGED
    level = cv2.utils.logging.getLogLevel()
    # Our own error says what is wrong; OpenCV's log would stand beside it.
    cv2.utils.logging.setLogLevel(0)
    array: Array | None = None
    try:
        with suppress(cv2.error):
            array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if array is None:
        raise MediaError.damaged(path, kind, "it cannot be decoded")
    return array if is_rgb else _swapped(array)


def _swapped(array: Array) -> Array:
    """RGB as OpenCV's BGR, or the other way round; grey as it is."""
    if array.ndim == 2:
        return array
    code = cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(array, code))


def _decode_jpeg(data: bytes, path: Path, side: int = 0) -> Array:
    smallest = {"min_height": side, "min_width": side, "min_factor": 1} if side else {}
    try:
        height, width, colours = simplejpeg.decode_jpeg_header(data, strict=False)[:3]
        check_room(path, height, width, 8)
        if colours in ("CMYK", "YCCK"):
            with open_header(data, path) as image:
                return np.array(image.convert("RGB"))
        space = "GRAY" if colours in ("GRAY", "Gray") else "RGB"
        try:
            array = simplejpeg.decode_jpeg(data, space, **smallest)
        except ValueError as error:
            if _HARMLESS_JPEG not in str(error):
                raise
            array = simplejpeg.decode_jpeg(data, space, strict=False, **smallest)
    except KeyError:
        # simplejpeg's answer to a header that ends before the colour space.
        raise MediaError.damaged(path, "JPEG", "its header is incomplete") from None
    except (OSError, ValueError) as error:
        raise MediaError.damaged(path, "JPEG", str(error)) from error
    return np.asarray(array[..., 0] if space == "GRAY" else array)


def _turned_by_exif(array: Array, data: bytes, path: Path, segment: bytes) -> Array:
    # Anywhere: other segments of any length may come before it.
    if segment not in data:
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


#: Tags of EXIF.
_EXIF, _FOCAL, _FOCAL_35, _WIDTH = 0x8769, 0x920A, 0xA405, 0xA002
_RESOLUTION, _RESOLUTION_UNIT = 0xA20E, 0xA210
#: Millimetres of the units of a sensor's resolution.
_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
#: Of the film that focal lengths are told for, millimetres.
_DIAGONAL_35 = math.hypot(36, 24)
#: What drones tell in XMP: metres above where they started, and degrees from the horizon.
_HEIGHT, _PITCH = "RelativeAltitude", "GimbalPitchDegree"
#: Degrees that a camera may look beside straight down: then a pixel shows 4 % more than is told.
_TILT = 15.0
_REMEDY = "give ground_sampling_distance in millimetres, or known_width"


def ground_pixel(path: Path, height: float | None = None) -> float:
    """Millimetres of ground that a pixel of a photo shows, taken straight down.

    It is the height in metres, else as drones tell it, over the focal length in pixels: of the
    sensor's resolution, or for 35 mm film, by the diagonal (CIPA DCG-001). A MediaError if the
    photo is damaged or does not tell it, or the camera did not look down.
    """
    data = read_bytes(path, "a photo")
    with open_header(data, path) as image:
        tags = image.getexif().get_ifd(_EXIF)
        wanted = (_FOCAL, _FOCAL_35, _WIDTH, _RESOLUTION, _RESOLUTION_UNIT)
        values = ((tag, float(tags.get(tag, 0))) for tag in wanted)
        told = {tag: value for tag, value in values if 0 < value < math.inf} | _xmp(image)
        pixels = _focal_pixels(told, *image.size)
    height = told.get(_HEIGHT) if height is None else height
    tilt = abs(told.get(_PITCH, -90.0) + 90)
    if height is None or height <= 0:
        other = "" if height is None else f", but {height:g} m"
        found = f"tells no height above the ground{other} (RelativeAltitude in XMP)"
        raise MediaError.at(path, found, "", f"give camera_height in metres, or {_REMEDY[5:]}")
    if pixels is None:
        found = "tells no focal length for 35 mm film, nor one with the sensor's resolution"
        raise MediaError.at(path, found, "both in EXIF", _REMEDY)
    if tilt > _TILT:
        found = f"its camera looked {tilt:.0f} degrees beside straight down"
        raise MediaError.at(path, found, f"at most {_TILT:.0f}: a pixel has no one size", _REMEDY)
    return 1000 * height / pixels


def _xmp(image: Any) -> dict[Any, float]:
    """Numbers of XMP, attributes as well as elements, without parsing foreign XML."""
    data = image.info.get("xmp") or b""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
    number = r"([+-]?[0-9]{1,9}(?:\.[0-9]{1,12})?)"
    named = rf"\b({_HEIGHT}|{_PITCH})\s*(?:=\s*[\"']|>)\s*{number}\s*[\"'<]"
    # Of several the first counts; the beginning of 1234/100, 3e1 or 30,5 would be another number.
    return {name: float(value) for name, value in reversed(re.findall(named, text))}


def _focal_pixels(told: dict[Any, float], width: int, height: int) -> float | None:
    unit = _UNITS.get(int(told.get(_RESOLUTION_UNIT, 2)))
    if {_FOCAL, _RESOLUTION} <= told.keys() and unit:
        # Of the photo as it was taken; this one may be smaller.
        return told[_FOCAL] * told[_RESOLUTION] / unit * (width / told.get(_WIDTH, width))
    if _FOCAL_35 in told:
        return told[_FOCAL_35] * math.hypot(width, height) / _DIAGONAL_35
    return None
