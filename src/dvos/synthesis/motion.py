"""How sprites move by themselves: wind on stalks, slow bending, published steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.config.scene import ElasticSettings, WalkSettings, WindSettings
from dvos.synthesis.draws import log_uniform, log_uniforms, signs, uniform, uniforms, whole

_LENGTHWISE = 0.3  # of the sway along the stalk, what foreshortening lets show
_MOST_TURN = 0.6  # radians a stalk leans at most


@dataclass(frozen=True)
class WindField:
    """One wind over the canopy: waves that travel, and gusts that cross.

    Attributes:
        sway: Lengths a sprite sways at full wind.
        stalk: Stalk length in sprite lengths.
        direction: (2,) unit vector (y, x) the wind blows along.
        wave: (K, 2) wave vectors, radians per px.
        rate: (K,) radians per frame.
        phase: (K,).
        weight: (K,) amplitudes, their squares adding to 1.
        gusts: (G, 4) start of crossing in frames, px per frame, half width in
            px, strength.
        flutter: Sprites' own share of the sway.
    """

    sway: float
    stalk: float
    direction: NDArray[np.float64]
    wave: NDArray[np.float64]
    rate: NDArray[np.float64]
    phase: NDArray[np.float64]
    weight: NDArray[np.float64]
    gusts: NDArray[np.float64]
    flutter: float

    def strength(
        self, points: NDArray[np.float64], time: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Wind (T, N) at points (N, 2) and times (T,); about -1 to 1, gusts above."""
        phases = points @ self.wave.T
        angles = phases[None] - time[:, None, None] * self.rate + self.phase
        total = np.sin(angles) @ self.weight
        along = points @ self.direction
        for start, speed, width, strength in self.gusts:
            front = (along[None] - speed * (time[:, None] - start)) / width
            total += strength * np.exp(-front * front)
        return np.asarray(total)

    def sway_sprites(
        self,
        points: NDArray[np.float64],
        angle: NDArray[np.float64],
        length: NDArray[np.float64],
        own: NDArray[np.float64],
        time: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Move sprites as heads on stalks whose feet stand still.

        Args:
            points: (N, 2) places at rest.
            angle: (N,) turn at rest, radians; up the stalk is -y turned by it.
            length: (N,) px.
            own: (N, 3): factor on the sway, own rate (radians per frame), own phase.
            time: (T,) frames.

        Returns:
            Shift (T, N, 2) in px and lean (T, N) in radians.
        """
        wind = self.strength(points, time)
        flutter = np.sin(time[:, None] * own[:, 1] + own[:, 2])
        share = self.flutter
        push = (self.sway * length * own[:, 0]) * ((1 - share) * wind + share * flutter)
        up = np.stack([-np.cos(angle), -np.sin(angle)], 1)
        across = np.stack([np.sin(angle), -np.cos(angle)], 1)
        stalk = self.stalk * length
        lean = np.clip(push * (across @ self.direction) / stalk, -_MOST_TURN, _MOST_TURN)
        sideways = (stalk * np.sin(lean))[..., None] * across
        # The lean lowers the head a little; sway along the stalk shows less.
        lengthwise = _LENGTHWISE * push * (up @ self.direction) - stalk * (1 - np.cos(lean))
        return sideways + lengthwise[..., None] * up, lean


@dataclass(frozen=True)
class Wind:
    """Draws winds."""

    settings: WindSettings

    def draw(
        self, rng: np.random.Generator, frames: int, length: float, extent: float
    ) -> WindField | None:
        """Draw one wind, or None if it is switched off.

        Order of draws: sway, stalk, direction, length and period and spread of
        the waves, their phases, flutter, number of gusts, the gusts.

        Args:
            rng: The clip's stream.
            frames: Length of the clip.
            length: Length of a middling sprite, px.
            extent: Longest way across the scene, px.
        """
        if not self.settings.enabled:
            return None
        sway = uniform(rng, self.settings.sway)
        stalk = uniform(rng, self.settings.stalk)
        heading = uniform(rng, (0, 2 * math.pi))
        wavelength = log_uniform(rng, self.settings.wavelength) * length
        period = log_uniform(rng, self.settings.period)
        lengths = wavelength * np.array([1.0, 0.55, 1.7])
        periods = period * np.array([1.0, 0.7, 1.4]) * (0.85 + 0.3 * rng.random(3))
        courses = heading + 0.9 * (rng.random(3) - 0.5)
        wave = np.stack([np.sin(courses), np.cos(courses)], 1) * (2 * math.pi / lengths)[:, None]
        phase = 2 * math.pi * rng.random(3)
        weight = np.array([0.8, 0.45, 0.4])
        flutter = uniform(rng, self.settings.flutter)
        mean = uniform(rng, self.settings.gusts) * frames / 100
        number = min(int(mean + rng.random()), 8)
        speed = wavelength / period * (1.0 + rng.random(number))
        crossing = (extent + wavelength) / speed
        start = rng.random(number) * (frames + crossing) - crossing
        width = wavelength * (0.15 + 0.25 * rng.random(number))
        strength = uniforms(rng, self.settings.gust_strength, number)
        return WindField(
            sway,
            stalk,
            np.array([math.sin(heading), math.cos(heading)]),
            wave,
            2 * math.pi / periods,
            phase,
            weight / np.linalg.norm(weight),
            np.stack([start, speed, width, strength], 1),
            flutter,
        )

    def draw_own(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Each sprite's factor on the sway, own rate and phase: (N, 3)."""
        factor = log_uniforms(rng, self.settings.variation, count)
        rate = 2 * math.pi / log_uniforms(rng, self.settings.period, count)
        phase = 2 * math.pi * rng.random(count)
        return np.stack([factor, rate, phase], 1)


@dataclass(frozen=True)
class Bending:
    """Slow bending of N sprites, continuous in time.

    Attributes:
        nodes: (N, 3, 3, 2) amplitude at the nodes of a grid over the cutout,
            in shares of its longer side.
        phase: (N, 3, 3, 2).
        shear: (N, 2, 2) amplitude of an affine change.
        shear_phase: (N,).
        rate: (N,) radians per frame.
    """

    nodes: NDArray[np.float64]
    phase: NDArray[np.float64]
    shear: NDArray[np.float64]
    shear_phase: NDArray[np.float64]
    rate: NDArray[np.float64]

    def grids(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements (T, N, 3, 3, 2) in shares of the longer side."""
        angle = time[:, None] * self.rate
        local = self.nodes * np.sin(angle[..., None, None, None] + self.phase)
        ends = np.array([-1.0, 0.0, 1.0])
        nodes = np.stack(np.meshgrid(ends, ends, indexing="ij"), -1)
        affine = np.einsum("nij,abj->nabi", self.shear, nodes)
        swing = np.sin(angle + self.shear_phase)
        return np.asarray(local + affine * swing[..., None, None, None])


@dataclass(frozen=True)
class Elastic:
    """Draws bendings."""

    settings: ElasticSettings

    def draw(self, rng: np.random.Generator, count: int) -> Bending:
        """Draw the bending of ``count`` sprites; those that do not bend have zeros.

        Order of draws: who bends, amplitudes, nodes, phases, shears, their
        matrices and phases, periods.
        """
        bends = (rng.random(count) < self.settings.probability) & self.settings.enabled
        amplitude = uniforms(rng, self.settings.amplitude, count) * bends
        nodes = amplitude[:, None, None, None] * (2 * rng.random((count, 3, 3, 2)) - 1)
        phase = 2 * math.pi * rng.random((count, 3, 3, 2))
        shear = uniforms(rng, self.settings.shear, count) * bends
        matrix = shear[:, None, None] * (2 * rng.random((count, 2, 2)) - 1) / 2
        shear_phase = 2 * math.pi * rng.random(count)
        rate = 2 * math.pi / log_uniforms(rng, self.settings.period, count)
        return Bending(nodes, phase, matrix, shear_phase, rate)


@dataclass(frozen=True)
class Steps:
    """A sprite's own published steps.

    Attributes:
        moves: (T, N, 2) whole px, frame 0 at rest.
        angle: (T, N) radians turned since frame 0.
    """

    moves: NDArray[np.float64]
    angle: NDArray[np.float64]


@dataclass(frozen=True)
class Walk:
    """Draws the published steps."""

    settings: WalkSettings

    def draw(self, rng: np.random.Generator, frames: int, count: int) -> Steps:
        """Draw the steps of ``count`` sprites; all zero if switched off.

        Order of draws: directions, turns back, steps, sense of turning, turns.
        """
        if not self.settings.enabled:
            return Steps(np.zeros((frames, count, 2)), np.zeros((frames, count)))
        direction = signs(rng, (count, 2))
        back = np.where(rng.random((frames, count)) < self.settings.change_direction, -1.0, 1.0)
        moves = whole(rng, self.settings.step, (frames, count, 2)) * direction
        moves *= np.cumprod(back, 0)[..., None]
        moves[0] = 0
        turns = whole(rng, self.settings.turn, (frames, count)) * signs(rng, count)
        turns[0] = 0
        return Steps(moves, np.radians(np.cumsum(turns, 0)))
