"""Who takes part in a clip, and how each sprite looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dvos.config.scene import SceneSettings
from dvos.synthesis import Floats, Ints, Size
from dvos.synthesis.atlas import Atlas
from dvos.synthesis.draws import log_uniform, log_uniforms, uniform, uniforms, whole
from dvos.synthesis.motion import draw_bending, draw_own_sway
from dvos.synthesis.scene import Sprites


@dataclass(frozen=True)
class Cast:
    """What the sprites of one clip are drawn from."""

    objects: Ints  # Atlas numbers of the cutouts in use
    distractors: Ints  # Atlas numbers of the distractors in use
    factor: Floats  # (N,) of each cutout: brings its still's median one to the clip's size
    counts: Sequence[float]  # Objects, distractors and leaves wanted in one frame's area
    harmonise: float  # How far colours move to the background's
    background_colour: Floats  # (3,)


@dataclass(frozen=True)
class Casting:
    """Draws casts and sprites."""

    atlas: Atlas  # All cutouts
    cutouts: int  # How many of the atlas's first entries are objects; the rest are distractors
    settings: SceneSettings

    def draw_cast(
        self,
        rng: Generator,
        size: Size,
        background_colour: Floats,  # (3,) mean of the background
        scale: float,  # of everything; amounts per megapixel are of the unscaled scene
        *,
        own_size: bool,  # cutouts keep the size of their still, as a labelled still's objects do
    ) -> Cast:
        """Draw what a clip's sprites are taken from, and how many there are."""
        objects, distractors = self._stills(rng)
        looks, wanted = self.settings.appearance, self.settings.population
        draw = log_uniform(rng, looks.size or (1.0, 1.0))
        factor = np.full(len(self.atlas), log_uniform(rng, looks.clip_scale))
        if looks.size and not own_size:
            factor *= np.minimum(draw / self.atlas.source_length, looks.enlarge)
        factor *= scale
        amounts = [uniform(rng, r) for r in (wanted.objects, wanted.distractors, wanted.foreground)]
        harmonise = uniform(rng, looks.harmonise)
        mean = self._mean_areas(objects, distractors, factor)
        frame = size[0] * size[1]
        unit = {"frame": (1.0,) * 3, "megapixel": (frame / scale**2 / 1e6,) * 3}
        factors = unit.get(self.settings.population.per, tuple(frame / area for area in mean))
        counts = [a * f for a, f in zip(amounts, factors, strict=True)]
        if not len(distractors):
            counts[1] = counts[2] = 0.0
        return Cast(objects, distractors, factor, counts, harmonise, background_colour)

    def _stills(self, rng: Generator) -> tuple[Ints, Ints]:
        """Atlas numbers of the objects and distractors of a few stills."""
        number = int(whole(rng, self.settings.population.sources, 1)[0])
        source = self.atlas.source
        objects = np.arange(self.cutouts)
        distractors = np.arange(self.cutouts, len(self.atlas))
        stills = np.unique(source[: self.cutouts])
        chosen = stills[np.argsort(rng.random(len(stills)), kind="stable")[:number]]
        if not number:
            return objects, distractors
        objects = objects[np.isin(source[objects], chosen)]
        near = distractors[np.isin(source[distractors], chosen)]
        # Distractors of other stills serve where these stills have none.
        return objects, near if len(near) else distractors

    def _mean_areas(self, objects: Ints, distractors: Ints, factor: Floats) -> list[float]:
        """Mean px of an object, a distractor and a leaf."""
        low, high = self.settings.appearance.scale
        spread = (low * low + high * high) / 2
        wanted = self.settings.population
        leaf = np.mean(wanted.foreground_scale) ** 2 * np.mean(wanted.foreground_stretch)
        means = []
        for which in (objects, distractors):
            areas = self.atlas.area[which] * factor[which] ** 2
            means.append((max(float(areas.mean()), 4.0) if len(which) else 1.0) * spread)
        return [*means, means[1] * float(leaf)]

    def draw_sprites(self, rng: Generator, cast: Cast, counts: Sequence[int] | Ints) -> Sprites:
        """Draw objects, distractors and leaves: ``counts`` of each.

        Every sprite takes the same draws, whatever its role.
        """
        atlas, looks, wanted = self.atlas, self.settings.appearance, self.settings.population
        count = int(sum(counts))
        pick = rng.random(count)
        role = np.repeat([0, 1, 2], [counts[1], counts[0], counts[2]])  # distractors first
        cutout = np.zeros(count, np.int64)
        for k, pool in enumerate((cast.distractors, cast.objects, cast.distractors)):
            mine = role == k
            if mine.any():
                cutout[mine] = pool[(pick[mine] * len(pool)).astype(np.int64)]
        scale = cast.factor[cutout] * log_uniforms(rng, looks.scale, count)
        leaf = role == 2
        scale = scale * np.where(leaf, log_uniforms(rng, wanted.foreground_scale, count), 1.0)
        stretch = np.where(leaf, log_uniforms(rng, wanted.foreground_stretch, count), 1.0)
        shape = atlas.place[cutout, 0, 1:]
        upright = shape[:, 0] >= shape[:, 1]
        axes = np.stack(
            [scale * np.where(upright, stretch, 1), scale * np.where(upright, 1, stretch)], 1
        )
        mirroring = looks.flip_vertical, looks.flip_horizontal
        return Sprites(
            cutout=cutout,
            is_object=role == 1,
            layer=np.where(leaf, 1, 0),
            scale=axes,
            angle=np.radians(uniforms(rng, looks.rotation, count)),
            flip=np.where(rng.random((count, 2)) < mirroring, -1.0, 1.0),
            colour=self._colours(rng, cast, cutout),
            feather=uniforms(rng, looks.feather, count),
            shrink=uniforms(rng, looks.shrink, count),
            depth=uniforms(rng, (-1.0, 1.0), count),
            own_sway=draw_own_sway(self.settings.wind, rng, count),
            bending=draw_bending(self.settings.elastic, rng, count),
            length=atlas.length[cutout] * axes.max(1),
            area=atlas.area[cutout] * axes.prod(1),
        )

    def _colours(self, rng: Generator, cast: Cast, cutout: Ints) -> Floats:
        """Colour matrices (N, 3, 4): hue, saturation, gain, towards the background."""
        looks = self.settings.appearance
        count = len(cutout)
        hue = np.radians(uniforms(rng, looks.hue, count))[:, None, None]
        saturation = uniforms(rng, looks.saturation, count)[:, None, None]
        gain = uniforms(rng, looks.gain, count)[:, None, None]
        # Rodrigues' rotation about (1, 1, 1) / sqrt(3), the grey axis, which keeps R + G + B.
        grey = np.full((3, 3), 1 / 3)
        cross = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        turn = np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * cross
        matrix = (grey + saturation * turn) * gain
        mean = np.maximum(self.atlas.colour[cutout], 8.0)
        ratio = np.maximum(cast.background_colour, 8.0) / mean
        near = np.clip(ratio, 0.33, 3.0) ** cast.harmonise
        return np.concatenate([near[:, :, None] * matrix, np.zeros((count, 3, 1))], 2)
