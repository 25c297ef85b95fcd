"""Colour: hue swapping, and the one place where RGB and HSV are converted."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: OpenCV's 8-bit hue is half the angle in degrees.
_HUES = 180


def rgb_to_hsv(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) to uint8 HSV: hue 0..179, saturation and value 0..255."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))


def hsv_to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 HSV (H, W, 3), hue 0..179, to uint8 RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_HSV2RGB))


def in_hue_range(hue: NDArray[np.uint8], bounds: Sequence[float]) -> NDArray[np.bool_]:
    """Where a hue lies in ``[lo, hi]``, both included; ``lo > hi`` wraps over 179 to 0."""
    lo, hi = bounds
    return (hue >= lo) & (hue <= hi) if lo <= hi else (hue >= lo) | (hue <= hi)


def hue_swap(
    image: NDArray[np.uint8], source: Sequence[float], destin: Sequence[float]
) -> NDArray[np.uint8]:
    """Turn the colours of one hue range into those of another, as green into yellow.

    Pixels of uint8 RGB (H, W, 3) with a hue of OpenCV in ``source`` are shifted by (middle of
    ``destin`` - middle of ``source``) round the hue circle; ``lo > hi`` wraps over 179 to 0.
    """
    swapped = image.copy()
    chosen = in_hue_range(rgb_to_hsv(image)[..., 0], source)
    shift = (_middle(destin) - _middle(source)) % _HUES
    if shift == 0 or not chosen.any():
        return swapped
    hsv = cv2.cvtColor(image[chosen].astype(np.float32)[None] / np.float32(255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(2 * shift)) % np.float32(360)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    swapped[chosen] = np.rint(rgb * 255).clip(0, 255).astype(np.uint8)
    return swapped


def _middle(bounds: Sequence[float]) -> float:
    lo, hi = bounds
    # A range that wraps is measured over the seam.
    return lo + ((hi - lo) % _HUES if hi < lo else hi - lo) / 2


def as_rgb(pixels: Any) -> NDArray[Any]:
    """A picture as RGB (H, W, 3), its type unchanged.

    It is RGB or grey, (H, W, 3), (H, W, 1) or (H, W); of torch also (3, H, W) or (1, H, W).
    """
    array = np.asarray(pixels.cpu() if hasattr(pixels, "cpu") else pixels)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    grey = array.ndim == 3 and array.shape[2] == 1
    return np.ascontiguousarray(array.repeat(3, axis=2) if grey else array)


def is_picture(pixels: Any) -> bool:
    """Whether an array or a tensor is one picture, as of :func:`as_rgb`, and no stack of them."""
    tensor = hasattr(pixels, "cpu")
    if not tensor and not isinstance(pixels, np.ndarray):
        return False
    shape = tuple(pixels.shape)
    ends = {shape[0], shape[-1]} if tensor else {shape[-1]}
    return len(shape) == 2 or (len(shape) == 3 and bool(ends & {1, 3}))
