"""Light, shadows and the lens: what a clip has of them, and how it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dvos.config.scene import LightSettings, SceneSettings, ShadowSettings
from dvos.synthesis import Floats, Ints, Size
from dvos.synthesis.draws import uniform

_CELL = 32  # px between the corners of the grid of gains
_ONE = 4096


@dataclass(frozen=True)
class Shade:
    """Shadows of a clip: darkening 0..1, offset (2,) in sprite lengths, softness in cells."""

    strength: float
    offset: Floats
    softness: float


@dataclass(frozen=True)
class Lighting:
    """Drifting light of a clip."""

    drift: float  # Amplitude of the whole frame's brightness
    drift_phase: float  # Radians
    rate: float  # Radians per frame
    clouds: float  # Most darkening by clouds
    wave: Floats  # (K, 2) wave vectors of the clouds, radians per px
    speed: Floats  # (K,) radians per frame
    phase: Floats  # (K,)
    tint: Floats  # (3,) gain of each channel


@dataclass(frozen=True)
class Lens:
    """How the frames were taken."""

    shutter: float  # Open share of the time between frames; 0 = no motion blur
    defocus: float  # Gaussian sigma, px; 0 = sharp
    read_noise: float  # Grey levels
    shot_noise: float  # Grey levels at full brightness
    noise_key: int  # Key of the noise, 64 bit
    quality: int  # JPEG quality; 0 = not compressed


def draw_shade(settings: ShadowSettings, rng: Generator) -> Shade | None:
    """Draw a clip's shadows; None if switched off."""
    if not settings.enabled:
        return None
    strength = uniform(rng, settings.strength)
    distance = uniform(rng, settings.offset)
    heading = uniform(rng, (0, 2 * math.pi))
    offset = distance * np.array([math.sin(heading), math.cos(heading)])
    return Shade(strength, offset, uniform(rng, settings.softness))


def draw_lighting(settings: LightSettings, rng: Generator, size: Size) -> Lighting | None:
    """Draw a clip's drifting light over frames of ``size``; None if switched off."""
    if not settings.enabled:
        return None
    drift = uniform(rng, settings.drift)
    phase = uniform(rng, (0, 2 * math.pi))
    period = uniform(rng, settings.period)
    clouds = uniform(rng, settings.clouds)
    length = uniform(rng, settings.cloud_size) * max(size) * (0.6 + 0.8 * rng.random(3))
    heading = 2 * math.pi * rng.random(3)
    wave = np.stack([np.sin(heading), np.cos(heading)], 1) * (2 * math.pi / length)[:, None]
    speed = 2 * math.pi / period * (0.5 + rng.random(3))
    phases = 2 * math.pi * rng.random(3)
    strength = uniform(rng, settings.tint)
    tint = 1 + strength * (2 * rng.random(3) - 1)
    return Lighting(drift, phase, 2 * math.pi / period, clouds, wave, speed, phases, tint)


def light_grid(light: Lighting, size: Size, frame: int) -> Ints:
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


def draw_lens(settings: SceneSettings, rng: Generator) -> Lens:
    """Draw a clip's lens; effects that are switched off are drawn as nothing."""
    blur, defocus = settings.motion_blur, settings.defocus
    noise, compression = settings.noise, settings.compression
    shutter = uniform(rng, blur.shutter) * blur.enabled
    defocused = float(rng.random()) < defocus.probability * defocus.enabled
    sigma = uniform(rng, defocus.sigma) * defocused
    read = uniform(rng, noise.read) * noise.enabled
    shot = uniform(rng, noise.shot) * noise.enabled
    key = int(rng.integers(0, 2**63))
    compressed = float(rng.random()) < compression.probability * compression.enabled
    return Lens(
        shutter, sigma, read, shot, key, round(uniform(rng, compression.quality)) * compressed
    )
