"""How things move: the camera, wind on stalks, slow bending, published steps."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dvos.config.scene import CameraSettings, ElasticSettings, WalkSettings, WindSettings
from dvos.synthesis import Floats, Ints, Size, log_uniform, signs, uniform, whole

_LENGTHWISE = 0.3  # of the sway along the stalk, what foreshortening lets show
_MOST_TURN = 0.6  # radians a stalk leans at most


def rotations(angle: Floats) -> Floats:
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
    """

    centre: Floats  # (2,) centre of the frame, y and x
    travel: Floats  # (T, 2) px
    zoom: Floats  # (T,) factor
    roll: Floats  # (T,) radians
    spread: float  # Half range of the sprites' ``depth`` about 1 (parallax)
    plate_follows: float  # Share of the motion that the background makes

    def view(self, points: Floats, depth: Floats, frames: Ints) -> Floats:
        """Where ``points`` (F, N, 2) or (1, N, 2) of the canopy lie in ``frames`` (F,): (F, N, 2).

        ``depth`` (N,) is the share of the travel that each makes; 1 = as the camera's.
        """
        turn = rotations(self.roll[frames]) * self.zoom[frames, None, None]
        moved = (points - self.centre) @ turn.transpose(0, 2, 1)
        return self.centre + moved + depth[None, :, None] * self.travel[frames, None]

    def unview(self, points: Floats, depth: Floats, frame: int) -> Floats:
        """Points on the canopy (N, 2) that lie in ``frame`` at ``points`` (N, 2)."""
        turn = rotations(self.roll[frame]) / self.zoom[frame]
        back = points - self.centre - depth[:, None] * self.travel[frame]
        return np.asarray(self.centre + back @ turn)  # R^-1 v as a row vector is v R

    def background_maps(self) -> Floats:
        """Maps (T, 2, 3) from frame (y, x, 1) to the background's own plane."""
        share = self.plate_follows
        zoom = 1 + (self.zoom - 1) * share
        turn = rotations(-self.roll * share) / zoom[:, None, None]
        shift = self.centre - np.einsum("tij,tj->ti", turn, self.centre + share * self.travel)
        return np.concatenate([turn, shift[:, :, None]], 2)

    def region(self, size: Size, margin: float) -> Floats:
        """Box (4,), y0, y1, x0, x1, of the canopy that holds all that is ever seen."""
        height, width = size
        corners = np.array([[0, 0], [0, width], [height, 0], [height, width]], np.float64)
        # Of a long clip about a hundred: between them smooth motion strays by less than the margin.
        count = len(self.travel)
        frames = sorted({*range(0, count, max(1, count // 100)), count - 1})
        turn = rotations(self.roll[frames]) / self.zoom[frames, None, None]
        depth = np.array([1 - self.spread, 1 + self.spread])
        shift = depth[:, None, None] * self.travel[frames]  # 2, F, 2
        back = (corners - self.centre - shift[:, :, None]) @ turn
        points = (self.centre + back).reshape(-1, 2)
        return np.stack([points.min(0) - margin, points.max(0) + margin], 1).ravel()


def draw_camera(settings: CameraSettings, rng: Generator, frames: int, size: Size) -> CameraPath:
    """Draw one camera's path over frames of ``size``; at rest if switched off."""
    centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    if not settings.enabled:
        still = np.zeros((frames, 2))
        return CameraPath(centre, still, np.ones(frames), np.zeros(frames), 0.0, 1.0)
    time = np.arange(frames, dtype=np.float64)
    travel = np.cumsum(_published_moves(settings, rng, frames, 1)[:, 0], 0)
    speed = uniform(rng, settings.drift)
    heading = uniform(rng, (0, 2 * math.pi))
    course = heading + math.radians(uniform(rng, settings.turn)) * float(signs(rng, 1)[0]) * time
    drift = speed * np.stack([np.sin(course), np.cos(course)], 1)
    drift[0] = 0
    amplitude = uniform(rng, settings.shake)
    rate = 0.04 + 0.22 * rng.random((2, 2))  # waves per frame, per axis
    waves = np.sin(2 * math.pi * time[:, None, None] * rate + 2 * math.pi * rng.random((2, 2)))
    shake = amplitude * 0.5 * (waves - waves[:1]).sum(1)
    zoom = np.exp(_swing(rng, time, uniform(rng, settings.zoom)))
    roll = _swing(rng, time, math.radians(uniform(rng, settings.roll)))
    spread = uniform(rng, settings.parallax)
    follows = uniform(rng, settings.plate_follows)
    return CameraPath(centre, travel + np.cumsum(drift, 0) + shake, zoom, roll, spread, follows)


def _swing(rng: Generator, time: Floats, rate: float) -> Floats:
    """A slow swing that starts at 0 and changes by at most ``rate`` a frame."""
    period = uniform(rng, (60, 160))
    wave = np.sin(2 * math.pi * time / period + uniform(rng, (0, 2 * math.pi)))
    return np.asarray(rate * period / (2 * math.pi) * (wave - wave[0]))


@dataclass(frozen=True)
class WindField:
    """One wind over the canopy: waves that travel, and gusts that cross."""

    sway: float  # Lengths a sprite sways at full wind
    stalk: float  # Stalk length in sprite lengths
    direction: Floats  # (2,) unit vector (y, x) the wind blows along
    wave: Floats  # (K, 2) wave vectors, radians per px
    rate: Floats  # (K,) radians per frame
    phase: Floats  # (K,)
    weight: Floats  # (K,) amplitudes, their squares adding to 1
    gusts: Floats  # (G, 4) start of crossing in frames, px per frame, half width in px, strength
    flutter: float  # Sprites' own share of the sway

    def strength(self, points: Floats, time: Floats) -> Floats:
        """Wind (T, N) at points (N, 2) and times (T,); about -1 to 1, gusts above."""
        phases = points @ self.wave.T
        total = np.sin(phases[None] - time[:, None, None] * self.rate + self.phase) @ self.weight
        along = points @ self.direction
        for start, speed, width, strength in self.gusts:
            front = (along[None] - speed * (time[:, None] - start)) / width
            total += strength * np.exp(-front * front)
        return np.asarray(total)

    def sway_sprites(
        self,
        points: Floats,  # (N, 2) places at rest
        angle: Floats,  # (N,) turn at rest, radians; up the stalk is -y turned by it
        length: Floats,  # (N,) px
        own: Floats,  # (N, 3): factor on the sway, own rate (radians per frame), own phase
        time: Floats,  # (T,) frames
    ) -> tuple[Floats, Floats]:
        """Shift (T, N, 2) in px and lean (T, N) of heads on stalks whose feet stand still."""
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


def draw_wind(
    settings: WindSettings, rng: Generator, frames: int, length: float, extent: float
) -> WindField | None:
    """Draw one wind, or None if it is switched off.

    ``length`` is that of a middling sprite, ``extent`` the longest way across the scene, px.
    """
    if not settings.enabled:
        return None
    sway = uniform(rng, settings.sway)
    stalk = uniform(rng, settings.stalk)
    heading = uniform(rng, (0, 2 * math.pi))
    wavelength = log_uniform(rng, settings.wavelength) * length
    period = log_uniform(rng, settings.period)
    lengths = wavelength * np.array([1.0, 0.55, 1.7])
    periods = period * np.array([1.0, 0.7, 1.4]) * (0.85 + 0.3 * rng.random(3))
    courses = heading + 0.9 * (rng.random(3) - 0.5)
    wave = np.stack([np.sin(courses), np.cos(courses)], 1) * (2 * math.pi / lengths)[:, None]
    phase = 2 * math.pi * rng.random(3)
    weight = np.array([0.8, 0.45, 0.4])
    flutter = uniform(rng, settings.flutter)
    number = min(int(uniform(rng, settings.gusts) * frames / 100 + rng.random()), 8)
    speed = wavelength / period * (1.0 + rng.random(number))
    crossing = (extent + wavelength) / speed
    start = rng.random(number) * (frames + crossing) - crossing
    width = wavelength * (0.15 + 0.25 * rng.random(number))
    strength = uniform(rng, settings.gust_strength, number)
    direction = np.array([math.sin(heading), math.cos(heading)])
    rate, weight = 2 * math.pi / periods, weight / np.linalg.norm(weight)
    gusts = np.stack([start, speed, width, strength], 1)
    return WindField(sway, stalk, direction, wave, rate, phase, weight, gusts, flutter)


def draw_own_sway(settings: WindSettings, rng: Generator, count: int) -> Floats:
    """Each sprite's factor on the sway, own rate and phase: (N, 3)."""
    factor = log_uniform(rng, settings.variation, count)
    rate = 2 * math.pi / log_uniform(rng, settings.period, count)
    return np.stack([factor, rate, 2 * math.pi * rng.random(count)], 1)


@dataclass(frozen=True)
class Bending:
    """Slow bending of N sprites, continuous in time."""

    nodes: Floats  # (N, 3, 3, 2) amplitude at nodes over the cutout, shares of its longer side
    phase: Floats  # (N, 3, 3, 2)
    shear: Floats  # (N, 2, 2) amplitude of an affine change
    shear_phase: Floats  # (N,)
    rate: Floats  # (N,) radians per frame

    def grids(self, time: Floats) -> Floats:
        """Displacements (T, N, 3, 3, 2) in shares of the longer side."""
        angle = time[:, None] * self.rate
        local = self.nodes * np.sin(angle[..., None, None, None] + self.phase)
        ends = np.array([-1.0, 0.0, 1.0])
        nodes = np.stack(np.meshgrid(ends, ends, indexing="ij"), -1)
        affine = np.einsum("nij,abj->nabi", self.shear, nodes)
        return np.asarray(local + affine * np.sin(angle + self.shear_phase)[..., None, None, None])


def draw_bending(settings: ElasticSettings, rng: Generator, count: int) -> Bending:
    """Draw the bending of ``count`` sprites; those that do not bend have zeros."""
    bends = (rng.random(count) < settings.probability) & settings.enabled
    amplitude = uniform(rng, settings.amplitude, count) * bends
    nodes = amplitude[:, None, None, None] * (2 * rng.random((count, 3, 3, 2)) - 1)
    phase = 2 * math.pi * rng.random((count, 3, 3, 2))
    shear = uniform(rng, settings.shear, count) * bends
    matrix = shear[:, None, None] * (2 * rng.random((count, 2, 2)) - 1) / 2
    shear_phase = 2 * math.pi * rng.random(count)
    rate = 2 * math.pi / log_uniform(rng, settings.period, count)
    return Bending(nodes, phase, matrix, shear_phase, rate)


def draw_steps(
    settings: WalkSettings, rng: Generator, frames: int, count: int
) -> tuple[Floats, Floats]:
    """Draw the published steps of ``count`` sprites; all zero if switched off.

    Moves (T, N, 2) in whole px, frame 0 at rest, and radians turned since then (T, N).
    """
    if not settings.enabled:
        return np.zeros((frames, count, 2)), np.zeros((frames, count))
    moves = _published_moves(settings, rng, frames, count)
    turns = whole(rng, settings.turn, (frames, count)) * signs(rng, count)
    turns[0] = 0
    return moves, np.radians(np.cumsum(turns, 0))


def _published_moves(
    settings: CameraSettings | WalkSettings, rng: Generator, frames: int, count: int
) -> Floats:
    """Whole px (T, N, 2) a frame, on both axes one way until they turn back; 0 in frame 0."""
    direction = signs(rng, (count, 2))
    back = np.where(rng.random((frames, count)) < settings.change_direction, -1.0, 1.0)
    moves = whole(rng, settings.step, (frames, count, 2)) * direction
    moves *= np.cumprod(back, 0)[..., None]
    moves[0] = 0
    return moves
