"""Where sprites stand, and which of them come and go."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from dvos.config.scene import PopulationSettings
from dvos.synthesis.atlas import LEVELS, Atlas
from dvos.synthesis.camera import CameraPath, rotations
from dvos.synthesis.draws import signs, uniform, whole
from dvos.synthesis.kernels.places import CELL, footprints, place, stamp
from dvos.synthesis.motion import Steps, Walk
from dvos.synthesis.population import Cast, Casting
from dvos.synthesis.scene import Sprites, joined


@dataclass(frozen=True)
class Tracks:
    """The sprites of a clip with their ways.

    Attributes:
        sprites: All that ever take part, N.
        place: float64 (T, N, 2): centres on the canopy at rest in the wind.
        turned: float64 (T, N): radians turned since the sprite's start.
        alive: bool (T, N).
        lot: int64 (N,): 0 for those there at the start, then the frame they
            were added in.
    """

    sprites: Sprites
    place: NDArray[np.float64]
    turned: NDArray[np.float64]
    alive: NDArray[np.bool_]
    lot: NDArray[np.int64]


def stochastic_round(value: float, draw: float) -> int:
    """Round so that the mean over ``draw`` (0..1) is ``value``."""
    return math.floor(value + draw)


@dataclass(frozen=True)
class _Prints:
    """Coarse footprints of sprites: cells, where each list starts, its length."""

    cells: NDArray[np.int16]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]


def _footprints(atlas: Atlas, sprites: Sprites) -> _Prints:
    """Cells of the coarse map that each sprite covers at its first turn."""
    reduction = np.maximum(sprites.scale.max(1), 1e-6) / CELL
    level = np.clip(np.floor(-np.log2(reduction)), 0, LEVELS - 1).astype(np.int64)
    source = atlas.place[sprites.cutout, level]
    turn = rotations(sprites.angle) * (sprites.scale * sprites.flip)[:, None, :]
    inverse = np.linalg.inv(turn) * CELL / (2.0**level)[:, None, None]
    radius = np.ceil(0.71 * 1.05 * sprites.length / CELL + 1).astype(np.int64)
    first = np.concatenate([[0], np.cumsum((2 * radius + 1) ** 2)])
    cells = np.empty((int(first[-1]), 2), np.int16)
    counts = footprints(atlas.texels, source, inverse, radius, first[:-1], cells)
    return _Prints(cells, first[:-1].copy(), counts)


@dataclass(frozen=True)
class Placement:
    """Places sprites.

    Attributes:
        casting: Draws the sprites.
        walk: Draws their own steps.
        settings: Where they may stand, and what becomes of those that leave.
    """

    casting: Casting
    walk: Walk
    settings: PopulationSettings

    def draw(
        self,
        rng: np.random.Generator,
        cast: Cast,
        frames: int,
        size: tuple[int, int],
        camera: CameraPath,
    ) -> Tracks:
        """Draw the sprites of a clip and the ways they go.

        Order of draws: rounding of the three counts, the sprites, clumping
        and its radius, places, steps; with ``replace``, for each frame that
        lost sprites, how many enter, the sprites, their sides and places.
        """
        box = (0.0, float(size[0]), 0.0, float(size[1]))
        if self.settings.refill == "field":
            numbers = np.concatenate([cast.objects, cast.distractors])
            length = self.casting.atlas.length[numbers] * cast.factor[numbers]
            reach = 0.75 * float(np.quantile(length, 0.9)) if len(length) else 0.0
            box = camera.region(size, reach)
        share = (box[1] - box[0]) * (box[3] - box[2]) / (size[0] * size[1])
        rounding = rng.random(3)
        counts = [
            stochastic_round(c * share, r) for c, r in zip(cast.counts, rounding, strict=True)
        ]
        sprites = self.casting.draw_sprites(rng, cast, (counts[0], counts[1], counts[2]))
        area = np.tile(np.array(box), (len(sprites), 1))
        if not self.walk.settings.may_leave:
            # Held inside: a sprite starts where it may stand.
            half = np.minimum(sprites.length / 2 + 1, min(box[1] - box[0], box[3] - box[2]) / 2)
            area += half[:, None] * (1, -1, 1, -1)
        start = self.find_places(rng, sprites, area, box, None)
        steps = self.walk.draw(rng, frames, len(sprites))
        if self.settings.refill == "field":
            return Tracks(
                sprites,
                start[None] + np.cumsum(steps.moves, 0),
                steps.angle,
                np.ones((frames, len(sprites)), np.bool_),
                np.zeros(len(sprites), np.int64),
            )
        start = camera.unview(start, 1 + camera.spread * sprites.depth, 0)
        return _Replacing(self, rng, cast, frames, size, camera).run(sprites, start, steps)

    def find_places(
        self,
        rng: np.random.Generator,
        sprites: Sprites,
        area: NDArray[np.float64],
        box: tuple[float, float, float, float],
        standing: tuple[Sprites, NDArray[np.float64]] | None,
    ) -> NDArray[np.float64]:
        """Places (N, 2) of new sprites, each the best of its tries.

        Args:
            rng: The clip's stream.
            sprites: The new ones.
            area: (N, 4): y0, y1, x0, x1 that each centre may lie in.
            box: What the coarse map of covered places spans.
            standing: Sprites already there with their places.
        """
        clump = uniform(rng, self.settings.clump)
        low, high = self.settings.clump_radius
        radius = sprites.length * (low + (high - low) * rng.random(len(sprites)))
        draws = rng.random((len(sprites), self.settings.tries, 3))
        atlas = self.casting.atlas
        margin = float(sprites.length.max()) if len(sprites) else 0.0
        origin = np.array([box[0] - margin, box[2] - margin])
        rows = int((box[1] - box[0] + 2 * margin) // CELL) + 1
        columns = int((box[3] - box[2] + 2 * margin) // CELL) + 1
        covered = np.zeros((rows, columns), np.uint8)
        if standing is not None:
            there, where = standing
            prints = _footprints(atlas, there)
            corner = np.floor((where - origin) / CELL).astype(np.int64)
            for n in np.flatnonzero(self._marks(there)):
                first, count = int(prints.first[n]), int(prints.counts[n])
                stamp(covered, prints.cells, first, count, int(corner[n, 0]), int(corner[n, 1]))
        prints = _footprints(atlas, sprites)
        return place(
            covered,
            origin,
            area,
            prints.cells,
            prints.first,
            prints.counts,
            self._marks(sprites),
            draws,
            clump,
            radius,
            self.settings.overlap,
        )

    def _marks(self, sprites: Sprites) -> NDArray[np.bool_]:
        """Which sprites later ones avoid; leaves are never avoided."""
        ground = sprites.layer == 0
        return np.asarray(ground if self.settings.avoid == "all" else ground & sprites.is_object)


class _Replacing:
    """Steps through a clip, replacing the sprites that the camera carries out."""

    def __init__(
        self,
        placement: Placement,
        rng: np.random.Generator,
        cast: Cast,
        frames: int,
        size: tuple[int, int],
        camera: CameraPath,
    ) -> None:
        self.placement = placement
        self.rng = rng
        self.cast = cast
        self.frames = frames
        self.size = np.array(size, np.float64)
        self.camera = camera

    def run(self, sprites: Sprites, start: NDArray[np.float64], steps: Steps) -> Tracks:
        """Follow the first sprites and all that enter later."""
        lots, lot = [sprites], np.zeros(len(sprites), np.int64)
        place = np.repeat(start[None], self.frames, 0)
        moves, turned = steps.moves, steps.angle
        alive = np.ones((self.frames, len(sprites)), np.bool_)
        sense = np.ones((len(sprites), 2))
        for t in range(1, self.frames):
            everyone = joined(lots)
            depth = 1 + self.camera.spread * everyone.depth
            seen = self._step(t, place[t - 1], moves[t], sense, everyone.length, depth)
            place[t:] = self.camera.unview(seen, depth, t)
            gone = alive[t] & self._outside(seen, everyone.length)
            alive[t:, gone] = False
            new = self._enter(t, everyone, gone, seen, alive[t])
            if new is None:
                continue
            more, where = new
            added = self.placement.walk.draw(self.rng, self.frames, len(more))
            inward = np.sign(self.size / 2 - where)
            heading = np.sign(added.moves[t:].sum(0))
            lots.append(more)
            lot = np.concatenate([lot, np.full(len(more), t)])
            depth = 1 + self.camera.spread * more.depth
            there = self.camera.unview(where, depth, t)
            place = np.concatenate([place, np.repeat(there[None], self.frames, 0)], 1)
            moves = np.concatenate([moves, added.moves], 1)
            turned = np.concatenate([turned, added.angle - added.angle[t]], 1)
            born = np.arange(self.frames)[:, None] >= np.full(len(more), t)
            alive = np.concatenate([alive, born], 1)
            sense = np.concatenate([sense, np.where(heading * inward < 0, -1.0, 1.0)])
        return Tracks(joined(lots), place, turned, alive, lot)

    def _step(
        self,
        t: int,
        before: NDArray[np.float64],
        moves: NDArray[np.float64],
        sense: NDArray[np.float64],
        length: NDArray[np.float64],
        depth: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Own steps in the frame (N, 2); held at the border if they may not leave."""
        now = self.camera.view(before[None], depth, np.array([t]))[0]
        after: NDArray[np.float64] = now + moves * sense
        if self.placement.walk.settings.may_leave:
            return after
        half = np.minimum(length[:, None] / 2 + 1, self.size / 2)
        low, high = half, self.size - half
        over_low = (after < low) & (after < now)
        over_high = (after > high) & (after > now)
        after = np.where(over_low, np.minimum(now, low), after)
        after = np.where(over_high, np.maximum(now, high), after)
        sense[over_low | over_high] *= -1
        return after

    def _outside(self, seen: NDArray[np.float64], length: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a sprite is wholly out, with room for one that is just entering."""
        room = 1.5 * length[:, None] + 2 * self.placement.settings.recovery_expansion
        return np.asarray(((seen < -room) | (seen > self.size + room)).any(1))

    def _enter(
        self,
        t: int,
        everyone: Sprites,
        gone: NDArray[np.bool_],
        seen: NDArray[np.float64],
        alive: NDArray[np.bool_],
    ) -> tuple[Sprites, NDArray[np.float64]] | None:
        """New sprites for those gone, beyond the side that the camera uncovers."""
        if not gone.any():
            return None
        leaf = everyone.layer > 0
        counts = []
        for lost in (everyone.is_object, ~everyone.is_object & ~leaf, leaf):
            number = int(np.count_nonzero(gone & lost))
            least = max(number - self.placement.settings.recovery_variance, 0)
            counts.append(int(whole(self.rng, (least, number), 1)[0]))
        if not sum(counts):
            return None
        more = self.placement.casting.draw_sprites(
            self.rng, self.cast, (counts[0], counts[1], counts[2])
        )
        ends = self.camera.view(
            self.camera.unview(self.camera.centre[None], np.ones(1), t - 1)[None],
            np.ones(1),
            np.array([t]),
        )
        area = self._entry(more.length, ends[0, 0] - self.camera.centre)
        depth = float(np.abs(area - self.camera.centre.repeat(2)).max())
        box = tuple(
            float(v) for v in (self.camera.centre.repeat(2) + depth * np.array([-1, 1] * 2))
        )
        there = np.flatnonzero(alive)
        standing = _subset(everyone, there), seen[there]
        where = self.placement.find_places(
            self.rng, more, area, (box[0], box[1], box[2], box[3]), standing
        )
        return more, where

    def _entry(
        self, length: NDArray[np.float64], motion: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Strips (N, 4) just beyond the uncovered border, y0, y1, x0, x1.

        The side is drawn in proportion to how much of it is uncovered; without
        camera motion any side serves.
        """
        count = len(length)
        choice, side = self.rng.random(count), signs(self.rng, (count, 2))
        total = float(np.abs(motion).sum())
        down = choice < (abs(motion[0]) / total if total else 0.5)
        # Content that moves down (+y) uncovers the upper border (low y).
        upper = np.where(motion == 0, side, np.sign(motion)) > 0
        strip = self.placement.settings.recovery_expansion * np.maximum(np.abs(motion), 1.0)
        area = np.tile(np.array([0, self.size[0], 0, self.size[1]]), (count, 1))
        for axis, mine in ((0, down), (1, ~down)):
            near = np.where(upper[:, axis], -length / 2 - strip[axis], self.size[axis] + length / 2)
            area[mine, 2 * axis] = near[mine]
            area[mine, 2 * axis + 1] = near[mine] + strip[axis]
        return area


def _subset(sprites: Sprites, which: NDArray[np.int64]) -> Sprites:
    values = {
        f.name: getattr(sprites, f.name)[which] for f in fields(sprites) if f.name != "bending"
    }
    bending = type(sprites.bending)(
        **{f.name: getattr(sprites.bending, f.name)[which] for f in fields(sprites.bending)}
    )
    return replace(sprites, **values, bending=bending)
