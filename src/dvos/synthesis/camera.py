"""The camera: how the canopy's plane moves through the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.config.scene import CameraSettings
from dvos.synthesis.draws import signs, uniform, whole


def rotations(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices (..., 2, 2) on (y, x) vectors, angles in radians."""
    turn = np.empty((*np.shape(angle), 2, 2))
    turn[..., 0, 0] = turn[..., 1, 1] = np.cos(angle)
    turn[..., 1, 0] = np.sin(angle)
    turn[..., 0, 1] = -turn[..., 1, 0]
    return turn


@dataclass(frozen=True)
class CameraPath:
    """A camera's motion over T frames, as it moves the content of the frame.

    A point p of the canopy lies in frame t at
    ``centre + zoom[t] * R(roll[t]) (p - centre) + depth * travel[t]``.

    Attributes:
        centre: (2,) centre of the frame, y and x.
        travel: (T, 2) px.
        zoom: (T,) factor.
        roll: (T,) radians.
        spread: Half range of the sprites' ``depth`` about 1 (parallax).
        plate_follows: Share of the motion that the background makes.
    """

    centre: NDArray[np.float64]
    travel: NDArray[np.float64]
    zoom: NDArray[np.float64]
    roll: NDArray[np.float64]
    spread: float
    plate_follows: float

    def view(
        self, points: NDArray[np.float64], depth: NDArray[np.float64], frames: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Where points lie in the frame.

        Args:
            points: (F, N, 2) or (1, N, 2), on the canopy.
            depth: (N,) share of the travel each makes; 1 = as the camera's.
            frames: (F,) frame numbers.

        Returns:
            (F, N, 2), in the frame.
        """
        turn = rotations(self.roll[frames]) * self.zoom[frames, None, None]
        moved = (points - self.centre) @ turn.transpose(0, 2, 1)
        return self.centre + moved + depth[None, :, None] * self.travel[frames, None]

    def unview(
        self, points: NDArray[np.float64], depth: NDArray[np.float64], frame: int
    ) -> NDArray[np.float64]:
        """Points on the canopy (N, 2) that lie in ``frame`` at ``points`` (N, 2)."""
        turn = rotations(self.roll[frame]) / self.zoom[frame]
        back = points - self.centre - depth[:, None] * self.travel[frame]
        return np.asarray(self.centre + back @ turn)  # R^-1 v as a row vector is v R

    def background_maps(self) -> NDArray[np.float64]:
        """Maps (T, 2, 3) from frame (y, x, 1) to the background's own plane."""
        share = self.plate_follows
        zoom = 1 + (self.zoom - 1) * share
        turn = rotations(-self.roll * share) / zoom[:, None, None]
        shift = self.centre - np.einsum("tij,tj->ti", turn, self.centre + share * self.travel)
        return np.concatenate([turn, shift[:, :, None]], 2)

    def region(self, size: tuple[int, int], margin: float) -> tuple[float, float, float, float]:
        """Box y0, y1, x0, x1 of the canopy that holds all that is ever seen."""
        height, width = size
        corners = np.array([[0, 0], [0, width], [height, 0], [height, width]], np.float64)
        # Every frame of a training clip; of a long one about a hundred, between
        # which smooth motion cannot stray by more than the margin.
        count = len(self.travel)
        frames = sorted({*range(0, count, max(1, count // 100)), count - 1})
        turn = rotations(self.roll[frames]) / self.zoom[frames, None, None]
        depth = np.array([1 - self.spread, 1 + self.spread])
        shift = depth[:, None, None] * self.travel[frames]  # 2, F, 2
        back = (corners - self.centre - shift[:, :, None]) @ turn
        points = (self.centre + back).reshape(-1, 2)
        low, high = points.min(0) - margin, points.max(0) + margin
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])


@dataclass(frozen=True)
class Camera:
    """Draws cameras."""

    settings: CameraSettings

    def draw(self, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> CameraPath:
        """Draw one camera's path.

        Order of draws: jerky steps and their turns, drift speed, heading and
        bend, shake and its two waves, zoom and its wave, roll and its wave,
        parallax, share of the background.
        """
        centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
        if not self.settings.enabled:
            still = np.zeros((frames, 2))
            return CameraPath(centre, still, np.ones(frames), np.zeros(frames), 0.0, 1.0)
        time = np.arange(frames, dtype=np.float64)
        travel = self._steps(rng, frames) + self._drift(rng, time) + self._shake(rng, time)
        zoom = np.exp(_swing(rng, time, uniform(rng, self.settings.zoom)))
        roll = _swing(rng, time, math.radians(uniform(rng, self.settings.roll)))
        spread = uniform(rng, self.settings.parallax)
        follows = uniform(rng, self.settings.plate_follows)
        return CameraPath(centre, travel, zoom, roll, spread, follows)

    def _steps(self, rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
        direction = signs(rng, (1, 2))
        turned = np.where(rng.random((frames, 1)) < self.settings.change_direction, -1.0, 1.0)
        steps = whole(rng, self.settings.step, (frames, 2)) * direction * np.cumprod(turned, 0)
        steps[0] = 0
        return np.cumsum(steps, 0)

    def _drift(self, rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
        speed = uniform(rng, self.settings.drift)
        heading = uniform(rng, (0, 2 * math.pi))
        bend = math.radians(uniform(rng, self.settings.turn)) * float(signs(rng, 1)[0])
        course = heading + bend * time
        steps = speed * np.stack([np.sin(course), np.cos(course)], 1)
        steps[0] = 0
        return np.cumsum(steps, 0)

    def _shake(self, rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
        amplitude = uniform(rng, self.settings.shake)
        rate = 0.04 + 0.22 * rng.random((2, 2))  # waves per frame, per axis
        phase = 2 * math.pi * rng.random((2, 2))
        waves = np.sin(2 * math.pi * time[:, None, None] * rate + phase)
        return amplitude * 0.5 * np.asarray((waves - waves[:1]).sum(1))


def _swing(rng: np.random.Generator, time: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """A slow swing that starts at 0 and changes by at most ``rate`` a frame."""
    period = uniform(rng, (60, 160))
    phase = uniform(rng, (0, 2 * math.pi))
    wave = np.sin(2 * math.pi * time / period + phase)
    return np.asarray(rate * period / (2 * math.pi) * (wave - wave[0]))
