"""A scene: everything that was drawn for one clip, as plain data, and where each sprite lies.

A frame is a pure function of the scene and its number: any may be rendered, or any part, alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.random import Generator

from dvos.config.scene import LightSettings, SceneSettings, ShadowSettings
from dvos.synthesis import Bools, Floats, Ids, Ints, Ints32, Singles, Size, uniform
from dvos.synthesis.atlas import BORDER, LEVELS, Atlas
from dvos.synthesis.motion import Bending, CameraPath, rotations

_CELL = 32  # px between the corners of the grid of gains
_ONE = 4096


@dataclass(frozen=True)
class Shade:
    """Shadows of a clip: darkening 0..1, offset (2,) in sprite lengths, softness in cells."""

    strength: float
    offset: Floats
    softness: float


@dataclass(frozen=True)
class Lighting:
    """Drifting light of a clip."""

    drift: float  # Amplitude of the whole frame's brightness
    drift_phase: float  # Radians
    rate: float  # Radians per frame
    clouds: float  # Most darkening by clouds
    wave: Floats  # (K, 2) wave vectors of the clouds, radians per px
    speed: Floats  # (K,) radians per frame
    phase: Floats  # (K,)
    tint: Floats  # (3,) gain of each channel


@dataclass(frozen=True)
class Lens:
    """How the frames were taken."""

    shutter: float  # Open share of the time between frames; 0 = no motion blur
    defocus: float  # Gaussian sigma, px; 0 = sharp
    read_noise: float  # Grey levels
    shot_noise: float  # Grey levels at full brightness
    noise_key: int  # Key of the noise, 64 bit
    quality: int  # JPEG quality; 0 = not compressed


def draw_shade(settings: ShadowSettings, rng: Generator) -> Shade | None:
    """Draw a clip's shadows; None if switched off."""
    if not settings.enabled:
        return None
    strength = uniform(rng, settings.strength)
    distance = uniform(rng, settings.offset)
    heading = uniform(rng, (0, 2 * math.pi))
    offset = distance * np.array([math.sin(heading), math.cos(heading)])
    return Shade(strength, offset, uniform(rng, settings.softness))


def draw_lighting(settings: LightSettings, rng: Generator, size: Size) -> Lighting | None:
    """Draw a clip's drifting light over frames of ``size``; None if switched off."""
    if not settings.enabled:
        return None
    drift = uniform(rng, settings.drift)
    phase = uniform(rng, (0, 2 * math.pi))
    period = uniform(rng, settings.period)
    clouds = uniform(rng, settings.clouds)
    length = uniform(rng, settings.cloud_size) * max(size) * (0.6 + 0.8 * rng.random(3))
    heading = 2 * math.pi * rng.random(3)
    wave = np.stack([np.sin(heading), np.cos(heading)], 1) * (2 * math.pi / length)[:, None]
    speed = 2 * math.pi / period * (0.5 + rng.random(3))
    phases = 2 * math.pi * rng.random(3)
    tint = 1 + uniform(rng, settings.tint) * (2 * rng.random(3) - 1)
    return Lighting(drift, phase, 2 * math.pi / period, clouds, wave, speed, phases, tint)


def light_grid(light: Lighting, size: Size, frame: int) -> Ints:
    """Gains (rows, columns, 3) on the corners of 32 px cells; 4096 = one."""
    rows, columns = size[0] // _CELL + 2, size[1] // _CELL + 2
    y = np.arange(rows)[:, None] * float(_CELL)
    x = np.arange(columns)[None, :] * float(_CELL)
    total = np.zeros((rows, columns))
    for (wy, wx), speed, phase in zip(light.wave, light.speed, light.phase, strict=True):
        total += np.sin(wy * y + wx * x + speed * frame + phase)
    whole = 1 + light.drift * math.sin(light.rate * frame + light.drift_phase)
    gain = whole * (1 - light.clouds * np.clip(total / 3 + 0.25, 0, 1))
    return np.rint(_ONE * gain[..., None] * light.tint).astype(np.int64)


def draw_lens(settings: SceneSettings, rng: Generator) -> Lens:
    """Draw a clip's lens; effects that are switched off are drawn as nothing."""
    blur, defocus = settings.motion_blur, settings.defocus
    noise, compression = settings.noise, settings.compression
    shutter = uniform(rng, blur.shutter) * blur.enabled
    defocused = float(rng.random()) < defocus.probability * defocus.enabled
    sigma = uniform(rng, defocus.sigma) * defocused
    read = uniform(rng, noise.read) * noise.enabled
    shot = uniform(rng, noise.shot) * noise.enabled
    key = int(rng.integers(0, 2**63))
    compressed = float(rng.random()) < compression.probability * compression.enabled
    quality = round(uniform(rng, compression.quality)) * compressed
    return Lens(shutter, sigma, read, shot, key, quality)


S = TypeVar("S")


@dataclass(frozen=True)
class Sprites:
    """Who takes part and how each looks; N sprites. Nothing that draws reads ``is_object``."""

    cutout: Ints  # int64 (N,), number in the atlas
    is_object: Bools  # bool (N,)
    layer: Ints  # int64 (N,): higher layers lie over lower ones
    scale: Floats  # float64 (N, 2): px per cutout px, down and across
    flip: Floats  # float64 (N, 2): -1 where mirrored
    angle: Floats  # float64 (N,): turn at rest, radians
    colour: Floats  # float64 (N, 3, 4): colour matrix on 0..255
    feather: Floats  # float64 (N,): width of the soft edge, px
    shrink: Floats  # float64 (N,): edge drawn inward, px
    depth: Floats  # float64 (N,): -1..1, place in the spread of the parallax
    own_sway: Floats  # float64 (N, 3), see ``WindField.sway_sprites``
    bending: Bending  # Of each sprite
    length: Floats  # float64 (N,): longer side, px

    def __len__(self) -> int:
        return len(self.cutout)

    def joined(self, more: Self) -> Self:
        """These sprites and then ``more``."""
        return _mapped(lambda one, two: np.concatenate([one, two]), self, more)

    def subset(self, which: Bools) -> Self:
        """The sprites for which ``which`` (N,) is true."""
        return _mapped(lambda values: values[which], self)


def _mapped(function: Callable[..., Any], *parts: S) -> S:
    """A data class, nested ones too, whose arrays are ``function`` of those of ``parts``."""

    def value(*mine: Any) -> Any:
        return _mapped(function, *mine) if is_dataclass(mine[0]) else function(*mine)

    return type(parts[0])(*map(value, *(vars(part).values() for part in parts)))


@dataclass(frozen=True)
class BackgroundShot:
    """Which frames of which background, and how they lie in the frame."""

    number: int
    frames: Ints  # int64 (T,): frame numbers within it
    level: int  # How often the background is halved before it is drawn
    maps: Floats  # float64 (T, 2, 3): frame (y, x, 1) to the (halved) background
    colour: Floats  # float64 (3,): the first frame's mean colour
    objects: int = 0  # P, the highest number of an object of its own; 0 = it has none


@dataclass(frozen=True)
class Scene:
    """All draws of one clip of T frames and N sprites."""

    size: Size  # Height and width of the frame, px
    camera: CameraPath
    background: BackgroundShot
    sprites: Sprites  # In no order of drawing
    order: Ints  # int64 (N,): sprite numbers in painter's order
    instance: Ids  # (N + P,): ids of the sprites, 0 = distractor, then of the background's objects
    place: Floats  # float64 (T, N, 2): centres on the canopy, y and x
    angle: Floats  # float64 (T, N): radians
    alive: Bools  # bool (T, N): in the scene at all
    shade: Shade | None
    lighting: Lighting | None
    lens: Lens  # How the frames were taken

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.place)


HALVED_BELOW = 0.6  # sprites drawn smaller take the next, halved level of the atlas

_SHADOW_CELL = 4


class Poses(NamedTuple):
    """Poses of N sprites in F frames; contiguous, as compiled kernels take them."""

    forward: Floats  # float64 (F, N, 2, 3): texture (row, column, 1) to frame (y, x)
    inverse: Floats  # float64 (F, N, 2, 3): frame (y, x, 1) to texture
    grid: Singles  # float32 (F, N, 3, 3, 2): added to the texture coordinates, in texels
    reach: Floats  # float64 (F, N): largest displacement
    blur: Floats  # float64 (F, N, 2): path during the exposure, in texels
    box: Ints32  # int32 (F, N, 4): y0, y1, x0, x1 in the frame that hold the sprite
    shadow_inverse: Floats  # float64 (F, N, 2, 3): frame to shadow cells
    shadow_box: Ints32  # int32 (F, N, 4)


def texture_levels(scene: Scene) -> Ints:
    """Level (N,) of the atlas that each sprite is drawn from."""
    scale = np.maximum(scene.sprites.scale.max(1), 1e-6)
    return np.asarray(np.clip(np.ceil(np.log2(HALVED_BELOW / scale)), 0, LEVELS - 1), np.int64)


def shadow_pad(scene: Scene) -> int:
    """Empty cells round each sprite's shadow."""
    return 0 if scene.shade is None else 2 * round(scene.shade.softness)


def _centres(scene: Scene, frames: Ints) -> Floats:
    """Centres (F, N, 2) of the sprites in the frame."""
    depth = 1 + scene.camera.spread * scene.sprites.depth
    return scene.camera.view(scene.place[frames], depth, frames)


def _maps(scene: Scene, shape: Ints, levels: Ints, frames: Ints) -> tuple[Floats, Floats]:
    """Maps (F, N, 2, 3) from texture to frame, and back."""
    sprites, camera = scene.sprites, scene.camera
    turn = rotations(scene.angle[frames] + camera.roll[frames, None])
    size = sprites.scale * sprites.flip * (2.0**levels)[:, None]
    linear = turn * (camera.zoom[frames, None, None] * size)[:, :, None, :]
    shift = _centres(scene, frames) - np.einsum("fnij,nj->fni", linear, (shape - 1) / 2)
    a, b, c, d = (linear[..., i, j] for i in (0, 1) for j in (0, 1))
    one = 1 / (a * d - b * c)
    back = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) * one[..., None, None]
    shift_back = -np.einsum("fnij,fnj->fni", back, shift)
    forward = np.concatenate([linear, shift[..., None]], 3)
    return forward, np.concatenate([back, shift_back[..., None]], 3)


def _boxes(forward: Floats, low: Floats, high: Floats) -> Ints32:
    """Frame boxes (F, N, 4) of texture rectangles from ``low`` to ``high``, (F, N, 2)."""
    centre = np.einsum("fnij,fnj->fni", forward[..., :2], (low + high) / 2) + forward[..., 2]
    extent = np.einsum("fnij,fnj->fni", np.abs(forward[..., :2]), (high - low) / 2)
    least = np.clip(np.floor(centre - extent), -1e6, 1e6)
    most = np.clip(np.ceil(centre + extent) + 1, -1e6, 1e6)
    return np.stack([least[..., 0], most[..., 0], least[..., 1], most[..., 1]], -1).astype(np.int32)


def sprite_poses(scene: Scene, atlas: Atlas, frames: Ints) -> Poses:
    """Work out the poses of all sprites in the frames asked for.

    The path during the exposure is ``shutter`` times the way of the centre from the frame before.
    """
    sprites = scene.sprites
    levels = texture_levels(scene)
    shape = atlas.place[sprites.cutout, levels, 1:]
    forward, inverse = _maps(scene, shape, levels, frames)
    longer = atlas.length[sprites.cutout] / 2.0**levels
    grid = sprites.bending.grids(frames.astype(np.float64)) * longer[:, None, None, None]
    reach = np.abs(grid).max((2, 3, 4))
    blur = np.zeros((len(frames), len(sprites), 2))
    if scene.lens.shutter > 0:
        # The first frame has none before it: it takes the path to the second.
        last = scene.frames - 1
        ends = np.clip(frames, min(1, last), last)
        path = _centres(scene, ends) - _centres(scene, np.maximum(ends - 1, 0))
        blur = scene.lens.shutter * np.einsum("fnij,fnj->fni", inverse[..., :2], path)
    room = (reach + 0.5 * np.abs(blur).max(2))[..., None]
    inside = BORDER - 4.0  # texels that can never be opaque are left out
    box = _boxes(forward, inside - room, (shape - 1.0 - inside) + room)
    shadow_inverse, shadow_box = _shadows(scene, forward, inverse, shape)
    alive = scene.alive[frames][..., None]
    box, shadow_box = (np.where(alive, one, np.int32(0)) for one in (box, shadow_box))
    grids = grid.astype(np.float32)
    poses = (forward, inverse, grids, reach, blur, box, shadow_inverse, shadow_box)
    return Poses(*map(np.ascontiguousarray, poses))


def _shadows(scene: Scene, forward: Floats, inverse: Floats, shape: Ints) -> tuple[Floats, Ints32]:
    """Maps from the frame to shadow cells, and the shadows' boxes."""
    if scene.shade is None:
        return inverse, np.zeros((*inverse.shape[:2], 4), np.int32)
    offset = scene.shade.offset * scene.sprites.length[:, None]
    pad = shadow_pad(scene)
    cast = inverse.copy()
    cast[..., 2] -= np.einsum("fnij,nj->fni", cast[..., :2], offset)
    cast /= _SHADOW_CELL
    cast[..., 2] += pad - 1.5 / _SHADOW_CELL  # a cell's middle lies 1.5 texels after its first
    moved = forward.copy()
    moved[..., 2] += offset
    edge = np.broadcast_to(np.float64(_SHADOW_CELL * pad), (*forward.shape[:2], 2))
    return cast, _boxes(moved, -edge, shape + edge)
