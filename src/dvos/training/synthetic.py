"""Synthetic clips, made on the fly, as a source of training clips."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.training.clips import ClipSample, target_of

__all__ = ["Maker", "SyntheticClips"]

# Clips are drawn from so many that a run never meets one twice by chance
# (2e6 draws of 2**62 collide with a chance of 4e-7).
_CLIPS = 2**62


class MadeClip(Protocol):
    """What a :class:`Maker` makes."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 RGB (T, H, W, 3)."""
        ...

    @property
    def instances(self) -> NDArray[np.uint16]:
        """uint16 (T, H, W), 0 for background."""
        ...


class Maker(Protocol):
    """Something that makes clip k, always the same, and is picklable."""

    def make(
        self, clip_index: int, *, frames: int, size: tuple[int, int], scale: float = 1.0
    ) -> MadeClip:
        """Make a clip of ``frames`` frames of (height, width) ``size``, shown at ``scale``."""
        ...


class SyntheticClips:
    """Endless synthetic clips, a :class:`~dvos.training.clips.ClipSource`.

    Args:
        maker: Makes the clips.
    """

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def sample(
        self, rng: np.random.Generator, *, frames: int, size: tuple[int, int], scale: float
    ) -> ClipSample:
        """Make a clip, drawn at ``scale`` from the start."""
        clip_index = int(rng.integers(_CLIPS))
        made = self._maker.make(clip_index, frames=frames, size=size, scale=scale)
        return ClipSample(made.frames, target_of(made.instances[-1]))
