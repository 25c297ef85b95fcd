"""How a window moves over a photo, and how what it shows sways."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["PanMotion", "Wind", "margins"]


@dataclass(frozen=True)
class PanMotion:
    """A camera that drifts over a still scene.

    Offsets are in pixels of the frames returned, so that a clip shows the same
    motion whatever scale its photo is read at.

    Attributes:
        speed: Usual speed is drawn from 0 to this, pixels per frame.
        fast_speed: Upper end of the speed of a fast clip, pixels per frame.
        fast_share: Share of the clips that are fast.
        still_share: Share of the clips in which nothing moves.
        acceleration: Standard deviation of the change of velocity, pixels per
            frame per frame and axis.
        zoom: Standard deviation of the change of size per frame, as a
            fraction.
        turn: Standard deviation of the rotation per frame, degrees.
        shake: Standard deviation of each frame's own offset, pixels.
    """

    speed: float = 0.0
    fast_speed: float = 0.0
    fast_share: float = 0.0
    still_share: float = 0.0
    acceleration: float = 0.0
    zoom: float = 0.0
    turn: float = 0.0
    shake: float = 0.0

    def draw(self, rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
        """Draw a path.

        Args:
            rng: Source of the path.
            frames: Number of frames T.

        Returns:
            float64 (T, 2, 3): for each frame the map from (x, y, 1), relative
            to the middle of the frame, to the place in the query frame that is
            seen there. The last one is the identity: the query is where its
            mask is.
        """
        still = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (frames, 1, 1))
        kind = rng.random()
        if kind < self.still_share:
            return still
        fast = kind < self.still_share + self.fast_share
        low, high = (self.speed, self.fast_speed) if fast else (0.0, self.speed)
        speed = rng.uniform(low, max(low, high))
        heading = rng.uniform(0, 2 * np.pi)
        velocity = speed * np.array([np.cos(heading), np.sin(heading)])
        change = rng.normal(0, self.acceleration, 2)
        zoom, turn = rng.normal(0, self.zoom), np.deg2rad(rng.normal(0, self.turn))
        # Frames before the query, counted backwards in time.
        back = -np.arange(frames - 1, 0, -1, dtype=np.float64)
        offsets = back[:, None] * velocity + 0.5 * back[:, None] ** 2 * change
        offsets += rng.normal(0, self.shake, offsets.shape)
        size, angle = np.exp(zoom * back), turn * back
        still[:-1, 0, 0] = still[:-1, 1, 1] = size * np.cos(angle)
        still[:-1, 1, 0] = size * np.sin(angle)
        still[:-1, 0, 1] = -still[:-1, 1, 0]
        still[:-1, :, 2] = offsets
        return still


@dataclass(frozen=True)
class Wind:
    """Small smooth sway of the references against the query.

    Every place swings to and fro about its rest as a sine; neighbours swing
    alike. Displacements are measured from the query's moment, at which they
    are zero, so that the query's mask stays exact.

    Attributes:
        share: Share of the clips in which the wind blows.
        amplitude: Largest swing in pixels of the frames returned.
    """

    share: float = 0.0
    amplitude: float = 0.0

    def draw(
        self, rng: np.random.Generator, frames: int, size: tuple[int, int]
    ) -> NDArray[np.float32] | None:
        """Draw the sway of a clip.

        Args:
            rng: Source of the sway.
            frames: Number of frames T.
            size: (height, width) of the frames.

        Returns:
            float32 (T - 1, height, width, 2), the (x, y) displacement of each
            reference in pixels; None if the air is still.
        """
        if rng.random() >= self.share or frames < 2:
            return None
        # A swing about every 64 pixels: heads that stand together sway alike.
        grid = tuple(max(3, side // 64 + 2) for side in size)
        swing = rng.normal(0, rng.uniform(0, self.amplitude) / 2, (*grid, 2))
        phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5, grid)
        step = rng.uniform(0.2, 0.9)
        back = -np.arange(frames - 1, 0, -1, dtype=np.float64)
        moments = np.sin(phase + step * back[:, None, None]) - np.sin(phase)
        coarse = np.clip(
            moments[..., None] * swing, -2 * self.amplitude, 2 * self.amplitude
        ).astype(np.float32)
        return np.stack(
            [cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR) for field in coarse]
        )


def margins(
    path: NDArray[np.float64], size: tuple[int, int], extra: float = 0.0
) -> tuple[int, int, int, int]:
    """How far the frames of a path reach beyond the query's.

    Args:
        path: float64 (T, 2, 3) of :meth:`PanMotion.draw`.
        size: (height, width) of the frames.
        extra: Further reach on every side, pixels.

    Returns:
        (top, left, bottom, right), whole pixels, not negative.
    """
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    corners = np.array([[-x, -x, x, x], [-y, y, -y, y], [1, 1, 1, 1]])
    seen = path @ corners  # (T, 2, 4)
    if extra == 0 and np.abs(seen - corners[:2]).max() < 1e-9:
        return 0, 0, 0, 0
    low, high = seen.min(axis=(0, 2)) - extra, seen.max(axis=(0, 2)) + extra
    # One pixel more, for the bilinear interpolation at the rim.
    reach = [-y - low[1], -x - low[0], high[1] - y, high[0] - x]
    top, left, bottom, right = (max(0, int(np.ceil(side)) + 1) for side in reach)
    return top, left, bottom, right
