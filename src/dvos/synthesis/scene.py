"""A scene: everything that was drawn for one clip, as plain data.

A frame is a pure function of the scene and its number, so frames may be
rendered in any order, and any window of them without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dvos.synthesis.camera import CameraPath
from dvos.synthesis.effects import Lens, Lighting, Shade
from dvos.synthesis.motion import Bending

__all__ = ["PlateShot", "Scene", "Sprites", "joined"]


@dataclass(frozen=True)
class Sprites:
    """Who takes part and how each looks; N sprites.

    Nothing here but ``instance`` and ``is_object`` tells objects from
    distractors, and nothing that draws reads these two.

    Attributes:
        cutout: int64 (N,), number in the atlas.
        is_object: bool (N,).
        layer: int64 (N,): higher layers lie over lower ones.
        scale: float64 (N, 2): px per cutout px, down and across.
        flip: float64 (N, 2): -1 where mirrored.
        angle: float64 (N,): turn at rest, radians.
        colour: float64 (N, 3, 4): colour matrix on 0..255.
        feather: float64 (N,): width of the soft edge, px.
        shrink: float64 (N,): edge drawn inward, px.
        depth: float64 (N,): -1..1, place in the spread of the parallax.
        own_sway: float64 (N, 3), see ``WindField.sway_sprites``.
        bending: Of each sprite.
        length: float64 (N,): longer side, px.
        area: float64 (N,): px inside the contour.
    """

    cutout: NDArray[np.int64]
    is_object: NDArray[np.bool_]
    layer: NDArray[np.int64]
    scale: NDArray[np.float64]
    flip: NDArray[np.float64]
    angle: NDArray[np.float64]
    colour: NDArray[np.float64]
    feather: NDArray[np.float64]
    shrink: NDArray[np.float64]
    depth: NDArray[np.float64]
    own_sway: NDArray[np.float64]
    bending: Bending
    length: NDArray[np.float64]
    area: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cutout)


def joined(parts: list[Sprites]) -> Sprites:
    """Several lots of sprites as one, in their order."""
    if len(parts) == 1:
        return parts[0]
    values = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts])
        for f in fields(Sprites)
        if f.name != "bending"
    }
    bending = Bending(
        **{
            f.name: np.concatenate([getattr(p.bending, f.name) for p in parts])
            for f in fields(Bending)
        }
    )
    return Sprites(**values, bending=bending)


@dataclass(frozen=True)
class PlateShot:
    """Which frames of which background, and how they lie in the frame.

    Attributes:
        plate: Number of the plate.
        frames: int64 (T,): frame numbers within it.
        level: How often the plate is halved before it is drawn.
        maps: float64 (T, 2, 3): frame (y, x, 1) to the (halved) plate.
        colour: float64 (3,): the first frame's mean colour.
        objects: P, the highest number of an object of its own; 0 = it has none.
    """

    plate: int
    frames: NDArray[np.int64]
    level: int
    maps: NDArray[np.float64]
    colour: NDArray[np.float64]
    objects: int = 0


@dataclass(frozen=True)
class Scene:
    """All draws of one clip of T frames and N sprites.

    Attributes:
        clip_index: Which clip.
        size: Height and width of the frame, px.
        camera: Its path.
        plate: The background.
        sprites: In no order of drawing.
        order: int64 (N,): sprite numbers in painter's order.
        instance: uint16 (N + P,): permanent ids of the sprites, 0 = distractor, then of
            the plate's own objects.
        place: float64 (T, N, 2): centres on the canopy, y and x.
        angle: float64 (T, N): radians.
        alive: bool (T, N): in the scene at all.
        shade: Shadows, or None.
        lighting: Drifting light, or None.
        lens: How the frames were taken.
    """

    clip_index: int
    size: tuple[int, int]
    camera: CameraPath
    plate: PlateShot
    sprites: Sprites
    order: NDArray[np.int64]
    instance: NDArray[np.uint16]
    place: NDArray[np.float64]
    angle: NDArray[np.float64]
    alive: NDArray[np.bool_]
    shade: Shade | None
    lighting: Lighting | None
    lens: Lens

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.place)
