"""What grows and lies in a field: plain arrays, drawn once from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvos.sample import Doubles, Floats, Ints
from dvos.sample.raster import STYLE_COLUMNS

Part = TypeVar("Part")

GREEN_BLADE = np.array([0.055, 0.125, 0.035])
PALE_BLADE = np.array([0.115, 0.185, 0.045])
YELLOW_BLADE = np.array([0.36, 0.31, 0.085])
DRY_BLADE = np.array([0.40, 0.275, 0.125])
STRAW = np.array([0.50, 0.39, 0.205])
WEED = np.array([0.085, 0.20, 0.035])
GREEN_HEAD = np.array([0.265, 0.365, 0.120])
RIPE_HEAD = np.array([0.640, 0.450, 0.170])


@dataclass(frozen=True)
class StandRecipe:
    """What one stand is like."""

    heads: bool = True  # Whether the tillers have headed; without, it is a bare field
    ripeness: float = 0.5  # 0 green to 1 ripe: colour of heads, blades and stalks
    tillers_per_m2: float = 95.0  # Stalks on a square metre
    height_m: float = 0.70  # Mean height of a stalk
    blades_per_tiller: float = 3.8  # Mean number of leaves on a stalk
    dryness: float = 0.3  # Share of withered leaf
    awn_m: float = 0.045  # Mean length of an awn
    weeds_per_m2: float = 5.0  # Rosettes of weeds
    straw_per_m2: float = 40.0  # Pieces of straw on the ground
    clods_per_m2: float = 320.0  # Clods and pebbles
    row_m: float = 0.19  # Distance between rows
    soil: tuple[float, float, float] = (0.125, 0.088, 0.060)  # Linear albedo of the ground
    headed: float = 0.90  # Share of the stalks that bear a head
    nodes: int = 18  # Places along a head that bear a spikelet, left and right in turn
    floret: float = 1.0  # Thickness of a floret against that of the head
    floret_length: float = 1.0  # Length of a floret against its thickness, 1.26 times twice that
    splay: float = 0.40  # How far florets stand off the head's axis at its foot, radians
    taper: float = 0.25  # Share of its girth that a head loses towards the tip
    patchy: float = 0.10  # How unlike in brightness florets of a head are, standard deviation
    mottle: float = 0.0  # How unlike the parts of a floret are, beyond 0.07
    awns_per_node: int = 1  # Awns of each spikelet, 1 to 3
    blade_m: tuple[float, float] = (0.13, 0.27)  # Shortest and longest leaf
    blade_width_m: tuple[float, float] = (0.0100, 0.0190)  # Of the narrowest and the widest
    top_blade: float = 0.86  # Where on a stalk the highest leaf is fixed, 0 foot to 1 top


def _mix(a: Doubles, b: Doubles, share: Doubles) -> Doubles:
    return np.asarray(a + (b - a) * share[..., None])


def _style(
    rng: Generator, base: Doubles, tip: Doubles, wither: Doubles, look: tuple[float, ...]
) -> Floats:
    """How ribbons are drawn; ``look``: roundness, veins, light let through, gloss."""
    offset, looks = rng.uniform(64, 4096, len(base)), np.tile(look, (len(base), 1))
    return np.column_stack([base, tip, wither, offset, looks]).astype(np.float32)


@dataclass(frozen=True)
class Tillers:
    """N stalks."""

    foot: Doubles  # (N, 2)
    height: Doubles
    lean: Doubles  # (N, 2)
    phase: Doubles  # this and the next two for the wind
    frequency: Doubles
    give: Doubles
    width: Doubles  # metres
    style: Floats  # (N, STYLE_COLUMNS), how the stalk is drawn

    @classmethod
    def drilled(cls, recipe: StandRecipe, rng: Generator, low: Doubles, high: Doubles) -> Self:
        """Stalks in rows along y, several to a plant."""
        feet = []
        spacing = 1.0 / (recipe.tillers_per_m2 * recipe.row_m)
        for row in np.arange(low[0], high[0], recipe.row_m):
            count = max(1, round((high[1] - low[1]) / spacing))
            along = rng.uniform(low[1], high[1], count)
            # Tillers of one plant stand close together.
            along = np.where(rng.random(count) < 0.45, np.roll(along, 1), along)
            foot = np.stack([np.full(count, row), along], axis=1)
            feet.append(foot + rng.normal(0, [0.022, 0.018], (count, 2)))
        foot = np.concatenate(feet)
        n = len(foot)
        ripe = np.clip(recipe.ripeness + rng.normal(0, 0.15, n), 0, 1)
        base = _mix(PALE_BLADE * 1.1, STRAW, 0.15 + 0.8 * ripe) * rng.uniform(0.8, 1.1, (n, 1))
        top = _mix(PALE_BLADE * 1.5, STRAW, ripe)
        height = recipe.height_m * np.clip(rng.normal(1.0, 0.085, n), 0.7, 1.25)
        style = _style(rng, base, top, np.full(n, 0.5), (0.98, 0.25, 0.0, 0.05))
        return cls(
            foot=foot,
            height=height,
            lean=rng.normal(0, 0.12, (n, 2)) + rng.normal(0, 0.06, (1, 2)),
            phase=rng.uniform(0, 2 * np.pi, n),
            frequency=rng.uniform(0.9, 1.5, n),
            give=rng.uniform(0.75, 1.3, n),
            width=rng.uniform(0.0034, 0.0048, n),
            style=style,
        )

    @classmethod
    def lying(
        cls, rng: Generator, low: Doubles, high: Doubles, n: int, heights: tuple[float, float]
    ) -> Self:
        """Feet of what grows or lies at the ground: not drawn, hardly moved."""
        return cls(
            foot=rng.uniform(low, high, (n, 2)),
            height=rng.uniform(*heights, n),
            lean=np.zeros((n, 2)),
            phase=np.zeros(n),
            frequency=np.ones(n),
            give=np.full(n, 0.25),
            width=np.zeros(n),
            style=np.zeros((n, STYLE_COLUMNS), np.float32),
        )


@dataclass(frozen=True)
class Blades:
    """L leaves, weeds' leaves and straws; angles in radians, lengths in metres."""

    tiller: Ints  # this and the next say where each is fixed
    at: Doubles  # 0 foot, 1 top
    azimuth: Doubles
    rise: Doubles  # from the vertical
    droop: Doubles  # added until the tip
    turn: Doubles  # of the azimuth until the tip
    twist: Doubles
    length: Doubles
    width: Doubles
    broad: NDArray[np.bool_]  # an oval rather than a strap
    phase: Doubles
    style: Floats

    @classmethod
    def of_crop(cls, recipe: StandRecipe, rng: Generator, tillers: int) -> Self:
        """Leaves of the first ``tillers`` stalks."""
        owner = np.repeat(np.arange(tillers), rng.poisson(recipe.blades_per_tiller, tillers))
        n = len(owner)
        low, high = 0.12, recipe.top_blade if recipe.heads else 1.0
        at = rng.uniform(low, high, n) ** (1.0 if recipe.heads else 0.7)
        # Leaves wither from the foot of the plant upwards.
        thirst = recipe.dryness + 0.45 * (0.55 - at) + rng.normal(0, 0.22, n)
        wither = np.clip(1.15 - 1.1 * thirst, -0.2, 1.3)
        fresh = _mix(GREEN_BLADE, PALE_BLADE, np.clip(rng.normal(0.32, 0.28, n), 0, 1))
        yellow = np.clip(rng.normal(0.04, 0.2, n) + 0.3 * (thirst > 0.6), 0, 1)
        fresh = _mix(fresh, YELLOW_BLADE, yellow)
        dead = _mix(DRY_BLADE, YELLOW_BLADE, rng.uniform(0, 0.6, n))
        dead *= rng.uniform(0.65, 1.15, (n, 1))
        fresh *= rng.uniform(0.8, 1.25, (n, 1))
        dry = wither < 0.2
        return cls(
            tiller=owner,
            at=at,
            azimuth=rng.uniform(0, 2 * np.pi, n),
            rise=np.where(dry, rng.uniform(0.6, 1.7, n), rng.uniform(0.25, 0.75, n)),
            droop=np.where(dry, rng.uniform(0.6, 1.6, n), rng.gamma(3.0, 0.42, n).clip(0.2, 2.4)),
            turn=rng.normal(0, 0.35, n),
            twist=rng.normal(0, 0.7, n) + dry * rng.normal(0, 1.6, n),
            length=rng.uniform(*recipe.blade_m, n),
            width=rng.uniform(*recipe.blade_width_m, n) * np.where(dry, 0.6, 1.0),
            broad=np.zeros(n, bool),
            phase=rng.uniform(0, 2 * np.pi, n),
            style=_style(rng, fresh, dead, wither, (0.45, 1.0, 0.42, 0.10)),
        )

    @classmethod
    def of_weeds(cls, rng: Generator, rosettes: Ints) -> Self:
        """Leaves of weeds at the feet ``rosettes``."""
        leaves = rng.integers(6, 12, len(rosettes))
        owner = np.repeat(rosettes, leaves)
        n = len(owner)
        scale = np.repeat(rng.uniform(0.5, 1.15, len(rosettes)), leaves)
        colour = _mix(WEED, PALE_BLADE, rng.uniform(0, 0.6, n)) * rng.uniform(0.8, 1.35, (n, 1))
        tip = np.tile(YELLOW_BLADE, (n, 1))
        return cls(
            tiller=owner,
            at=rng.uniform(0.1, 1.0, n),
            azimuth=rng.uniform(0, 2 * np.pi, n),
            rise=rng.uniform(0.5, 1.3, n),
            droop=rng.uniform(0.1, 0.8, n),
            turn=rng.normal(0, 0.3, n),
            twist=rng.normal(0, 0.25, n),
            length=rng.uniform(0.05, 0.11, n) * scale,
            width=rng.uniform(0.016, 0.030, n) * scale,
            broad=np.ones(n, bool),
            phase=rng.uniform(0, 2 * np.pi, n),
            style=_style(rng, colour, tip, rng.uniform(0.8, 1.4, n), (0.5, 1.2, 0.4, 0.06)),
        )

    @classmethod
    def of_straw(cls, rng: Generator, feet: Ints) -> Self:
        """One straw at each of ``feet``."""
        n = len(feet)
        colour = _mix(STRAW, DRY_BLADE, rng.uniform(0, 1, n)) * rng.uniform(0.55, 1.05, (n, 1))
        return cls(
            tiller=feet,
            at=np.ones(n),
            azimuth=rng.uniform(0, 2 * np.pi, n),
            rise=rng.uniform(1.45, 1.62, n),
            droop=rng.normal(0, 0.06, n),
            turn=rng.normal(0, 0.12, n),
            twist=rng.uniform(-0.3, 0.3, n),
            length=rng.gamma(4.0, 0.028, n).clip(0.03, 0.3),
            width=rng.uniform(0.0030, 0.0075, n),
            broad=np.zeros(n, bool),
            phase=np.zeros(n),
            style=_style(rng, colour, colour * 0.7, np.full(n, 1.2), (0.8, 0.7, 0.05, 0.05)),
        )


@dataclass(frozen=True)
class Heads:
    """K heads; lengths in metres."""

    number: Ints  # permanent, from 1
    tiller: Ints  # which each tops
    length: Doubles
    girth: Doubles
    nod: Doubles
    nod_azimuth: Doubles
    roll: Doubles
    awn: Doubles
    colour: Doubles  # (K, 3)
    jitter: Doubles  # (K, nodes, 3, 4), about -2..2: four irregularities of each of three florets

    @classmethod
    def on(cls, recipe: StandRecipe, rng: Generator, tillers: int) -> Self:
        """Heads on the first ``tillers`` stalks."""
        # About a tenth of the stalks have lost their head or never made one.
        tiller = np.flatnonzero(rng.random(tillers) < recipe.headed)
        n = len(tiller)
        ripe = np.clip(recipe.ripeness + rng.normal(0, 0.16, n), 0, 1)
        return cls(
            number=np.arange(1, n + 1),
            tiller=tiller,
            length=np.clip(rng.normal(0.098, 0.010, n), 0.072, 0.122),
            girth=np.clip(rng.normal(0.0140, 0.0011, n), 0.0112, 0.0170),
            nod=np.clip(rng.gamma(2.2, 0.28, n) + 0.35 * ripe, 0.05, 1.9),
            nod_azimuth=rng.normal(rng.uniform(0, 2 * np.pi), 1.1, n),
            roll=rng.uniform(0, np.pi, n),
            awn=recipe.awn_m * rng.uniform(0.7, 1.2, n),
            colour=_mix(GREEN_HEAD, RIPE_HEAD, ripe) * rng.uniform(0.85, 1.15, (n, 1)),
            jitter=rng.normal(0, 1, (n, recipe.nodes, 3, 4)).clip(-2, 2),
        )


@dataclass(frozen=True)
class Clods:
    """Clods and pebbles: centre (C, 3), half axes as columns (C, 3, 3), colour (C, 3)."""

    centre: Doubles
    axes: Doubles
    colour: Doubles

    @classmethod
    def strewn(
        cls, recipe: StandRecipe, rng: Generator, low: Doubles, high: Doubles, count: int
    ) -> Self:
        """Clods and pebbles all over the ground."""
        size = rng.gamma(1.3, 0.0045, count).clip(0.002, 0.016)
        place = rng.uniform(low, high, (count, 2))
        centre = np.column_stack([place, size * rng.uniform(-0.1, 0.3, count)])
        turn = rng.uniform(0, np.pi, count)
        frame = np.zeros((count, 3, 3))
        frame[:, 0, 0] = frame[:, 1, 1] = np.cos(turn)
        frame[:, 1, 0], frame[:, 2, 2] = np.sin(turn), 1.0
        frame[:, 0, 1] = -frame[:, 1, 0]
        half = size[:, None] * rng.uniform([0.8, 0.6, 0.45], [1.3, 1.0, 0.8], (count, 3))
        pebble = rng.random(count) < 0.12
        colour = np.asarray(recipe.soil) * rng.uniform(0.75, 1.3, (count, 1))
        stone = np.array([0.32, 0.29, 0.25]) * rng.uniform(0.5, 1.2, (count, 1))
        return cls(centre, frame * half[:, None, :], np.where(pebble[:, None], stone, colour))


@dataclass(frozen=True)
class Stand:
    """Everything in one field."""

    recipe: StandRecipe
    tillers: Tillers
    blades: Blades
    heads: Heads
    clods: Clods


def grow(recipe: StandRecipe, rng: Generator, *, low: Doubles, high: Doubles) -> Stand:
    """Fill the rectangle from ``low`` to ``high`` (2,) metres with a stand."""
    area = float(np.prod(high - low))
    crop = Tillers.drilled(recipe, rng, low, high)
    weeds = Tillers.lying(rng, low, high, round(area * recipe.weeds_per_m2), (0.01, 0.12))
    straws = Tillers.lying(rng, low, high, round(area * recipe.straw_per_m2), (0.004, 0.02))
    count, first_straw = len(crop.foot), len(crop.foot) + len(weeds.foot)
    crop_blades = Blades.of_crop(recipe, rng, count)
    weed_blades = Blades.of_weeds(rng, np.arange(count, first_straw))
    straw = Blades.of_straw(rng, np.arange(first_straw, first_straw + len(straws.foot)))
    blades = join([crop_blades, weed_blades, straw])
    heads = Heads.on(recipe, rng, count if recipe.heads else 0)
    clods = Clods.strewn(recipe, rng, low, high, round(area * recipe.clods_per_m2))
    return Stand(recipe, join([crop, weeds, straws]), blades, heads, clods)


def join(parts: Sequence[Part]) -> Part:
    """One of what are several: all their arrays end to end."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return type(parts[0])(*map(np.concatenate, columns))
