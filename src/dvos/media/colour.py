"""Colour: hue swapping, and the one place where RGB and HSV are converted."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

#: OpenCV's 8-bit hue is half the angle in degrees.
_HUES = 180


def rgb_to_hsv(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) to uint8 HSV: hue 0..179, saturation and value 0..255."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))


def hsv_to_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 HSV (H, W, 3), hue 0..179, to uint8 RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_HSV2RGB))


def in_hue_range(hue: npt.NDArray[np.uint8], bounds: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Where a hue lies in ``[lo, hi]``, both included; ``lo > hi`` wraps over 179 to 0."""
    lo, hi = bounds
    if lo <= hi:
        return (hue >= lo) & (hue <= hi)
    return (hue >= lo) | (hue <= hi)


def hue_swap(
    image: npt.NDArray[np.uint8], source: Sequence[float], destin: Sequence[float]
) -> npt.NDArray[np.uint8]:
    """Turn the colours of one hue range into those of another, as green into yellow.

    Pixels whose hue lies in ``source`` are shifted by (middle of ``destin`` -
    middle of ``source``) round the hue circle. Saturation and value stay, and
    every other pixel stays as it is. Which pixels are shifted is decided on
    OpenCV's 8-bit hue, so that ranges picked in other tools hold; the shift
    itself is computed in floating point, so that it costs at most one level of
    rounding in a channel.

    Args:
        image: uint8 RGB (H, W, 3).
        source: ``(lo, hi)`` in OpenCV hue 0..179; ``lo > hi`` is a range that
            wraps over 179 to 0.
        destin: Likewise.

    Returns:
        uint8 RGB (H, W, 3), a new array.
    """
    swapped = image.copy()
    chosen = in_hue_range(rgb_to_hsv(image)[..., 0], source)
    shift = (_middle(destin) - _middle(source)) % _HUES
    if shift == 0 or not chosen.any():
        return swapped
    pixels = image[chosen].astype(np.float32)[None] / np.float32(255)
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(2 * shift)) % np.float32(360)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    swapped[chosen] = np.rint(rgb * 255).clip(0, 255).astype(np.uint8)
    return swapped


def _middle(bounds: Sequence[float]) -> float:
    lo, hi = bounds
    # A range that wraps is measured over the seam.
    return lo + ((hi - lo) % _HUES if hi < lo else hi - lo) / 2
