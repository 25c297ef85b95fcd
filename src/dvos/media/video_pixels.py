"""Pixels of decoded video frames: by the right matrix, in full depth, upright."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.media.image import to_uint8

#: Depths of YUV that FFmpeg has without subsampling.
_YUV_BITS = (9, 10, 12, 14, 16)
_UNSPECIFIED = (0, 2)  # AVColorSpace RGB and UNSPECIFIED: no matrix is named


def _bits(frame: Any) -> int:
    return int(max(part.bits for part in frame.format.components))


def deep_format(frame: Any) -> str:
    """The format of 16 bit for a frame of grey or RGB with more than 8; "" for any other."""
    if _bits(frame) <= 8:
        return ""
    if len(frame.format.components) <= 2:
        return "gray16le"
    return "rgb48le" if frame.format.is_rgb else ""


def deep_yuv_format(frame: Any) -> str:
    """The format without subsampling for a frame of YUV with more than 8 bit; "" for any other."""
    bits, name = _bits(frame), frame.format.name
    if deep_format(frame) or bits not in _YUV_BITS or name.startswith(("xyz", "bayer")):
        return ""
    return f"yuv444p{bits}le"


def to_rgb(frame: Any, matrix: list[int], intensity: str) -> NDArray[np.uint8]:
    """An ``av.VideoFrame`` as upright uint8 RGB (H, W, 3), contiguous.

    Args:
        frame: As decoded.
        matrix: a, b, c, d of x' = a x + c y, y' = b x + d y, which turns and mirrors it.
        intensity: Of grey and RGB of more than 8 bit, ``full`` or ``LOW,HIGH``.
    """
    from av.video.reformatter import Colorspace

    space = None
    if frame.colorspace in _UNSPECIFIED:
        # What players assume: high definition is BT.709, the rest BT.601.
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    if full := deep_yuv_format(frame):
        # FFmpeg's short way to RGB cuts samples to 8 bit first: up to 2.6 of 255 too dark.
        frame = frame.reformat(format=full, src_colorspace=space, dst_colorspace=space)
    deep = deep_format(frame)
    image = frame.to_ndarray(format=deep or "rgb24", src_colorspace=space, dst_colorspace=space)
    if deep:
        image = to_uint8(image, intensity)
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
