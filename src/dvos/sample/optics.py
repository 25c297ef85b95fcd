"""What lens and sensor do to the light: focus, motion blur, tone, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Optics", "expose", "focus_blur", "motion_blur", "tone_table"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_TONE_LEVELS = 4096


@dataclass(frozen=True)
class Optics:
    """A camera.

    Attributes:
        exposure: Factor on radiance before the tone curve.
        balance: Factors on red, green, blue.
        shutter: Share of the time between frames that the shutter is open.
        aperture: Blur of what is twice as far as the focus, in pixels of a
            picture 640 wide.
        noise: Noise of a mid grey, as a share of white.
    """

    exposure: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shutter: float = 0.35
    aperture: float = 1.5
    noise: float = 0.010


def focus_blur(light: Floats, depth: Floats, *, focus_m: float, sigma: float) -> Floats:
    """Blur what is out of focus.

    The sharp picture and one blurred by ``sigma`` pixels are mixed by the
    thin-lens circle of confusion, which grows with ``|1 - focus / depth|``.

    Args:
        light: (H, W, 3).
        depth: (H, W), metres.
        focus_m: Distance in focus.
        sigma: Blur in pixels at twice the focus distance and beyond.
    """
    soft = cv2.GaussianBlur(light, (0, 0), max(sigma, 0.3))
    share = np.abs(1.0 - focus_m / depth)
    # Nearly nothing within a seventh of the focus distance: depth of field.
    share = np.clip((share - 0.14) * 1.6, 0.0, 1.0)
    share = cv2.GaussianBlur(share, (0, 0), max(0.6 * sigma, 0.3))
    return np.asarray(light + (soft - light) * share[..., None], np.float32)


def motion_blur(light: Floats, shift: tuple[float, float]) -> Floats:
    """Smear along ``shift`` (columns, rows) pixels, the way of the picture while exposed."""
    reach = float(np.hypot(*shift))
    if reach < 0.25:
        return light
    radius = int(np.ceil(0.5 * reach)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for t in np.linspace(-0.5, 0.5, 9):
        x, y = radius + t * shift[0], radius + t * shift[1]
        column, row = int(x), int(y)
        wx, wy = x - column, y - row
        kernel[row, column] += (1 - wx) * (1 - wy)
        kernel[row, column + 1] += wx * (1 - wy)
        kernel[row + 1, column] += (1 - wx) * wy
        kernel[row + 1, column + 1] += wx * wy
    blurred = cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float32)


def tone_table() -> Bytes:
    """Display value for linear light 0..1 in 4096 steps: a soft shoulder, then sRGB's curve."""
    light = np.linspace(0.0, 1.0, _TONE_LEVELS)
    # Values up to four times white come in, squeezed into 0..1.
    shoulder = 1.0 - np.exp(-4.0 * light * 1.9)
    toe = shoulder**1.35
    curve = np.where(toe <= 0.0031308, 12.92 * toe, 1.055 * toe ** (1 / 2.4) - 0.055)
    return np.asarray(np.clip(curve * 255.0 + 0.5, 0, 255), np.uint8)


def expose(
    light: Floats, optics: Optics, table: Bytes, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn linear light (H, W, 3) into an RGB picture with shot and read noise."""
    scaled = light * (np.asarray(optics.balance, np.float32) * np.float32(optics.exposure))
    np.maximum(scaled, 0.0, out=scaled)
    spread = np.sqrt(scaled * np.float32(0.6) + np.float32(0.012))
    spread *= np.float32(optics.noise)
    spread *= rng.standard_normal(light.shape, dtype=np.float32)
    scaled += spread
    scaled *= _TONE_LEVELS / 4.0
    np.clip(scaled, 0, _TONE_LEVELS - 1, out=scaled)
    index = scaled.astype(np.uint16)
    return np.asarray(table[index])
