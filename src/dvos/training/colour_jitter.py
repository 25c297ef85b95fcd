"""Colour changes of a clip: one matrix for the scene, a little more per frame.

A photo of another field, season or camera differs in light, white balance and
ripeness far more than two frames of one clip do. The large draw is therefore
shared by the frames, and only a small one is each reference's own. The
published training draws anew for each reference; ``shared`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ColourJitter"]

# ITU-R BT.601 luma, by which grey and saturation are defined here.
_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS = np.arange(256) / 255.0
# No exposure is drawn that moves a clip's mean further out than this (luma).
_DARKEST, _LIGHTEST = 35.0, 200.0


@dataclass(frozen=True)
class ColourJitter:
    """What the colours of clips are drawn from; by default nothing changes.

    Attributes:
        brightness: Standard deviation of the logarithm of the exposure. The
            mean is kept within what a camera's automatic exposure would give.
        contrast: Standard deviation of the logarithm of the contrast about
            the clip's own mean.
        saturation: The same of the saturation.
        gain: The same of each channel's own gain (white balance).
        hue: Largest rotation of the hue to either side, degrees.
        gamma: Standard deviation of the logarithm of gamma.
        grey_share: Share of the clips shown without colour.
        shade_share: Share of the clips with uneven light over the frame.
        shade: Standard deviation of the logarithm of that light.
        per_frame: The draw of each reference frame, relative to the clip's.
        shared: Whether the frames share a draw; if not, each has a full one of
            its own, and ``per_frame`` has no part.
        query: Whether the query frame is changed like the others. It has to
            be for a network that sees it.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    gain: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0
    grey_share: float = 0.0
    shade_share: float = 0.0
    shade: float = 0.0
    per_frame: float = 0.0
    shared: bool = True
    query: bool = True

    def apply(self, rng: np.random.Generator, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw new colours for a clip.

        Args:
            rng: Source of the draw.
            frames: uint8 RGB (T, H, W, 3), the query last.

        Returns:
            uint8 (T, H, W, 3), a new array.
        """
        if self.shared:
            return self._apply_shared(rng, frames)
        alone = replace(self, shared=True, query=True)
        changed = [alone._apply_shared(rng, frame[None])[0] for frame in frames[:-1]]
        query = alone._apply_shared(rng, frames[-1:])[0] if self.query else frames[-1]
        return np.stack([*changed, query])

    def _apply_shared(
        self, rng: np.random.Generator, frames: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        grey = rng.random() < self.grey_share
        curve = gamma_curve(np.exp(rng.normal(0, self.gamma)))
        before = np.array(cv2.mean(frames[-1])[:3])
        after = np.array(cv2.mean(cv2.LUT(frames[-1], curve))[:3])
        matrix = self._matrix(rng, after, float(_LUMA @ before), grey=grey)
        shade = self._shade(rng, frames.shape[1:3])
        own = self.scaled(self.per_frame)
        middle = matrix[:, :3] @ after + matrix[:, 3]
        result = np.empty_like(frames)
        last = len(frames) - 1
        for number, frame in enumerate(frames):
            if number == last and not self.query:
                result[number] = frame
                continue
            both = matrix
            if number != last:
                both = _compose(own._matrix(rng, middle, float(_LUMA @ middle)), matrix)
            changed = cv2.transform(cv2.LUT(frame, curve), both)
            if shade is not None:
                cv2.multiply(changed, shade, dst=changed, scale=1 / 128)
            result[number] = changed
        return result

    def scaled(self, strength: float) -> ColourJitter:
        """The same draw at another strength; 0 changes nothing."""
        return replace(
            self,
            brightness=self.brightness * strength,
            contrast=self.contrast * strength,
            saturation=self.saturation * strength,
            gain=self.gain * strength,
            hue=self.hue * strength,
            gamma=self.gamma * strength,
            grey_share=min(1.0, self.grey_share * strength),
            shade_share=min(1.0, self.shade_share * strength),
            shade=self.shade * strength,
        )

    def _matrix(
        self,
        rng: np.random.Generator,
        mean: NDArray[np.float64],
        luma: float,
        *,
        grey: bool = False,
    ) -> NDArray[np.float64]:
        """Draw one affine map of colours.

        Args:
            rng: Source of the draw.
            mean: float64 (3,), mean colour of what is mapped, 0..255.
            luma: Mean luma that exposure starts from.
            grey: Whether to take the colour away.

        Returns:
            float64 (3, 4), for values 0..255.
        """
        turn = hue_matrix(np.deg2rad(rng.uniform(-self.hue, self.hue)))
        # Saturation 0 is grey; the draw keeps it under twice the original.
        chroma = 0.0 if grey else min(2.0, np.exp(rng.normal(0, self.saturation)))
        saturate = chroma * np.eye(3) + (1 - chroma) * np.outer(np.ones(3), _LUMA)
        gains = np.diag(np.exp(rng.normal(0, self.gain, 3)))
        linear = gains @ saturate @ turn
        wanted = luma * np.exp(rng.normal(0, self.brightness))
        # What was darker or lighter from the start may stay so.
        wanted = np.clip(wanted, min(luma, _DARKEST), max(luma, _LIGHTEST))
        linear *= wanted / max(1.0, float(_LUMA @ linear @ mean))
        contrast = np.exp(rng.normal(0, self.contrast))
        offset = np.full(3, (1 - contrast) * wanted)
        return np.column_stack([contrast * linear, offset])

    def _shade(self, rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """Draw uneven light as uint8 (H, W, 3), 128 for unchanged."""
        if rng.random() >= self.shade_share:
            return None
        # Three to six lights across the frame: clouds, canopy gaps, vignettes.
        grid = tuple(int(count) for count in rng.integers(3, 7, 2))
        knots = 128 * np.exp(rng.normal(0, self.shade, grid))
        light = cv2.resize(
            np.clip(knots, 32, 255).astype(np.uint8),
            (size[1], size[0]),
            interpolation=cv2.INTER_LINEAR,
        )
        shade: NDArray[np.uint8] = cv2.merge([light, light, light])
        return shade


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
