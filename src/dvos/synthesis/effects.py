"""Light, shadows and the lens: drawn once per clip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.synthesis.draws import Range, uniform
from dvos.synthesis.scene import Lens, Lighting, Shade

__all__ = ["Light", "Photography", "Shadows", "light_grid"]

_CELL = 32  # px between the corners of the grid of gains
_ONE = 4096


@dataclass(frozen=True)
class Shadows:
    """Ranges of the shadows; the fields are those of ``ShadowSettings``."""

    enabled: bool
    strength: Range
    offset: Range
    softness: Range

    def draw(self, rng: np.random.Generator) -> Shade | None:
        """Order of draws: strength, distance, direction, softness."""
        if not self.enabled:
            return None
        strength = uniform(rng, self.strength)
        distance = uniform(rng, self.offset)
        heading = uniform(rng, (0, 2 * math.pi))
        offset = distance * np.array([math.sin(heading), math.cos(heading)])
        return Shade(strength, offset, uniform(rng, self.softness))


@dataclass(frozen=True)
class Light:
    """Ranges of the drifting light; the fields are those of ``LightSettings``."""

    enabled: bool
    drift: Range
    clouds: Range
    cloud_size: Range
    tint: Range
    period: Range

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Lighting | None:
        """Order of draws: drift, its phase, period, clouds, their waves, tint."""
        if not self.enabled:
            return None
        drift = uniform(rng, self.drift)
        phase = uniform(rng, (0, 2 * math.pi))
        period = uniform(rng, self.period)
        clouds = uniform(rng, self.clouds)
        length = uniform(rng, self.cloud_size) * max(size) * (0.6 + 0.8 * rng.random(3))
        heading = 2 * math.pi * rng.random(3)
        wave = np.stack([np.sin(heading), np.cos(heading)], 1) * (2 * math.pi / length)[:, None]
        speed = 2 * math.pi / period * (0.5 + rng.random(3))
        phases = 2 * math.pi * rng.random(3)
        strength = uniform(rng, self.tint)
        tint = 1 + strength * (2 * rng.random(3) - 1)
        return Lighting(drift, phase, 2 * math.pi / period, clouds, wave, speed, phases, tint)


def light_grid(light: Lighting, size: tuple[int, int], frame: int) -> NDArray[np.int64]:
    """Gains (rows, columns, 3) on the corners of 32 px cells; 4096 = one."""
    rows, columns = size[0] // _CELL + 2, size[1] // _CELL + 2
    y = np.arange(rows)[:, None] * float(_CELL)
    x = np.arange(columns)[None, :] * float(_CELL)
    total = np.zeros((rows, columns))
    for (wy, wx), speed, phase in zip(light.wave, light.speed, light.phase, strict=True):
        total += np.sin(wy * y + wx * x + speed * frame + phase)
    cover = np.clip(total / 3 + 0.25, 0, 1)
    whole = 1 + light.drift * math.sin(light.rate * frame + light.drift_phase)
    gain = whole * (1 - light.clouds * cover)
    return np.rint(_ONE * gain[..., None] * light.tint).astype(np.int64)


@dataclass(frozen=True)
class Photography:
    """Ranges of the lens and sensor, from four settings."""

    shutter: Range
    defocus_probability: float
    sigma: Range
    read: Range
    shot: Range
    compression_probability: float
    quality: tuple[int, int]

    def draw(self, rng: np.random.Generator) -> Lens:
        """Order of draws: shutter, defocus, sigma, noise, its key, compression, quality."""
        shutter = uniform(rng, self.shutter)
        defocused = float(rng.random()) < self.defocus_probability
        sigma = uniform(rng, self.sigma)
        read, shot = uniform(rng, self.read), uniform(rng, self.shot)
        key = int(rng.integers(0, 2**63))
        compressed = float(rng.random()) < self.compression_probability
        quality = round(uniform(rng, self.quality))
        return Lens(
            shutter, sigma if defocused else 0.0, read, shot, key, quality if compressed else 0
        )
