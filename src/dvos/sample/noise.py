"""Smooth random textures and functions that everything irregular in the field is made of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.sample import Floats


def tile_noise(rng: np.random.Generator, size: int, *, cells: int, octaves: int) -> Floats:
    """Fractal value noise that repeats without a seam.

    Args:
        rng: Source of the random values.
        size: Side of the square texture in texels; a multiple of ``cells``.
        cells: Random values along a side in the coarsest octave.
        octaves: Octaves, each twice as fine and half as strong as the one before.

    Returns:
        float32 (size, size), mean 0 and standard deviation 1.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        count = cells << octave
        if count > size:
            break
        grid = rng.standard_normal((count, count)).astype(np.float32)
        # Two cells of wrapped border let the cubic interpolation see across
        # the seam, so that both sides of it agree.
        padded = np.pad(grid, 2, mode="wrap")
        scale = size // count
        side = (count + 4) * scale
        large = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
        total += large[2 * scale : 2 * scale + size, 2 * scale : 2 * scale + size] / 2**octave
    total -= total.mean()
    return np.asarray(total / total.std(), np.float32)


def _tile_lumps(rng: np.random.Generator, size: int, spacing: float) -> Floats:
    """Rounded lumps side by side: Worley's cellular basis (1996), repeating, 0..1."""
    count = max(4, int((size / spacing) ** 2))
    points = rng.integers(0, size, (count, 2))
    margin = int(spacing * 3)
    field = np.full((size + 2 * margin, size + 2 * margin), 255, np.uint8)
    for dy in (-size, 0, size):
        for dx in (-size, 0, size):
            place = points + np.array([dy + margin, dx + margin])
            inside = ((place >= 0) & (place < size + 2 * margin)).all(axis=1)
            field[place[inside, 0], place[inside, 1]] = 0
    distance = cv2.distanceTransform(field, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = distance[margin : margin + size, margin : margin + size] / np.float32(spacing)
    return np.asarray(np.maximum(0.0, 1.0 - distance**2), np.float32)


@dataclass(frozen=True)
class SoilTexture:
    """A repeating square of ground.

    Attributes:
        texels: float32 (S, S, 5): linear red, green, blue albedo, then the
            x and y part of the surface normal before normalising (z is 1).
        side_m: Side of the square on the ground in metres.
    """

    texels: Floats
    side_m: float


def make_soil(
    rng: np.random.Generator, *, colour: tuple[float, float, float], size: int = 1024
) -> SoilTexture:
    """Make crumbly ground: lumps of three sizes, grit, damp and dry patches.

    Args:
        rng: Source of randomness.
        colour: Mean linear albedo.
        size: Side in texels, 1.4 mm each; a power of two.
    """
    side_m = size * 0.0014
    coarse = _tile_lumps(rng, size, size / 22)
    medium = _tile_lumps(rng, size, size / 70)
    fine = _tile_lumps(rng, size, size / 200)
    rough = tile_noise(rng, size, cells=8, octaves=7)
    height = 0.8 * coarse + 0.6 * medium + 0.38 * fine + 0.20 * rough
    height = cv2.GaussianBlur(height, (0, 0), 0.7, borderType=cv2.BORDER_REPLICATE)
    slope_x = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) * 4.5
    slope_y = (np.roll(height, -1, axis=0) - np.roll(height, 1, axis=0)) * 4.5
    damp = tile_noise(rng, size, cells=4, octaves=4)
    grit = tile_noise(rng, size, cells=256, octaves=2)
    # Hollows between lumps are darker: they get less light from the sky.
    relative = (height - height.mean()) / height.std()
    light = np.clip(1.0 + 0.30 * relative + 0.16 * damp + 0.17 * grit, 0.2, 2.4)
    # Crumbs of chaff and dry earth.
    light += 0.9 * np.clip(grit - 2.1, 0.0, 1.0)
    warm = 0.05 * tile_noise(rng, size, cells=16, octaves=3)
    texels = np.empty((size, size, 5), np.float32)
    for channel, tint in enumerate((1.0 + warm, np.ones_like(warm), 1.0 - warm)):
        texels[..., channel] = colour[channel] * light * tint
    texels[..., 3] = -slope_x
    texels[..., 4] = -slope_y
    return SoilTexture(texels, side_m)


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves: a smooth function of place and time in closed form.

    Attributes:
        vectors: float64 (N, 2), wave vectors, radians per metre.
        speeds: float64 (N,), radians per second.
        phases: float64 (N,), radians.
        weights: float64 (N,), amplitudes; their squares add up to 2.
    """

    vectors: NDArray[np.float64]
    speeds: NDArray[np.float64]
    phases: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def along(
        cls, rng: np.random.Generator, *, heading: float, length_m: float, speed: float, count: int
    ) -> Waves:
        """Waves that run about one way.

        Args:
            rng: Source of randomness.
            heading: Mean direction of travel, radians.
            length_m: Mean wave length, metres.
            speed: Speed of travel, metres per second.
            count: Number of waves.
        """
        angles = heading + rng.normal(0.0, 0.45, count)
        numbers = 2 * np.pi / (length_m * rng.uniform(0.6, 1.8, count))
        vectors = numbers[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        weights = rng.uniform(0.5, 1.0, count)
        weights *= np.sqrt(2.0 / (weights**2).sum())
        return cls(vectors, numbers * speed, rng.uniform(0, 2 * np.pi, count), weights)

    def __call__(self, places: NDArray[np.floating], time_s: float) -> NDArray[np.float64]:
        """Value, standard deviation about 1, at ``places`` (N, 2) in metres."""
        angle = places @ self.vectors.T - self.speeds * time_s + self.phases
        return np.asarray(np.sin(angle) @ self.weights)
