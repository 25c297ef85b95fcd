"""Input diffusion: patches of the references are noised, so that none can be copied.

Ho, Jain and Abbeel (2020), "Denoising diffusion probabilistic models": after
t steps of the forward process an image x is sqrt(a) x + sqrt(1 - a) e, with e
standard normal and a the product of 1 - beta over the steps so far.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dvos.config.augmentation import DiffusionSettings

__all__ = ["PatchDiffusion", "forward_schedule"]

#: Steps of the forward process, from an image to (almost) noise.
STEPS = 1000
_FIRST_BETA, _LAST_BETA = 1e-4, 1e-2


@cache
def forward_schedule() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors of image and noise after each step.

    Returns:
        sqrt(a) and sqrt(1 - a), float32 (1000,) each, for beta rising linearly
        from 1e-4 to 1e-2.
    """
    kept = np.cumprod(1 - np.linspace(_FIRST_BETA, _LAST_BETA, STEPS))
    return np.sqrt(kept).astype(np.float32), np.sqrt(1 - kept).astype(np.float32)


class PatchDiffusion:
    """Draws the noise of references: patches, of those not blanked, are noised to a step.

    The step of a reference's patches is drawn evenly from those below ``steps``. Patches at the
    right and lower border may be smaller; blanked ones get the mean colour.

    Args:
        settings: What it is drawn from.
    """

    def __init__(self, settings: DiffusionSettings) -> None:
        self._settings = settings

    @property
    def changes(self) -> bool:
        """Whether anything is ever changed."""
        return self._settings.share > 0 or self._settings.blank > 0

    def apply(self, rng: np.random.Generator, frames: NDArray[np.float32]) -> None:
        """Noise patches of the references, in place.

        Args:
            rng: Source of the draw.
            frames: float32 (T, 3, H, W), normalised to mean 0 and deviation 1;
                the last one, the query, is left alone.
        """
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
