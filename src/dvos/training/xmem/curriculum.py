"""How far apart the frames of a clip lie, and how much they are bent, over a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.training.xmem.clips import ObjectClip

__all__ = ["Curriculum", "FrameJitter"]


@dataclass(frozen=True)
class Curriculum:
    """What changes over a run.

    Attributes:
        clips: Of the whole run.
        jumps: (share, jump): from that share of the main part of the run on,
            frames are drawn at most so far apart; in order, the first share 0.
        tuning: Share of the run at its end that is no main part: there frames
            are not bent one by one, so that the sensory state learns true motion.
    """

    clips: int
    jumps: Sequence[tuple[float, int]]
    tuning: float

    def jump(self, k: int) -> int:
        """Largest distance between neighbouring frames of clip ``k``."""
        position = k / max(1.0, self._main)
        return [jump for share, jump in self.jumps if share <= position][-1]

    def tunes(self, k: int) -> bool:
        """Whether clip ``k`` belongs to the end of the run."""
        return k >= self._main

    @property
    def _main(self) -> float:
        return self.clips * (1 - self.tuning)


@dataclass(frozen=True)
class FrameJitter:
    """An affine change of each frame on its own; by default none.

    Attributes:
        turn: Largest rotation to either side, degrees.
        shear: Largest shear to either side, degrees.
    """

    turn: float = 0.0
    shear: float = 0.0

    def apply(self, rng: np.random.Generator, clip: ObjectClip) -> ObjectClip:
        """Bend every frame and its mask about the middle; borders are mirrored."""
        if not (self.turn or self.shear):
            return clip
        frames, ids = np.empty_like(clip.frames), np.empty_like(clip.ids)
        size = clip.ids.shape[2], clip.ids.shape[1]
        for number, (frame, mask) in enumerate(zip(clip.frames, clip.ids, strict=True)):
            matrix = self._matrix(rng, size)
            for image, result, interpolation in (
                (frame, frames[number], cv2.INTER_LINEAR),
                (mask, ids[number], cv2.INTER_NEAREST),
            ):
                cv2.warpAffine(
                    image,
                    matrix,
                    size,
                    dst=result,
                    flags=interpolation | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REFLECT_101,
                )
        return ObjectClip(frames, ids)

    def _matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3), from the result's pixels to the frame's, (x, y)."""
        angle = np.deg2rad(rng.uniform(-self.turn, self.turn))
        slope = np.tan(np.deg2rad(rng.uniform(-self.shear, self.shear)))
        cosine, sine = np.cos(angle), np.sin(angle)
        linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1.0, slope], [0.0, 1.0]])
        middle = (np.array(size) - 1) / 2
        return np.column_stack([linear, middle - linear @ middle])
