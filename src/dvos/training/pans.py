"""Where a pan clip lies on its photo: the window, its path and the sway, drawn together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.training.geometry import Box, place
from dvos.training.motion import PanMotion, Wind, margins

__all__ = ["Pan", "PanDraw"]


@dataclass(frozen=True, eq=False)
class Pan:
    """A drawn pan over a photo.

    Attributes:
        box: The part of the photo that any frame shows, in its own pixels.
        whole: (height, width) that the part has at the clip's scale.
        window: Where the window ends, in the part at the clip's scale.
        path: float64 (T, 2, 3), see :meth:`~dvos.training.motion.PanMotion.draw`.
        sway: float32 (T - 1, H, W, 2), see :meth:`~dvos.training.motion.Wind.draw`; None without.
    """

    box: Box
    whole: tuple[int, int]
    window: Box
    path: NDArray[np.float64]
    sway: NDArray[np.float32] | None


@dataclass(frozen=True)
class PanDraw:
    """Draws pans.

    Attributes:
        motion: How the window moves.
        wind: How the frames sway.
        object_share: Share of the pans whose window is laid so that it holds
            an object, if the photo has one; the others lie anywhere.
    """

    motion: PanMotion
    wind: Wind
    object_share: float = 0.7

    def draw(
        self,
        rng: np.random.Generator,
        *,
        photo: tuple[int, int],
        aims: NDArray[np.int64],
        frames: int,
        size: tuple[int, int],
        scale: float,
    ) -> Pan:
        """Draw a path, the sway, what to aim at, and the place.

        Args:
            rng: Source of the draws.
            photo: (height, width) of the photo.
            aims: (N, 2), (row, column) of pixels of its objects.
            frames: Length T of the clip.
            size: (height, width) of its frames.
            scale: Of the photo in them.
        """
        path = self.motion.draw(rng, frames)
        sway = self.wind.draw(rng, frames, size)
        aim = None
        if len(aims) and rng.random() < self.object_share:
            row, column = aims[int(rng.integers(len(aims)))]
            aim = int(row), int(column)
        reach = margins(path, size, 0.0 if sway is None else float(np.abs(sway).max()))
        window = Box(reach[0], reach[1], *size)
        whole = (size[0] + reach[0] + reach[2], size[1] + reach[1] + reach[3])
        native = _shrunk(Box(0, 0, *whole), scale)
        inner = _shrunk(window, scale)
        box = place(rng, (native.height, native.width), photo, aim=aim, inner=inner)
        return Pan(box, whole, window, path, sway)


def _shrunk(box: Box, scale: float) -> Box:
    """A box of the frame in the photo's own pixels."""
    height, width = max(1, round(box.height / scale)), max(1, round(box.width / scale))
    return Box(round(box.top / scale), round(box.left / scale), height, width)
