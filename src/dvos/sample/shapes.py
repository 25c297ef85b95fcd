"""Where every part of a stand is at one moment: wind, stalks, leaves, heads, awns.

Directions are unit vectors (..., 3), places metres.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvos.sample import Doubles, Floats, Ints
from dvos.sample.raster import Ellipsoids, Ribbons
from dvos.sample.stand import Blades, Clods, Stand, Tillers

_STALK_STATIONS = 7
_BLADE_STATIONS = 9
_AWN_POINTS = 4


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves: a smooth function of place and time in closed form."""

    vectors: NDArray[np.float64]  # float64 (N, 2), wave vectors, radians per metre
    speeds: NDArray[np.float64]  # float64 (N,), radians per second
    phases: NDArray[np.float64]  # float64 (N,), radians
    weights: NDArray[np.float64]  # float64 (N,), amplitudes; their squares add up to 2

    @classmethod
    def along(
        cls, rng: Generator, *, heading: float, length_m: float, speed: float, count: int
    ) -> Self:
        """Waves that run about one way, ``heading``, with means of their length and speed."""
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


@dataclass(frozen=True)
class Wind:
    """Gusts that run over the field, and the plants' own swing in them."""

    gusts: Waves  # Strength of the wind at a place and time
    heading: Doubles  # Unit vector (2,) the wind blows to
    strength: float  # one deviation of the gusts' lean at a stalk's top, as a share of its height


def make_wind(rng: Generator, *, strength: float) -> Wind:
    """A breeze of random direction whose gusts are about a metre long."""
    heading = float(rng.uniform(0, 2 * np.pi))
    gusts = Waves.along(rng, heading=heading, length_m=1.4, speed=0.95, count=5)
    return Wind(gusts, np.array([np.cos(heading), np.sin(heading)]), strength)


def bend(tillers: Tillers, wind: Wind, time_s: float) -> Doubles:
    """How far each stalk's top is from over its foot, as a share of its height: (N, 2)."""
    gust = wind.gusts(tillers.foot, time_s)
    angle = 2 * np.pi * tillers.frequency * time_s + tillers.phase
    swing = np.stack([np.sin(angle), np.cos(0.83 * angle)], axis=1)
    push = wind.strength * (0.6 + gust) * tillers.give
    # A stalk trembles about its lean, the more the harder the gust blows.
    tremble = 0.22 * wind.strength * (0.6 + 0.4 * np.abs(gust)) * tillers.give
    return np.asarray(tillers.lean + push[:, None] * wind.heading + tremble[:, None] * swing)


def _unit(vectors: Doubles) -> Doubles:
    length = np.sqrt(np.einsum("...k,...k->...", vectors, vectors))
    return np.asarray(vectors / np.maximum(length, 1e-9)[..., None])


def _along_stalk(
    tillers: Tillers, bent: Doubles, which: Ints, at: Doubles
) -> tuple[Doubles, Doubles]:
    """Places and tangents at shares ``at`` (0 foot .. 1 top) of stalks ``which``."""
    height = tillers.height[which]
    lean = bent[which]
    drop = 0.45 * (lean**2).sum(axis=-1)
    place = np.empty((*at.shape, 3))
    place[..., :2] = tillers.foot[which] + (height * at**1.8)[..., None] * lean
    place[..., 2] = height * at * (1.0 - drop * at)
    tangent = np.empty_like(place)
    tangent[..., :2] = (1.8 * at**0.8)[..., None] * lean
    tangent[..., 2] = 1.0 - 2.0 * drop * at
    return place, _unit(tangent)


def stalk_ribbons(tillers: Tillers, bent: Doubles, which: Ints, eye: Doubles | None) -> Ribbons:
    """Stalks as ribbons turned to ``eye`` (3,), or edge to edge for the sun if it is None."""
    at = np.tile(np.linspace(0.0, 1.0, _STALK_STATIONS), (len(which), 1))
    place, tangent = _along_stalk(tillers, bent, which[:, None], at)
    towards = np.array([0.3, -1.0, 0.2]) if eye is None else eye - place
    side = _unit(np.cross(tangent, towards))
    normal = np.cross(side, tangent)
    half = 0.5 * tillers.width[which][:, None, None] * (1.1 - 0.35 * at)[..., None]
    edges = np.stack([place - half * side, place + half * side], axis=2)
    return Ribbons(edges, normal, side, tillers.style[which], tillers.height[which])


def blade_ribbons(
    blades: Blades, tillers: Tillers, bent: Doubles, which: Ints, time_s: float
) -> Ribbons:
    """Leaves, weeds' leaves and straws ``which``, arched, twisted and fluttering."""
    fixed = blades.tiller[which]
    foot, _ = _along_stalk(tillers, bent, fixed, blades.at[which])
    v = np.linspace(0.0, 1.0, _BLADE_STATIONS)
    push = bent[fixed] - tillers.lean[fixed]
    flutter = np.hypot(push[:, 0], push[:, 1]) * np.sin(7.5 * time_s + blades.phase[which])
    polar = (blades.rise[which] + 0.5 * flutter)[:, None] + blades.droop[which][:, None] * v**1.4
    azimuth = blades.azimuth[which][:, None] + (blades.turn[which] + 1.6 * flutter)[:, None] * v
    across = np.sin(polar)
    tangent = np.stack([across * np.cos(azimuth), across * np.sin(azimuth), np.cos(polar)], axis=-1)
    step = (blades.length[which] / (_BLADE_STATIONS - 1))[:, None, None]
    place = np.cumsum(tangent * step, axis=1) - tangent[:, :1] * step + foot[:, None]
    place[..., :2] += (0.9 * push * blades.length[which][:, None])[:, None] * (v**1.5)[:, None]
    np.maximum(place[..., 2], 0.003, out=place[..., 2])
    flat = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)], axis=-1)
    turn = (blades.twist[which][:, None] * v)[..., None]
    side = np.cos(turn) * flat + np.sin(turn) * np.cross(tangent, flat)
    strap = np.minimum(1.0, 0.55 + 5.0 * v) * np.maximum(0.0, 1.0 - v**2.4) ** 0.75
    oval = 0.08 + 0.92 * np.sin(np.pi * v**0.75) ** 0.9
    oval[-1] = 0.0
    profile = np.where(blades.broad[which][:, None], oval, strap)
    half = (0.5 * blades.width[which][:, None] * profile)[..., None]
    edges = np.stack([place - half * side, place + half * side], axis=2)
    return Ribbons(edges, np.cross(tangent, side), side, blades.style[which], blades.length[which])


def clod_ellipsoids(clods: Clods, which: Ints) -> Ellipsoids:
    """Clods and pebbles ``which``."""
    mottled = np.stack([np.ones(len(which)), 64.0 + 37.0 * which], axis=1)
    styles = np.concatenate([clods.colour[which], mottled], axis=1).astype(np.float32)
    none = np.zeros(len(which), np.uint16)
    return Ellipsoids(clods.centre[which], clods.axes[which], styles, none)


def head_shapes(
    stand: Stand, bent: Doubles, which: Ints, time_s: float
) -> tuple[Ellipsoids, Doubles]:
    """Heads ``which``: grains in two rows of three florets, and their awns (A, P, 3).

    Awns come head after head, as many of each, those of a node side by side.
    """
    heads, recipe, nodes = stand.heads, stand.recipe, stand.recipe.nodes
    place, along, row, face = _rachis(stand, bent, which)
    share = np.linspace(0.0, 1.0, nodes)
    noise = heads.jitter[which]
    # Girth swells above the foot and narrows to the tip.
    swell = 0.62 + 0.38 * np.sin(np.pi * np.clip(share * 0.9 + 0.14, 0, 1))
    girth = heads.girth[which][:, None] * (swell * (1 - recipe.taper * share))
    sign = np.where(np.arange(nodes) % 2 == 0, 1.0, -1.0)
    outward = (row * sign[None, :, None])[:, :, None]
    sideways = face[:, :, None]
    floret = np.array([-1.0, 0.0, 1.0])[None, None, :, None]
    splay = recipe.splay - 0.22 * share[None, :, None, None] + 0.10 * noise[..., 0:1]
    direction = _unit(
        np.cos(splay) * along[:, :, None]
        + np.sin(splay) * outward
        + (0.30 * floret + 0.10 * noise[..., 1:2]) * sideways
    )
    wide = girth[..., None, None]
    long = wide * 1.26 * recipe.floret_length * np.array([0.86, 1.0, 0.86])[:, None]
    half_long = 0.5 * long * (1.0 + 0.08 * noise[..., 2:3])
    centre = (
        place[:, :, None]
        + 0.44 * wide * outward
        + 0.44 * wide * floret * sideways
        + (1.0 - 0.35 * np.abs(floret)) * (0.10 * wide) * outward
        + direction * half_long * 0.55
    )
    lean = (sideways * direction).sum(axis=-1, keepdims=True)
    first = _unit(sideways - direction * lean)
    thick = wide * 0.30 * recipe.floret
    second = np.cross(direction, first) * thick * 0.82
    axes = np.stack([direction * half_long, first * thick, second], axis=-1)
    styles = np.zeros((*noise.shape[:3], 5), np.float32)
    styles[..., :3] = heads.colour[which][:, None, None] * (1.0 + recipe.patchy * noise[..., 3:4])
    styles[..., 3] = recipe.mottle
    styles[..., 4] = 64.0 + 97.0 * (noise[..., 0] + 4.0)
    grains = _owned(heads.number[which], centre, axes, styles)
    # What is seen between grains: the shaded inside of the head.
    every = slice(1, nodes - 1, 3)
    step = (heads.length[which] / (nodes - 1))[:, None, None]
    size = girth[:, every][..., None]
    inner = along[:, every] * step * 2.2, row[:, every] * size * 0.45, face[:, every] * size * 0.45
    styles = np.zeros((*inner[0].shape[:2], 5), np.float32)
    styles[..., :3] = 0.45 * heads.colour[which][:, None]
    styles[..., 3:] = (1.0, 64.0)
    cores = _owned(heads.number[which], place[:, every], np.stack(inner, axis=-1), styles)
    # Awns of a node: from the middle floret's tip, then the others', spreading and trembling.
    borne, turned, other = np.array([(1, 2, 0), (0, 1, 2), (2, 0, 1)][: recipe.awns_per_node]).T
    middle = direction[:, :, borne]
    tips = centre[:, :, borne] + middle * half_long[:, :, borne]
    aim = _unit(0.55 * middle + 0.45 * along[:, :, None] + 0.13 * noise[:, :, borne, :3])
    tremble = 0.03 * np.sin(9.0 * time_s + 3.0 * noise[:, :, other, 3])
    curve = _unit(noise[:, :, turned, :3] + 0.01) * (0.12 + tremble)[..., None]
    t = np.linspace(0.0, 1.0, _AWN_POINTS)[:, None]
    reach = heads.awn[which][:, None, None] * (1.0 + 0.18 * noise[:, :, other, 2])
    ways = t * aim[..., None, :] + t**2 * curve[..., None, :]
    awns = tips[..., None, :] + reach[..., None, None] * ways
    columns: Any = zip(grains, cores, strict=True)
    return Ellipsoids(*map(np.concatenate, columns)), awns.reshape(-1, _AWN_POINTS, 3)


def _rachis(stand: Stand, bent: Doubles, which: Ints) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """The bent axis of K heads at their nodes: place, and unit along, row, face (K, N, 3)."""
    heads = stand.heads
    nodes = stand.recipe.nodes
    top, tangent = _along_stalk(stand.tillers, bent, heads.tiller[which], np.ones(len(which)))
    share = np.linspace(0.0, 1.0, nodes)
    azimuth = heads.nod_azimuth[which]
    sideways = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(len(which))], axis=1)
    # The neck below the head takes part of the nod, the head the rest.
    amount = heads.nod[which][:, None] * (0.45 + 0.55 * share)
    straight = np.cos(amount)[..., None] * tangent[:, None]
    along = _unit(straight + np.sin(amount)[..., None] * sideways[:, None])
    step = (heads.length[which] / (nodes - 1))[:, None, None]
    place = top[:, None] + np.cumsum(along * step, axis=1) - along[:, :1] * step
    across = _unit(np.cross(along, np.array([0.31, 0.17, 1.0])))
    roll = heads.roll[which][:, None, None]
    row = np.cos(roll) * across + np.sin(roll) * np.cross(along, across)
    return place, along, row, np.cross(along, row)


def _owned(number: Ints, centres: Doubles, axes: Doubles, styles: Floats) -> Ellipsoids:
    """Ellipsoids (K, ..., columns) of K heads in one row."""
    owners = np.repeat(number.astype(np.uint16), styles[0, ..., 0].size if len(styles) else 0)
    return Ellipsoids(centres.reshape(-1, 3), axes.reshape(-1, 3, 3), styles.reshape(-1, 5), owners)
