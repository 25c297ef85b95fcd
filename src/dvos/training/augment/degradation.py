"""What a camera takes away: sharpness, resolution, clean pixels.

Every kind is drawn once per clip, as all frames come from one camera, noise
alone differing from frame to frame; or, as in the published training, for each
frame on its own.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dvos.config.augmentation import DegradationSettings

__all__ = ["Degradation", "motion_kernel"]


class Degradation:
    """Draws the quality of clips.

    Args:
        settings: What it is drawn from.
    """

    def __init__(self, settings: DegradationSettings) -> None:
        names = ("blur_share", "motion_share", "resolution_share", "noise_share", "jpeg_share")
        shares = {n: min(1.0, getattr(settings, n) * settings.strength) for n in names}
        self._settings = settings.model_copy(update=shares)

    def apply(self, rng: np.random.Generator, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw the quality of a clip.

        Args:
            rng: Source of the draw.
            frames: uint8 RGB (T, H, W, 3), the query last; may be changed.

        Returns:
            uint8 (T, H, W, 3).
        """
        count = len(frames) if self._settings.query else len(frames) - 1
        frames = np.ascontiguousarray(frames)
        together = count if self._settings.shared else 1
        for first in range(0, count, together or 1):
            self._apply_alike(rng, frames[first : first + together])
        return frames

    def _apply_alike(self, rng: np.random.Generator, part: NDArray[np.uint8]) -> None:
        """Draw one quality for frames uint8 (T, H, W, 3), in place."""
        chosen = self._settings
        height, width = part.shape[1:3]
        if rng.random() < chosen.resolution_share:
            factor = rng.uniform(chosen.resolution, 1)
            small = (max(1, round(width * factor)), max(1, round(height * factor)))
            for frame in part:
                shrunk = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
                frame[:] = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
        if rng.random() < chosen.blur_share:
            sigma = rng.uniform(0.3, max(0.3, chosen.blur))
            for frame in part:
                frame[:] = cv2.GaussianBlur(frame, (0, 0), sigma)
        if rng.random() < chosen.motion_share:
            kernel = motion_kernel(rng.uniform(2, max(2.0, chosen.motion)), rng.uniform(0, np.pi))
            for frame in part:
                frame[:] = cv2.filter2D(frame, -1, kernel)
        if rng.random() < chosen.noise_share:
            add_noise(rng, part, rng.uniform(1, max(1.0, chosen.noise)))
        if rng.random() < chosen.jpeg_share:
            quality = int(rng.integers(chosen.jpeg_quality, 96))
            for frame in part:
                frame[:] = compress(frame, quality)


def motion_kernel(length: float, angle: float) -> NDArray[np.float32]:
    """Kernel of a blur along a line.

    Args:
        length: Of the line, pixels.
        angle: Of the line against the rows, radians.

    Returns:
        float32 (K, K) with K odd; its sum is 1 and its middle of mass is in
        the middle, so that nothing is displaced.
    """
    side = 2 * int(np.ceil(length / 2)) + 1
    middle = side // 2
    kernel = np.zeros((side, side))
    # Points closer than a pixel, each shared by the four pixels round it.
    for step in np.linspace(-length / 2, length / 2, 4 * side):
        x, y = step * np.cos(angle) + middle, step * np.sin(angle) + middle
        column, row = int(np.floor(x)), int(np.floor(y))
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if 0 <= row + i < side and 0 <= column + j < side:
                kernel[row + i, column + j] += (1 - abs(y - row - i)) * (1 - abs(x - column - j))
    kernel = kernel + kernel[::-1, ::-1]
    result: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return result


def add_noise(rng: np.random.Generator, frames: NDArray[np.uint8], deviation: float) -> None:
    """Add sensor noise to frames, in place.

    One field is drawn for the clip and shifted by another offset for each
    frame: drawing every pixel of every frame costs as much as all
    other steps together and looks no different.

    Args:
        rng: Source of the noise.
        frames: uint8 (T, H, W, 3).
        deviation: Standard deviation, grey levels.
    """
    height, width = frames.shape[1:3]
    field = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(deviation)
    noise = np.rint(field).astype(np.int16)
    for frame in frames:
        row, column = int(rng.integers(height)), int(rng.integers(width))
        shifted = np.roll(noise, (row, column), axis=(0, 1))
        cv2.add(frame, shifted, dst=frame, dtype=cv2.CV_8U)


def compress(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Send a frame through JPEG (4:2:0), uint8 (H, W, 3) to the same.

    Args:
        frame: uint8 RGB (H, W, 3).
        quality: 1..100.
    """
    coded = simplejpeg.encode_jpeg(frame, quality=quality, colorsubsampling="420")
    decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(coded)
    return decoded
