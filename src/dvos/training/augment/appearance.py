"""Appearance of clips: colours, what a camera takes away, and noise that hides the references.

Two photos differ far more than two frames of one clip do, and a camera stays the same: draws are
shared by the frames, and only a small one is each reference's own; or, as in the published
training, all is drawn for each frame on its own.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dvos.config.data import ColourSettings, DegradationSettings, DiffusionSettings

# ITU-R BT.601 luma, by which grey and saturation are defined here.
_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS = np.arange(256) / 255.0
# No exposure is drawn that moves a clip's mean further out than this (luma).
_DARKEST, _LIGHTEST = 35.0, 200.0
# Steps of the forward process of diffusion, from an image to (almost) noise.
_STEPS = 1000
_FIRST_BETA, _LAST_BETA = 1e-4, 1e-2


class ColourJitter:
    """Draws the colours of clips; all spreads are standard deviations of logarithms."""

    def __init__(self, settings: ColourSettings) -> None:
        self._clip = _scaled(settings, settings.strength)
        #: The draw of each reference, relative to the clip's.
        self._own = _scaled(self._clip, settings.per_frame)

    def apply(self, rng: np.random.Generator, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw new colours for frames uint8 RGB (T, H, W, 3), the query last; a new array."""
        if self._clip.shared:
            return self._apply_shared(rng, frames, query=self._clip.query)
        count = len(frames) if self._clip.query else len(frames) - 1
        changed = [self._apply_shared(rng, frame[None], query=True)[0] for frame in frames[:count]]
        return np.stack([*changed, *frames[count:]])

    def _apply_shared(
        self, rng: np.random.Generator, frames: NDArray[np.uint8], *, query: bool
    ) -> NDArray[np.uint8]:
        grey = rng.random() < self._clip.grey_share
        curve = gamma_curve(np.exp(rng.normal(0, self._clip.gamma)))
        before = np.array(cv2.mean(frames[-1])[:3])
        after = np.array(cv2.mean(cv2.LUT(frames[-1], curve))[:3])
        matrix = _draw_matrix(rng, self._clip, after, float(_LUMA @ before), grey=grey)
        shade = self._shade(rng, frames.shape[1:3])
        middle = matrix[:, :3] @ after + matrix[:, 3]
        result = frames.copy()
        last = len(frames) - 1
        for number, frame in enumerate(frames if query else frames[:-1]):
            both = matrix
            if number != last:
                own = _draw_matrix(rng, self._own, middle, float(_LUMA @ middle))
                # The affine map that applies the clip's and then the frame's own.
                linear, offset = own[:, :3] @ matrix[:, :3], own[:, :3] @ matrix[:, 3] + own[:, 3]
                both = np.column_stack([linear, offset])
            changed = cv2.transform(cv2.LUT(frame, curve), both)
            if shade is not None:
                cv2.multiply(changed, shade, dst=changed, scale=1 / 128)
            result[number] = changed
        return result

    def _shade(self, rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """Draw uneven light as uint8 (H, W, 3), 128 for unchanged."""
        if rng.random() >= self._clip.shade_share:
            return None
        # Three to six lights across the frame: clouds, canopy gaps, vignettes.
        grid = tuple(int(count) for count in rng.integers(3, 7, 2))
        knots = 128 * np.exp(rng.normal(0, self._clip.shade, grid))
        knots = np.clip(knots, 32, 255).astype(np.uint8)
        light = cv2.resize(knots, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.merge([light, light, light]), np.uint8)


def _scaled(settings: ColourSettings, strength: float) -> ColourSettings:
    """The same draw at another strength; 0 changes nothing."""
    spreads = ("brightness", "contrast", "saturation", "gain", "hue", "gamma", "shade")
    shares = ("grey_share", "shade_share")
    changed = {name: getattr(settings, name) * strength for name in spreads}
    changed |= {name: min(1.0, getattr(settings, name) * strength) for name in shares}
    return settings.model_copy(update=changed)


def _draw_matrix(
    rng: np.random.Generator,
    chosen: ColourSettings,
    mean: NDArray[np.float64],
    luma: float,
    *,
    grey: bool = False,
) -> NDArray[np.float64]:
    """Draw one affine map of colours 0..255 of this mean and luma, float64 (3, 4)."""
    turn = hue_matrix(np.deg2rad(rng.uniform(-chosen.hue, chosen.hue)))
    # Saturation 0 is grey; the draw keeps it under twice the original.
    chroma = 0.0 if grey else min(2.0, np.exp(rng.normal(0, chosen.saturation)))
    saturate = chroma * np.eye(3) + (1 - chroma) * np.outer(np.ones(3), _LUMA)
    gains = np.diag(np.exp(rng.normal(0, chosen.gain, 3)))
    linear = gains @ saturate @ turn
    wanted = luma * np.exp(rng.normal(0, chosen.brightness))
    # What was darker or lighter from the start may stay so.
    wanted = np.clip(wanted, min(luma, _DARKEST), max(luma, _LIGHTEST))
    linear *= wanted / max(1.0, float(_LUMA @ linear @ mean))
    contrast = np.exp(rng.normal(0, chosen.contrast))
    return np.column_stack([contrast * linear, np.full(3, (1 - contrast) * wanted)])


def gamma_curve(gamma: float) -> NDArray[np.uint8]:
    """Table of 255 * (v / 255) ** gamma, uint8 (256,)."""
    return np.rint(255 * _LEVELS**gamma).astype(np.uint8)


def hue_matrix(angle: float) -> NDArray[np.float64]:
    """Rodrigues' rotation of colours about the grey axis by radians, float64 (3, 3)."""
    axis = 1 / np.sqrt(3)
    cross = axis * np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    turned = np.cos(angle) * np.eye(3) + np.sin(angle) * cross
    return np.asarray(turned + (1 - np.cos(angle)) / 3 * np.ones((3, 3)), np.float64)


class Degradation:
    """Draws the quality of clips: sharpness, resolution, clean pixels."""

    def __init__(self, settings: DegradationSettings) -> None:
        names = ("blur_share", "motion_share", "resolution_share", "noise_share", "jpeg_share")
        shares = {n: min(1.0, getattr(settings, n) * settings.strength) for n in names}
        self._settings = settings.model_copy(update=shares)

    def apply(self, rng: np.random.Generator, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw the quality of frames uint8 RGB (T, H, W, 3), the query last; may change them."""
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
    """Centred kernel, float32 (K, K), of a blur along a line of pixels at radians to the rows."""
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
    return np.asarray(kernel / kernel.sum(), np.float32)


def add_noise(rng: np.random.Generator, frames: NDArray[np.uint8], deviation: float) -> None:
    """Add one field of sensor noise, shifted for each frame, to uint8 (T, H, W, 3), in place."""
    height, width = frames.shape[1:3]
    field = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(deviation)
    noise = np.rint(field).astype(np.int16)
    for frame in frames:
        row, column = int(rng.integers(height)), int(rng.integers(width))
        cv2.add(frame, np.roll(noise, (row, column), axis=(0, 1)), dst=frame, dtype=cv2.CV_8U)


def compress(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Send a frame uint8 RGB (H, W, 3) through JPEG (4:2:0) of a quality 1..100."""
    coded = simplejpeg.encode_jpeg(frame, quality=quality, colorsubsampling="420")
    decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(coded)
    return decoded


@cache
def forward_schedule() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors of image and noise after each step (Ho et al., arXiv 2006.11239), float32 (1000,)."""
    kept = np.cumprod(1 - np.linspace(_FIRST_BETA, _LAST_BETA, _STEPS))
    return np.sqrt(kept).astype(np.float32), np.sqrt(1 - kept).astype(np.float32)


class PatchDiffusion:
    """Noises patches of references, or blanks them to the mean colour, so that none is copied."""

    def __init__(self, settings: DiffusionSettings) -> None:
        self._settings = settings

    @property
    def changes(self) -> bool:
        """Whether anything is ever changed."""
        return self._settings.share > 0 or self._settings.blank > 0

    def apply(self, rng: np.random.Generator, frames: NDArray[np.float32]) -> None:
        """Noise normalised frames float32 (T, 3, H, W) in place, but for the last, the query."""
        if not self.changes:
            return
        signal, spread = forward_schedule()
        side = self._settings.patch
        grid = -(-frames.shape[2] // side), -(-frames.shape[3] // side)
        for frame in frames[:-1]:
            step = int(rng.integers(self._settings.steps))
            blanked = rng.random(grid) < self._settings.blank
            noised = (rng.random(grid) < self._settings.share) & ~blanked
            for row, column in np.argwhere(noised).tolist():
                # The slice of a patch at the border is smaller than a patch.
                part = frame[:, side * row : side * (row + 1), side * column : side * (column + 1)]
                part *= signal[step]
                part += spread[step] * rng.standard_normal(part.shape, np.float32)
            for row, column in np.argwhere(blanked).tolist():
                frame[:, side * row : side * (row + 1), side * column : side * (column + 1)] = 0
