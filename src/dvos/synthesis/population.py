"""Who takes part in a clip, how each sprite looks, where it stands, and which come and go."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvos.config.scene import SceneSettings
from dvos.synthesis import Bools, Floats, Ints, Size, log_uniform, signs, uniform, whole
from dvos.synthesis.atlas import LEVELS, Atlas
from dvos.synthesis.kernels.places import CELL, footprints, place, stamp
from dvos.synthesis.motion import CameraPath, draw_bending, draw_own_sway, draw_steps, rotations
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
        low, high = looks.scale
        areas = [self.atlas.area[which] * factor[which] ** 2 for which in (objects, distractors)]
        # Mean px of an object and a distractor, and of a leaf.
        spread = (low * low + high * high) / 2
        mean = [(max(float(a.mean()), 4.0) if len(a) else 1.0) * spread for a in areas]
        leaf = np.mean(wanted.foreground_scale) ** 2 * np.mean(wanted.foreground_stretch)
        mean.append(mean[1] * float(leaf))
        frame = size[0] * size[1]
        unit = {"frame": (1.0,) * 3, "megapixel": (frame / scale**2 / 1e6,) * 3}
        factors = unit.get(wanted.per, tuple(frame / area for area in mean))
        counts = [a * f for a, f in zip(amounts, factors, strict=True)]
        if not len(distractors):
            counts[1] = counts[2] = 0.0
        return Cast(objects, distractors, factor, counts, harmonise, background_colour)

    def _stills(self, rng: Generator) -> tuple[Ints, Ints]:
        """Atlas numbers of the objects and distractors of a few stills."""
        number, source = whole(rng, self.settings.population.sources, 1)[0], self.atlas.source
        objects, distractors = np.split(np.arange(len(source)), [self.cutouts])
        stills = np.unique(source[objects])
        chosen = stills[np.argsort(rng.random(len(stills)), kind="stable")[:number]]
        if not number:
            return objects, distractors
        objects = objects[np.isin(source[objects], chosen)]
        near = distractors[np.isin(source[distractors], chosen)]
        # Distractors of other stills serve where these stills have none.
        return objects, near if len(near) else distractors

    def draw_sprites(self, rng: Generator, cast: Cast, counts: Sequence[int] | Ints) -> Sprites:
        """Draw ``counts`` objects, distractors and leaves; all take the same draws."""
        atlas, looks, wanted = self.atlas, self.settings.appearance, self.settings.population
        count = int(sum(counts))
        pick = rng.random(count)
        role = np.repeat([0, 1, 2], [counts[1], counts[0], counts[2]])  # distractors first
        leaf, cutout = role == 2, np.zeros(count, np.int64)
        for mine, pool in ((role == 1, cast.objects), (role != 1, cast.distractors)):
            cutout[mine] = pool[(pick[mine] * len(pool)).astype(np.int64)]
        scale = cast.factor[cutout] * log_uniform(rng, looks.scale, count)
        scale = scale * np.where(leaf, log_uniform(rng, wanted.foreground_scale, count), 1.0)
        stretch = np.where(leaf, log_uniform(rng, wanted.foreground_stretch, count), 1.0)
        shape = atlas.place[cutout, 0, 1:]
        upright = shape[:, 0] >= shape[:, 1]
        along, across = np.where(upright, stretch, 1), np.where(upright, 1, stretch)
        axes = np.stack([scale * along, scale * across], 1)
        mirroring = looks.flip_vertical, looks.flip_horizontal
        return Sprites(
            cutout=cutout,
            is_object=role == 1,
            layer=np.where(leaf, 1, 0),
            scale=axes,
            angle=np.radians(uniform(rng, looks.rotation, count)),
            flip=np.where(rng.random((count, 2)) < mirroring, -1.0, 1.0),
            colour=self._colours(rng, cast, cutout),
            feather=uniform(rng, looks.feather, count),
            shrink=uniform(rng, looks.shrink, count),
            depth=uniform(rng, (-1.0, 1.0), count),
            own_sway=draw_own_sway(self.settings.wind, rng, count),
            bending=draw_bending(self.settings.elastic, rng, count),
            length=atlas.length[cutout] * axes.max(1),
        )

    def _colours(self, rng: Generator, cast: Cast, cutout: Ints) -> Floats:
        """Colour matrices (N, 3, 4): hue, saturation, gain, towards the background."""
        looks, count = self.settings.appearance, len(cutout)
        hue = np.radians(uniform(rng, looks.hue, count))[:, None, None]
        saturation = uniform(rng, looks.saturation, count)[:, None, None]
        gain = uniform(rng, looks.gain, count)[:, None, None]
        # Rodrigues' rotation about (1, 1, 1) / sqrt(3), the grey axis, which keeps R + G + B.
        grey = np.full((3, 3), 1 / 3)
        cross = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        turn = np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * cross
        matrix = (grey + saturation * turn) * gain
        mean = np.maximum(self.atlas.colour[cutout], 8.0)
        near = np.clip(np.maximum(cast.background_colour, 8.0) / mean, 0.33, 3.0) ** cast.harmonise
        return np.concatenate([near[:, :, None] * matrix, np.zeros((count, 3, 1))], 2)


@dataclass(frozen=True)
class Tracks:
    """The sprites of a clip with their ways."""

    sprites: Sprites  # All that ever take part, N
    place: Floats  # float64 (T, N, 2): centres on the canopy at rest in the wind
    turned: Floats  # float64 (T, N): radians turned since the sprite's start
    alive: Bools  # bool (T, N)
    lot: Ints  # int64 (N,): 0 for those there at the start, then the frame they were added in


def draw_tracks(
    rng: Generator, casting: Casting, cast: Cast, frames: int, size: Size, camera: CameraPath
) -> Tracks:
    """Draw the sprites of a clip and the ways they go."""
    walk, fills_field = casting.settings.walk, casting.settings.population.refill == "field"
    box = np.array([0.0, size[0], 0.0, size[1]])
    if fills_field:
        numbers = np.concatenate([cast.objects, cast.distractors])
        length = casting.atlas.length[numbers] * cast.factor[numbers]
        reach = 0.75 * float(np.quantile(length, 0.9)) if len(length) else 0.0
        box = camera.region(size, reach)
    share = (box[1] - box[0]) * (box[3] - box[2]) / (size[0] * size[1])
    # Rounded so that the mean over many clips is the number wanted.
    counts = np.floor(np.array(cast.counts) * share + rng.random(3)).astype(np.int64)
    sprites = casting.draw_sprites(rng, cast, counts)
    area = np.tile(box, (len(sprites), 1))
    if not walk.may_leave:  # held inside: a sprite starts where it may stand
        half = np.minimum(sprites.length / 2 + 1, min(box[1] - box[0], box[3] - box[2]) / 2)
        area += half[:, None] * (1, -1, 1, -1)
    start = _find_places(rng, casting, sprites, area, box)
    moves, turned = draw_steps(walk, rng, frames, len(sprites))
    if not fills_field:
        start = camera.unview(start, 1 + camera.spread * sprites.depth, 0)
        replacing = _Replacing(rng, casting, cast, np.array(size, np.float64), camera)
        return replacing.run(sprites, start, moves, turned)
    alive = np.ones((frames, len(sprites)), np.bool_)
    lot = np.zeros(len(sprites), np.int64)
    return Tracks(sprites, start[None] + np.cumsum(moves, 0), turned, alive, lot)


def _footprints(atlas: Atlas, sprites: Sprites) -> tuple[NDArray[np.int16], Ints, Ints]:
    """Cells (K, 2) of the coarse map that sprites cover at rest, each one's start and number."""
    reduction = np.maximum(sprites.scale.max(1), 1e-6) / CELL
    level = np.clip(np.floor(-np.log2(reduction)), 0, LEVELS - 1).astype(np.int64)
    source = atlas.place[sprites.cutout, level]
    turn = rotations(sprites.angle) * (sprites.scale * sprites.flip)[:, None, :]
    inverse = np.linalg.inv(turn) * CELL / (2.0**level)[:, None, None]
    radius = np.ceil(0.71 * 1.05 * sprites.length / CELL + 1).astype(np.int64)
    squares = (2 * radius + 1) ** 2
    first = np.cumsum(squares) - squares
    cells = np.empty((int(squares.sum()), 2), np.int16)
    return cells, first, footprints(atlas.texels, source, inverse, radius, first, cells)


def _find_places(
    rng: Generator,
    casting: Casting,  # Atlas and settings
    sprites: Sprites,  # The new ones
    area: Floats,  # (N, 4): y0, y1, x0, x1 that each centre may lie in
    box: Floats,  # y0, y1, x0, x1: what the coarse map of covered places spans
    standing: tuple[Sprites, Floats] | None = None,  # Sprites already there with their places
) -> Floats:
    """Places (N, 2) of new sprites, each the best of its tries."""
    wanted = casting.settings.population

    def marks(who: Sprites) -> Bools:
        """Which sprites later ones avoid; leaves are never avoided."""
        ground = who.layer == 0
        return np.asarray(ground if wanted.avoid == "all" else ground & who.is_object)

    clump = uniform(rng, wanted.clump)
    radius = sprites.length * uniform(rng, wanted.clump_radius, len(sprites))
    draws = rng.random((len(sprites), wanted.tries, 3))
    margin = sprites.length.max(initial=0.0)
    origin = box[::2] - margin
    cells_across = ((box[1::2] - box[::2] + 2 * margin) // CELL).astype(np.int64) + 1
    covered = np.zeros(cells_across, np.uint8)
    if standing is not None:
        there, where = standing
        cells, first, counts = _footprints(casting.atlas, there)
        corner = np.floor((where - origin) / CELL).astype(np.int64)
        for n in np.flatnonzero(marks(there)):
            mine = cells[first[n] : first[n] + counts[n]]
            stamp(covered, mine, int(corner[n, 0]), int(corner[n, 1]), True)
    footprint, avoided = _footprints(casting.atlas, sprites), marks(sprites)
    return place(covered, origin, area, *footprint, avoided, draws, clump, radius, wanted.overlap)


@dataclass(frozen=True)
class _Replacing:
    """Steps through a clip, replacing the sprites that the camera carries out."""

    rng: Generator
    casting: Casting
    cast: Cast
    size: Floats
    camera: CameraPath

    def run(self, everyone: Sprites, start: Floats, moves: Floats, turned: Floats) -> Tracks:
        """Follow the first sprites and all that enter later."""
        frames, lot = len(turned), np.zeros(len(everyone), np.int64)
        place = np.repeat(start[None], frames, 0)
        alive = np.ones((frames, len(everyone)), np.bool_)
        sense = np.ones((len(everyone), 2))
        for t in range(1, frames):
            depth = 1 + self.camera.spread * everyone.depth
            seen = self._step(t, place[t - 1], moves[t], sense, everyone.length, depth)
            place[t:] = self.camera.unview(seen, depth, t)
            # Wholly out, with room for one that is just entering.
            expansion = self.casting.settings.population.recovery_expansion
            room = 1.5 * everyone.length[:, None] + 2 * expansion
            gone = alive[t] & ((seen < -room) | (seen > self.size + room)).any(1)
            alive[t:, gone] = False
            if not gone.any() or (new := self._enter(t, everyone, gone, seen, alive[t])) is None:
                continue
            more, where = new
            added, angle = draw_steps(self.casting.settings.walk, self.rng, frames, len(more))
            inward = np.sign(added[t:].sum(0)) * np.sign(self.size / 2 - where)
            everyone = everyone.joined(more)
            born = np.full(len(more), t)
            lot = np.concatenate([lot, born])
            there = self.camera.unview(where, 1 + self.camera.spread * more.depth, t)
            place = np.concatenate([place, np.repeat(there[None], frames, 0)], 1)
            moves = np.concatenate([moves, added], 1)
            turned = np.concatenate([turned, angle - angle[t]], 1)
            alive = np.concatenate([alive, np.arange(frames)[:, None] >= born], 1)
            sense = np.concatenate([sense, np.where(inward < 0, -1.0, 1.0)])
        return Tracks(everyone, place, turned, alive, lot)

    def _step(
        self, t: int, before: Floats, moves: Floats, sense: Floats, length: Floats, depth: Floats
    ) -> Floats:
        """Own steps in the frame (N, 2); held at the border if they may not leave."""
        now = self.camera.view(before[None], depth, np.array([t]))[0]
        after: Floats = now + moves * sense
        if self.casting.settings.walk.may_leave:
            return after
        low = np.minimum(length[:, None] / 2 + 1, self.size / 2)
        held = np.clip(after, np.minimum(now, low), np.maximum(now, self.size - low))
        sense[held != after] *= -1
        return held

    def _enter(
        self, t: int, everyone: Sprites, gone: Bools, seen: Floats, alive: Bools
    ) -> tuple[Sprites, Floats] | None:
        """New sprites for those gone, beyond the side that the camera uncovers."""
        leaf, fewer = everyone.layer > 0, self.casting.settings.population.recovery_variance
        kinds = (everyone.is_object, ~everyone.is_object & ~leaf, leaf)
        lost = [int(np.count_nonzero(gone & kind)) for kind in kinds]
        counts = [int(whole(self.rng, (max(n - fewer, 0), n), 1)[0]) for n in lost]
        if not sum(counts):
            return None
        more = self.casting.draw_sprites(self.rng, self.cast, counts)
        middle = self.camera.unview(self.camera.centre[None], np.ones(1), t - 1)
        ends = self.camera.view(middle[None], np.ones(1), np.array([t]))
        area = self._entry(more.length, ends[0, 0] - self.camera.centre)
        centre = self.camera.centre.repeat(2)
        box = centre + np.abs(area - centre).max() * np.array([-1, 1, -1, 1])
        standing = everyone.subset(alive), seen[alive]
        return more, _find_places(self.rng, self.casting, more, area, box, standing)

    def _entry(self, length: Floats, motion: Floats) -> Floats:
        """Strips (N, 4), y0, y1, x0, x1, just beyond a border, drawn by how much is uncovered."""
        count = len(length)
        choice, side = self.rng.random(count), signs(self.rng, (count, 2))
        total = float(np.abs(motion).sum())
        down = choice < (abs(motion[0]) / total if total else 0.5)
        # Content that moves down (+y) uncovers the upper border (low y).
        upper = np.where(motion == 0, side, np.sign(motion)) > 0
        expansion = self.casting.settings.population.recovery_expansion
        strip = expansion * np.maximum(np.abs(motion), 1.0)
        area = np.tile(np.array([0, self.size[0], 0, self.size[1]]), (count, 1))
        for axis, mine in ((0, down), (1, ~down)):
            near = np.where(upper[:, axis], -length / 2 - strip[axis], self.size[axis] + length / 2)
            area[mine, 2 * axis] = near[mine]
            area[mine, 2 * axis + 1] = near[mine] + strip[axis]
        return area
