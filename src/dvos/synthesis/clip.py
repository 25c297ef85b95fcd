"""Synthetic clips, and the generator that makes clip k always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvos.config.scene import SceneSettings
from dvos.errors import RunError
from dvos.synthesis import Bools, Ids, Ints, Size
from dvos.synthesis.atlas import Atlas
from dvos.synthesis.backgrounds import BackgroundStore
from dvos.synthesis.compositor import SyntheticClip, Window, render
from dvos.synthesis.effects import draw_lens, draw_lighting, draw_shade
from dvos.synthesis.motion import draw_camera, draw_wind
from dvos.synthesis.placement import draw_tracks
from dvos.synthesis.population import Casting
from dvos.synthesis.scene import Scene


@dataclass(frozen=True)
class ClipGenerator:
    """Makes synthetic clips: the same clip for the same index, in any process."""

    seed: int  # Of all clips; clip k draws from ``default_rng([seed, k])``
    atlas: Atlas  # All cutouts and distractors
    store: BackgroundStore
    casting: Casting  # Who takes part, and how each looks
    settings: SceneSettings  # What scenes may look like

    def make(
        self,
        clip_index: int,
        *,
        frames: int,
        size: Size,  # height, width
        window: Window | None = None,  # render only this part, of which pixels are the whole's
        times: Sequence[int] | None = None,  # Render only these frames, in this order; None = all
        background: int | None = None,  # Only backgrounds of this table; None = of all
        flow: bool = False,
        # Of sprites and background against what the ranges say; motion, blur and noise stay in
        # px of the frame. A small scene is drawn small, which costs less than reducing a large one.
        scale: float = 1.0,
    ) -> SyntheticClip:
        """Make one clip.

        Raises:
            ValueError: If the window or a time lies outside.
            RunError: If a clip would need more than 65535 instances.
            MediaError: If a background frame cannot be read.
        """
        window = window or (0, 0, *size)
        y, x, height, width = window
        if min(y, x) < 0 or min(height, width) < 1 or y + height > size[0] or x + width > size[1]:
            raise ValueError(f"the window {window} is not inside a frame of {size}")
        which = np.arange(frames) if times is None else np.asarray(times, np.int64)
        if len(which) and not 0 <= which.min() <= which.max() < frames:
            raise ValueError(f"the times {times} are not inside a clip of {frames} frames")
        scene = self.scene(clip_index, frames=frames, size=size, background=background, scale=scale)
        return self.render_scene(scene, window=window, times=which, flow=flow)

    def render_scene(
        self, scene: Scene, *, window: Window, times: Ints, flow: bool = False
    ) -> SyntheticClip:
        """Render a scene's frames ``times`` in ``window``."""
        return render(scene, self.atlas, self.store, times, window, flow)

    def scene(
        self,
        clip_index: int,
        *,
        frames: int,
        size: Size,
        background: int | None = None,
        scale: float = 1.0,
    ) -> Scene:
        """Draw the scene of a clip."""
        rng = np.random.default_rng([self.seed, clip_index])
        camera = draw_camera(self.settings.camera, rng, frames, size)
        shot = self.store.draw(rng, clip_index, frames, size, camera, background, scale)
        cast = self.casting.draw_cast(rng, size, shot.colour, scale, own_size=shot.objects > 0)
        tracks = draw_tracks(rng, self.casting, cast, frames, size, camera)
        sprites, place = tracks.sprites, tracks.place
        # Leaves above the rest, then by the chosen rule, then at random.
        height = rng.random(len(sprites))
        fakes_first = self.settings.population.order == "distractors_first"
        rule = (sprites.is_object, tracks.lot) if fakes_first else ()
        order = np.lexsort((height, *rule, sprites.layer))
        angle = sprites.angle + tracks.turned
        length = float(np.median(sprites.length)) if len(sprites) else 1.0
        wind = draw_wind(self.settings.wind, rng, frames, length, float(np.hypot(*size)))
        if wind is not None:
            shift, lean = wind.sway_sprites(
                place[0], sprites.angle, sprites.length, sprites.own_sway, np.arange(float(frames))
            )
            place, angle = place + shift, angle + lean
        return Scene(
            clip_index=clip_index,
            size=size,
            camera=camera,
            background=shot,
            sprites=sprites,
            order=order,
            instance=_identities(sprites.is_object, shot.objects),
            place=place,
            angle=angle,
            alive=tracks.alive,
            shade=draw_shade(self.settings.shadow, rng),
            lighting=draw_lighting(self.settings.light, rng, size),
            lens=draw_lens(self.settings, rng),
        )


def _identities(is_object: Bools, below: int) -> Ids:
    """Ids from 1 for objects, 0 for other sprites; then of ``below`` objects of the background."""
    sprites = int(np.count_nonzero(is_object))
    count = sprites + below
    if count > np.iinfo(np.uint16).max:
        found, expected = f"a clip would hold {count} objects", "at most 65535"
        remedy = "lower population.objects, enlarge appearance.size or shorten the clip"
        raise RunError.at("synthesis", found, expected, remedy)
    ids = np.where(is_object, np.cumsum(is_object), 0)
    return np.concatenate([ids, np.arange(sprites, count) + 1]).astype(np.uint16)
