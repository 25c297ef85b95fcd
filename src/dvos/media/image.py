"""Images in and out: PNG, JPEG, TIFF, BMP, WebP; 8 and 16 bit; grey, RGB, with alpha.

Convention everywhere: uint8 RGB, (H, W, 3), contiguous. See
``docs/reference/media.md`` for what each format brings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from dvos.errors import MediaError
from dvos.files import write_bytes
from dvos.media import decode

__all__ = [
    "image_size",
    "read_image",
    "read_rgba",
    "resized",
    "to_uint8",
    "write_image",
]

_WRITTEN = "one of .png, .jpg, .jpeg, .tif, .tiff"


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as uint8 RGB.

    16-bit samples are divided by 257 and rounded (0 stays 0, 65535 becomes
    255), grey is replicated, alpha dropped.

    Args:
        path: A PNG, JPEG, TIFF (first page), BMP or WebP file; told apart by
            content, not by name.

    Returns:
        uint8 (H, W, 3), contiguous.

    Raises:
        MediaError: If the file is missing, a folder, empty, no image,
            truncated or corrupt, or has samples of neither 8 nor 16 bit.
    """
    array = _read(Path(path))
    if array.ndim == 2:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_GRAY2RGB))
    if array.shape[2] == 4:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGBA2RGB))
    return np.ascontiguousarray(array)


def read_rgba(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as uint8 RGBA; alpha is 255 where the file has none.

    Returns:
        uint8 (H, W, 4), contiguous; colour is not multiplied by alpha.

    Raises:
        MediaError: As :func:`read_image`.
    """
    array = _read(Path(path))
    if array.ndim == 2:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_GRAY2RGBA))
    if array.shape[2] == 3:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2RGBA))
    return np.ascontiguousarray(array)


def to_uint8(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale uint16 to uint8 by 1/257, rounded; uint8 passes."""
    if array.dtype == np.uint8:
        return array
    # 257 * 255 = 65535: the one factor that maps full scale to full scale.
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def resized(image: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) with its sides times ``scale``."""
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as :func:`read_image` would return it, from the header only.

    Raises:
        MediaError: If the file is missing, empty, no image, or its header is
            damaged.
    """
    return decode.header_size(Path(path))


def write_image(path: Path, array: npt.NDArray[Any], *, quality: int = 95) -> None:
    """Write an image; the format follows the path's ending. Atomic.

    PNG is written at compression level 1 (2 to 4 times faster than the
    default, a little larger), JPEG with full colour resolution (4:4:4), TIFF
    with LZW. PNG and TIFF are lossless.

    Args:
        path: Ending ``.png``, ``.jpg``, ``.jpeg``, ``.tif`` or ``.tiff``.
        array: (H, W) or (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) RGBA;
            uint8, or uint16 for PNG and TIFF. JPEG takes no alpha.
        quality: Of JPEG, 1 to 100.

    Raises:
        MediaError: If ending and array do not fit.
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    array = _checked(path, array)
    if suffix in (".jpg", ".jpeg"):
        data = _encode_jpeg(path, array, quality)
    elif suffix == ".png":
        data = _encode_cv(path, array, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])
    elif suffix in (".tif", ".tiff"):
        data = _encode_cv(path, array, ".tif", [])
    else:
        raise MediaError.at(
            path,
            f"cannot write images as {suffix or 'a file without ending'}",
            _WRITTEN,
            "change the ending",
        )
    write_bytes(path, data)


def _read(path: Path) -> npt.NDArray[np.uint8]:
    array = decode.decode(decode.read_bytes(path), path)
    if array.dtype not in (np.uint8, np.uint16):
        raise MediaError.at(
            path,
            f"samples of type {array.dtype}",
            "8 or 16 bit, unsigned",
            "convert the image to 8 or 16 bit with a scale of your choice",
        )
    return to_uint8(array)


def _checked(path: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shape_fits or array.size == 0 or array.dtype not in (np.uint8, np.uint16):
        found = f"an array of shape {array.shape}, type {array.dtype}"
        raise MediaError.at(path, found, "grey, RGB or RGBA pixels of type uint8 or uint16")
    return np.ascontiguousarray(array)


def _encode_jpeg(path: Path, array: npt.NDArray[Any], quality: int) -> bytes:
    if array.dtype != np.uint8 or (array.ndim == 3 and array.shape[2] == 4):
        found = "alpha" if array.dtype == np.uint8 else "16-bit samples"
        raise MediaError.at(path, f"JPEG cannot hold {found}", remedy="write it as PNG")
    if not 1 <= quality <= 100:
        raise MediaError.at(path, f"JPEG quality {quality}", "1 to 100")
    if array.ndim == 2:
        data = simplejpeg.encode_jpeg(array[..., None], quality, "GRAY", "Gray")
    else:
        data = simplejpeg.encode_jpeg(array, quality, "RGB", "444")
    return bytes(data)


def _encode_cv(path: Path, array: npt.NDArray[Any], suffix: str, options: list[int]) -> bytes:
    if array.ndim == 3:
        code = cv2.COLOR_RGB2BGR if array.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        array = cv2.cvtColor(array, code)
    done, data = cv2.imencode(suffix, array, options)
    if not done:
        raise MediaError.at(path, f"{array.shape} pixels cannot be encoded as {suffix}")
    return bytes(data.tobytes())
