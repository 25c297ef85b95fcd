"""Fields of every kind, for training: each number is a stand, a light and a camera of its own.

Ranges are wider than those of real fields: a network that has seen more than there is finds what
there is (Tobin et al. 2017, domain randomisation).
"""

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from dvos.sample import Doubles
from dvos.sample.camera import CameraPath, Optics, direction
from dvos.sample.lighting import make_soil, tile_noise
from dvos.sample.render import Light, Scene
from dvos.sample.shapes import Waves, make_wind
from dvos.sample.stand import GREEN_BLADE, Heads, Stand, StandRecipe, grow

_ANY = 3  # which stream of random numbers such a scene draws from

_HEAD_M = 0.09  # mean length of a head in the ranges below, metres

#: Linear albedo of heads, green and ripe; a stand's two are mixed of these.
_GREEN_HEADS = np.array([
    [0.26, 0.36, 0.12], [0.30, 0.38, 0.25], [0.40, 0.43, 0.12], [0.42, 0.48, 0.30],
    [0.16, 0.25, 0.10],
])  # fmt: skip
_RIPE_HEADS = np.array([
    [0.64, 0.45, 0.17], [0.62, 0.50, 0.30], [0.42, 0.36, 0.27], [0.50, 0.32, 0.17],
    [0.5, 0.4, 0.15],
])  # fmt: skip
#: And of fresh leaves.
_LEAVES = np.array(
    [[0.030, 0.075, 0.022], [0.060, 0.110, 0.075], [0.055, 0.125, 0.035], [0.140, 0.190, 0.040]]
)
_SOILS = np.array(
    [[0.13, 0.09, 0.06], [0.05, 0.045, 0.045], [0.25, 0.20, 0.15], [0.18, 0.09, 0.05]]
)


def any_scene(seed: int, number: int, *, size: tuple[int, int]) -> Scene:
    """A field that may look like any, seen once in a picture of ``size``; one in ten is bare."""
    rng = np.random.default_rng([seed, _ANY, number])
    recipe = _recipe(rng)
    path, pixel_m = _camera(recipe, rng, size)
    seen = path.at(0.0, size).footprint(0.0, recipe.height_m)
    stand = grow(recipe, rng, low=seen.min(axis=0) - 0.3, high=seen.max(axis=0) + 0.3)
    return Scene(
        stand=_coloured(stand, rng),
        wind=make_wind(rng, strength=float(rng.uniform(0.0, 0.08))),
        path=path,
        light=_light(rng, pixel_m),
        optics=Optics(
            exposure=float(np.exp(rng.normal(0.1, 0.45))),
            balance=tuple(np.exp(rng.normal(0.0, 0.10, 3)).tolist()),
            aperture=float(rng.choice([0.0, 1.0, 5.0]) * rng.random()),
            contrast=float(rng.uniform(1.0, 1.9)),
            focus=float(rng.choice([0.95, rng.uniform(0.1, 1.1)])),
        ),
        soil=make_soil(rng, colour=recipe.soil, size=512),
        noise=tile_noise(rng, 256, cells=32, octaves=3),
        seed=(seed, _ANY, number),
    )


def _spread(rng: Generator, low: float, high: float) -> float:
    """A number whose logarithm is drawn evenly."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _mixed(rng: Generator, colours: Doubles) -> Doubles:
    """A colour between several, brighter or darker than they are."""
    shares = rng.dirichlet(np.full(len(colours), 0.5))
    return np.asarray(shares @ colours * np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.06, 3)))


def _recipe(rng: Generator) -> StandRecipe:
    """Density, stage and build of a stand."""
    ripeness = float(rng.random())
    leaf = _spread(rng, 0.07, 0.22)
    width = _spread(rng, 0.007, 0.018)
    red, green, blue = _mixed(rng, _SOILS).tolist()
    return StandRecipe(
        heads=rng.random() > 0.1,
        ripeness=ripeness,
        tillers_per_m2=_spread(rng, 90, 550),
        height_m=float(rng.uniform(0.45, 0.95)),
        blades_per_tiller=float(rng.uniform(1.5, 4.5)),
        # Leaves wither as heads ripen, but not in step with them.
        dryness=float(np.clip(0.75 * ripeness + rng.normal(0.05, 0.25), 0.0, 1.1)),
        awn_m=float(rng.choice([0.0, 0.008, 0.05, 0.07]) * rng.uniform(0.6, 1.3)),
        weeds_per_m2=float(rng.choice([0.0, 5.0, 40.0]) * rng.random()),
        straw_per_m2=_spread(rng, 5, 300),
        clods_per_m2=_spread(rng, 50, 600),
        row_m=float(rng.uniform(0.10, 0.25)),
        soil=(red, green, blue),
        headed=_spread(rng, 0.3, 1.0),
        nodes=int(rng.integers(12, 24)),
        floret=float(rng.uniform(0.75, 1.25)),
        floret_length=_spread(rng, 0.85, 1.7),
        splay=float(rng.uniform(0.30, 0.75)),
        taper=float(rng.uniform(0.05, 0.55)),
        patchy=float(rng.uniform(0.05, 0.3)),
        mottle=float(rng.uniform(0.0, 0.4)),
        awns_per_node=int(rng.integers(1, 4)),
        blade_m=(leaf, 1.8 * leaf),
        blade_width_m=(width, 1.8 * width),
        top_blade=float(rng.uniform(0.6, 1.0)),
    )


def _camera(recipe: StandRecipe, rng: Generator, size: tuple[int, int]) -> tuple[CameraPath, float]:
    """Hand, pole or drone; and how many metres of the canopy a pixel shows."""
    head_pixels = _spread(rng, 42, 260)
    fov = _spread(rng, 0.18, 0.9)
    pixel_m = _HEAD_M / head_pixels
    away = pixel_m * size[1] / (2 * math.tan(fov / 2))
    away = max(away, 0.45 * recipe.height_m)  # nothing may stand before the lens
    fov = 2 * math.atan(pixel_m * size[1] / (2 * away))
    down = float(rng.uniform(1.25, 1.55) if rng.random() < 0.65 else rng.uniform(0.75, 1.25))
    path = CameraPath(
        height_m=0.95 * recipe.height_m + away * math.sin(down),
        pitch=down,
        yaw=float(rng.uniform(-math.pi, math.pi)),
        drift=(0.0, 0.0),
        shake=0.0,
        phases=(0.0,) * 6,
        field_of_view=fov,
    )
    return path, pixel_m


def _coloured(stand: Stand, rng: Generator) -> Stand:
    """The stand with heads and leaves of its own size, bend and colour."""
    leaf = _mixed(rng, _LEAVES)
    gain = np.clip(leaf / GREEN_BLADE, 0.35, 3.0)
    stalks = stand.tillers.style.copy()
    stalks[:, :6] *= np.tile(np.sqrt(gain) * rng.uniform(0.6, 1.1), 2)
    width = stand.tillers.width * rng.uniform(0.4, 1.0)
    tillers = replace(stand.tillers, style=stalks, width=width)
    heads = _heads(stand, leaf, rng)
    style = stand.blades.style.copy()
    style[:, :3] *= gain
    style[:, 3:6] *= np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.08, 3))
    style[:, 9] *= rng.uniform(0.3, 2.0)
    style[:, 11] *= rng.uniform(0.3, 3.0)
    blades = replace(
        stand.blades,
        style=style,
        rise=stand.blades.rise * rng.uniform(0.6, 1.8),
        droop=stand.blades.droop * rng.uniform(0.3, 1.3),
        twist=stand.blades.twist * rng.uniform(0.5, 2.0),
    )
    return replace(stand, tillers=tillers, heads=heads, blades=blades)


def _heads(stand: Stand, leaf: Doubles, rng: Generator) -> Heads:
    heads, count = stand.heads, len(stand.heads.number)
    length = _HEAD_M * _spread(rng, 0.65, 1.25)
    ripe = np.clip(stand.recipe.ripeness + rng.normal(0, rng.uniform(0.02, 0.25), count), 0, 1)
    green, gold = _mixed(rng, _GREEN_HEADS), _mixed(rng, _RIPE_HEADS)
    # Some stands' heads are as green as their leaves, if paler.
    green += rng.uniform(0.0, 0.7) * (1.8 * leaf - green)
    bright = np.exp(rng.normal(0, rng.uniform(0.03, 0.2), (count, 1)))
    nod = rng.choice([0.1, 0.3, 0.7, 1.4]) * rng.gamma(3.0, 0.33, count)
    return replace(
        heads,
        length=length * rng.uniform(0.7, 1.25, count),
        girth=np.minimum(_spread(rng, 0.10, 0.21) * length, 0.018) * rng.uniform(0.85, 1.15, count),
        nod=np.clip(nod, 0.02, 2.6),
        nod_azimuth=rng.normal(rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 3.0), count),
        colour=(green + (gold - green) * ripe[:, None]) * bright,
    )


def _light(rng: Generator, pixel_m: float) -> Light:
    """Sun, haze or overcast; deep stands are dark below."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.35)
    clear = float(rng.choice([0.05, 0.5, 1.0]) * rng.uniform(0.6, 1.0))
    warm = np.exp(rng.normal(0, 0.08, 3)) * [1.0, 0.93, 0.82]
    sky = (0.5 + 1.3 * (1.0 - clear)) * np.exp(rng.normal(0, 0.06, 3)) * [0.9, 0.98, 1.1]
    return Light(
        towards_sun=direction(azimuth, elevation),
        sun=(2.5 * clear * warm).astype(np.float32),
        sky=sky.astype(np.float32),
        bounce=(rng.uniform(0.1, 0.4) * sky * [1.1, 0.95, 0.6]).astype(np.float32),
        clouds=Waves.along(rng, heading=0.0, length_m=1.0, speed=0.0, count=4),
        cloud_cover=float(rng.uniform(0.0, 0.4)),
        deep=float(rng.uniform(0.02, 0.5)),
        hollow=float(rng.uniform(0.0, 14.0)),
        cell_m=max(3 * pixel_m / 2, 0.0005),
    )
