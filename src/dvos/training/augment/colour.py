"""Colour changes of a clip: one matrix for the scene, a little more per frame.

A photo of another field, season or camera differs in light, white balance and
ripeness far more than two frames of one clip do. The large draw is therefore
shared by the frames, and only a small one is each reference's own. The
published training draws anew for each reference; ``shared`` says which.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.augmentation import ColourSettings

__all__ = ["ColourJitter"]

# ITU-R BT.601 luma, by which grey and saturation are defined here.
_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS = np.arange(256) / 255.0
# No exposure is drawn that moves a clip's mean further out than this (luma).
_DARKEST, _LIGHTEST = 35.0, 200.0


class ColourJitter:
    """Draws the colours of clips.

    Of the spreads in the settings all are standard deviations of logarithms: of the exposure, the
    mean being kept within what a camera's automatic exposure would give; of the contrast about
    the clip's own mean; of the saturation; of each channel's gain (white balance); of gamma; of
    uneven light.

    Args:
        settings: What colours are drawn from.
    """

    def __init__(self, settings: ColourSettings) -> None:
        self._clip = _scaled(settings, settings.strength)
        #: The draw of each reference, relative to the clip's.
        self._own = _scaled(self._clip, settings.per_frame)

    def apply(self, rng: np.random.Generator, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw new colours for a clip.

        Args:
            rng: Source of the draw.
            frames: uint8 RGB (T, H, W, 3), the query last.

        Returns:
            uint8 (T, H, W, 3), a new array.
        """
        if self._clip.shared:
            return self._apply_shared(rng, frames, query=self._clip.query)
        changed = [self._apply_shared(rng, frame[None], query=True)[0] for frame in frames[:-1]]
        query = frames[-1]
        if self._clip.query:
            query = self._apply_shared(rng, frames[-1:], query=True)[0]
        return np.stack([*changed, query])

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
        result = np.empty_like(frames)
        last = len(frames) - 1
        for number, frame in enumerate(frames):
            if number == last and not query:
                result[number] = frame
                continue
            both = matrix
            if number != last:
                own = _draw_matrix(rng, self._own, middle, float(_LUMA @ middle))
                both = _compose(own, matrix)
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
        light = cv2.resize(
            np.clip(knots, 32, 255).astype(np.uint8),
            (size[1], size[0]),
            interpolation=cv2.INTER_LINEAR,
        )
        shade: NDArray[np.uint8] = cv2.merge([light, light, light])
        return shade


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
    """Draw one affine map of colours.

    Args:
        rng: Source of the draw.
        chosen: What it is drawn from.
        mean: float64 (3,), mean colour of what is mapped, 0..255.
        luma: Mean luma that exposure starts from.
        grey: Whether to take the colour away.

    Returns:
        float64 (3, 4), for values 0..255.
    """
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
    offset = np.full(3, (1 - contrast) * wanted)
    return np.column_stack([contrast * linear, offset])


def gamma_curve(gamma: float) -> NDArray[np.uint8]:
    """Table of 255 * (v / 255) ** gamma, uint8 (256,)."""
    return np.rint(255 * _LEVELS**gamma).astype(np.uint8)


def hue_matrix(angle: float) -> NDArray[np.float64]:
    """Rotation of colours about the grey axis.

    Rodrigues' formula about (1, 1, 1) / sqrt(3): greys stay as they are.

    Args:
        angle: Radians.

    Returns:
        float64 (3, 3).
    """
    axis = 1 / np.sqrt(3)
    cross = axis * np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    rotation: NDArray[np.float64] = (
        np.cos(angle) * np.eye(3)
        + np.sin(angle) * cross
        + (1 - np.cos(angle)) / 3 * np.ones((3, 3))
    )
    return rotation


def _compose(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine map that applies ``first`` and then ``second``, (3, 4) each."""
    linear = second[:, :3] @ first[:, :3]
    return np.column_stack([linear, second[:, :3] @ first[:, 3] + second[:, 3]])
