"""The sample's scenes: which stand, light and camera each file shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.sample.camera import CameraPath, Optics
from dvos.sample.noise import Waves, make_soil, tile_noise
from dvos.sample.render import Light, Scene
from dvos.sample.shapes import make_wind
from dvos.sample.stand import StandRecipe, grow

__all__ = ["background_scene", "headed_scene"]

Doubles = NDArray[np.float64]

#: Which stream of random numbers a scene draws from.
_HEADED, _BARE = 1, 2


def headed_scene(seed: int, number: int, *, seconds: float) -> Scene:
    """A stand with heads; each ``number`` is a stand, light and camera of its own.

    Args:
        seed: Seed of the sample.
        number: Which scene.
        seconds: How long the camera will travel over it.
    """
    rng = np.random.default_rng([seed, _HEADED, number])
    recipe = StandRecipe(
        heads=True,
        # Spread over the season by the golden ratio, so that few stills cover it.
        ripeness=0.20 + 0.55 * ((0.35 + 0.618034 * number) % 1.0),
        tillers_per_m2=rng.uniform(66, 88),
        dryness=rng.uniform(0.22, 0.42),
        awn_m=rng.uniform(0.030, 0.055),
        soil=_soil_colour(rng),
    )
    return _scene(recipe, rng, (seed, _HEADED, number), seconds)


def background_scene(seed: int, number: int, *, seconds: float) -> Scene:
    """Bare field: a stand that has not headed, weeds, straw and soil."""
    rng = np.random.default_rng([seed, _BARE, number])
    recipe = StandRecipe(
        heads=False,
        ripeness=rng.uniform(0.2, 0.8),
        tillers_per_m2=(95.0, 60.0, 80.0)[number % 3],
        height_m=(0.52, 0.40, 0.56)[number % 3],
        blades_per_tiller=(4.0, 3.4, 4.2)[number % 3],
        dryness=(0.22, 0.38, 0.55)[number % 3],
        weeds_per_m2=(5.0, 13.0, 4.0)[number % 3],
        straw_per_m2=(40.0, 75.0, 110.0)[number % 3],
        soil=_soil_colour(rng),
    )
    return _scene(recipe, rng, (seed, _BARE, number), seconds)


def _soil_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    red = float(rng.uniform(0.105, 0.165))
    return red, red * float(rng.uniform(0.68, 0.76)), red * float(rng.uniform(0.44, 0.54))


def _scene(
    recipe: StandRecipe, rng: np.random.Generator, seed: tuple[int, ...], seconds: float
) -> Scene:
    path = _path(recipe, rng)
    low, high = _reach(recipe, path, seconds)
    return Scene(
        stand=grow(recipe, rng, low=low, high=high),
        wind=make_wind(rng, strength=float(rng.uniform(0.024, 0.040))),
        path=path,
        light=_light(rng),
        optics=Optics(
            exposure=float(rng.uniform(0.94, 1.10)),
            balance=(float(rng.uniform(0.96, 1.05)), 1.0, float(rng.uniform(0.93, 1.05))),
        ),
        soil=make_soil(rng, colour=recipe.soil),
        noise=tile_noise(rng, 256, cells=32, octaves=3),
        seed=seed,
    )


def _path(recipe: StandRecipe, rng: np.random.Generator) -> CameraPath:
    heading = rng.uniform(-0.5, 0.5) + (np.pi if rng.random() < 0.5 else 0.0)
    speed = rng.uniform(0.035, 0.07)
    phases = rng.uniform(0, 2 * np.pi, 6)
    return CameraPath(
        height_m=0.95 * recipe.height_m + float(rng.uniform(1.22, 1.38)),
        pitch=float(rng.uniform(0.87, 1.02)),
        yaw=float(rng.uniform(-0.45, 0.45)),
        drift=(float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        shake=float(rng.uniform(0.0010, 0.0022)),
        phases=(
            float(phases[0]), float(phases[1]), float(phases[2]),
            float(phases[3]), float(phases[4]), float(phases[5]),
        ),
        field_of_view=0.66,
    )  # fmt: skip


def _reach(recipe: StandRecipe, path: CameraPath, seconds: float) -> tuple[Doubles, Doubles]:
    """The ground that comes into view, with a margin for what leans and shades into it."""
    corners = np.array([[0, 0], [640, 0], [640, 480], [0, 480]], float)
    seen = []
    for time_s in (0.0, 0.5 * seconds, seconds):
        view = path.at(time_s, (480, 640))
        seen += [view.ground(corners, 0.0), view.ground(corners, recipe.height_m)]
    ground = np.concatenate(seen)
    return ground.min(axis=0) - 0.35, ground.max(axis=0) + 0.35


def _light(rng: np.random.Generator) -> Light:
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = rng.uniform(0.75, 1.15)
    towards = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    clear = rng.uniform(0.75, 1.0)
    heading = float(rng.uniform(0, 2 * np.pi))
    sun = 2.5 * clear * np.array([1.0, 0.93, 0.80])
    sky = (0.62 + 0.5 * (1.0 - clear)) * np.array([0.86, 0.97, 1.15])
    return Light(
        towards_sun=towards,
        sun=sun.astype(np.float32),
        sky=sky.astype(np.float32),
        bounce=(0.35 * sky * np.array([1.1, 0.95, 0.6])).astype(np.float32),
        clouds=Waves.along(rng, heading=heading, length_m=2.2, speed=0.25, count=4),
        cloud_cover=float(rng.uniform(0.2, 0.42)),
    )
