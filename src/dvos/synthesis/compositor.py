"""Rendering: a scene, some frames of it and a window, to pixels and truth."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from scipy.special import ndtri

from dvos.synthesis import Bools, Bytes, Ids, Ints, Ints32, Singles, Words
from dvos.synthesis.atlas import BORDER, Atlas
from dvos.synthesis.backgrounds import BackgroundStore
from dvos.synthesis.flow import background_step, fill_flow
from dvos.synthesis.kernels import packed
from dvos.synthesis.kernels.sprites import draw_sprites
from dvos.synthesis.scene import Scene, light_grid, shadow_pad, sprite_poses, texture_levels

Window = tuple[int, int, int, int]  # y, x, height and width, in the frame

_BLOCK = 16  # JPEG units of 4:2:0
_NOISE_STRIDE = 0xD1B54A32D192ED03  # an odd number: a key of its own for each frame

#: Quantiles of a normal variable, 1024 = one.
_NORMAL = np.rint(1024 * ndtri((np.arange(4096) + 0.5) / 4096)).astype(np.int16)


class InstanceRow(NamedTuple):
    """One instance in one frame, where any of it lies in the window."""

    frame_index: int  # Place in the clip's frames, from 0
    instance: int  # Its permanent id
    y0: int  # Box of its visible pixels, ends excluded; all 0 where it is wholly hidden
    y1: int
    x0: int
    x1: int
    visible_area: int  # Pixels not hidden
    full_area: int  # Pixels in the window before occlusion
    entering: bool  # Was not in the window in the frame before
    leaving: bool  # Is not in the window in the next frame


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """A clip with its complete truth; T frames, N sprites and objects of the background."""

    plate: str  # name of the background
    identity: Ids  # (N,): id of each sprite, 0 = distractor, then of the background's objects
    frames: Bytes  # uint8 (T, H, W, 3), RGB
    instances: Ids  # uint16 (T, H, W): permanent ids, 0 = background and distractors
    full: Ints  # int64 (T, N): pixels of alpha above half in the window, before occlusion
    visible: Ints  # int64 (T, N): those not hidden
    box: Ints32  # int32 (T, N, 4): y0, y1, x0, x1 of the visible ones, in the window
    # float32 (T, H, W, 2): way in px (y, x) to each pixel's place in the frame before; NaN in
    # the first frame and where a sprite was not there before; without a background's own motion.
    flow: Singles | None = None

    @cached_property
    def table(self) -> list[InstanceRow]:
        """Rows by frame, then by instance."""
        present = (self.full > 0) & (self.identity > 0)
        by_id = np.argsort(self.identity, kind="stable")
        t, rank = np.nonzero(present[:, by_id])
        n = by_id[rank]
        # Nobody enters in the first frame, or leaves after the last.
        near = np.concatenate([present[:1], present, present[-1:]])
        areas, moves = (self.visible[t, n], self.full[t, n]), (~near[t, n], ~near[t + 2, n])
        columns = (t, self.identity[n], *self.box[t, n].T, *areas, *moves)
        return [*map(InstanceRow, *(column.tolist() for column in columns))]


def render(
    scene: Scene,
    atlas: Atlas,  # Its cutouts
    backgrounds: BackgroundStore,  # Its backgrounds
    frames: Ints,  # (F,) frame numbers, in any order
    window: Window,  # y, x, height, width; inside the frame
    flow: bool = False,  # Whether to work out the flow as well
) -> SyntheticClip:
    """Render frames of a scene in a window.

    The pixels are those that rendering the whole frame gives there, byte for byte: what reaches in
    from outside is drawn as well, and then cut off.
    """
    (y, x, height, width), drawn = window, _expanded(scene, window)
    top, left = y - drawn[0], x - drawn[1]
    cut = np.s_[top : top + height, left : left + width]
    poses = sprite_poses(scene, atlas, frames)
    near = _touching(poses.box, drawn) | _touching(poses.shadow_box, drawn)
    textures = _bake(scene, atlas, np.flatnonzero(near.any(0)))
    count, owners, sprites = len(frames), len(scene.instance), len(scene.sprites)
    result = SyntheticClip(
        plate=backgrounds.backgrounds[scene.background.number].name,
        identity=scene.instance,
        frames=np.empty((count, height, width, 3), np.uint8),
        instances=np.empty((count, height, width), np.uint16),
        full=np.zeros((count, owners), np.int64),
        visible=np.zeros((count, owners), np.int64),
        box=np.zeros((count, owners, 4), np.int32),
        flow=np.full((count, height, width, 2), np.nan, np.float32) if flow else None,
    )
    before = sprite_poses(scene, atlas, np.maximum(frames - 1, 0)) if flow else None
    pixels, owner = np.empty(drawn[2:], np.uint32), np.empty(drawn[2:], np.int32)
    image = np.empty((*drawn[2:], 3), np.uint8)
    canvas = _Canvas(scene, backgrounds, pixels, owner, drawn[:2])
    inner_box = np.array([y, y + height, x, x + width])
    darkness = 0 if scene.shade is None else round(256 * scene.shade.strength)
    for k, frame in enumerate(frames.tolist()):
        canvas.draw_background(frame)
        canvas.draw_own_objects(frame)
        if owners > sprites:
            below = np.bincount(canvas.owner[cut].ravel(), minlength=owners + 1)
            result.full[k, sprites:] = below[sprites + 1 :]
        draw_sprites(
            *(pixels, owner, result.full[k], canvas.corner, inner_box),
            *(scene.order[near[k][scene.order]], textures, poses, k, darkness),
        )
        canvas.finish(frame, image)
        result.frames[k] = image[cut]
        inner = np.ascontiguousarray(canvas.owner[cut])
        seen = result.instances[k], result.visible[k], result.box[k]
        packed.measure_owners(inner, scene.instance, *seen)
        # The first frame has none before it.
        if before is not None and result.flow is not None and frame > 0:
            # What the background shows moves as the background does.
            inner = np.where(inner > sprites, 0, inner)
            earlier = before, k, scene.alive[frame - 1], background_step(scene, frame)
            fill_flow(inner, window[:2], textures.place, poses, *earlier, result.flow[k])
    return result


def _expanded(scene: Scene, window: Window) -> Window:
    """The window with all that reaches into it, within the frame."""
    reach = _kernel_size(scene.lens.defocus) // 2 if scene.lens.defocus > 0 else 0
    # Whole JPEG units, and one more, as chroma is smoothed between units; two where all is blurred.
    unit, more = (_BLOCK, 2 if reach else 1) if scene.lens.quality else (1, 0)

    def along(start: int, size: int, whole: int) -> tuple[int, int]:
        first = max(((start - reach) // unit - more) * unit, 0)
        return first, min((-(-(start + size + reach) // unit) + more) * unit, whole) - first

    (y, height), (x, width) = map(along, window[:2], window[2:], scene.size)
    return y, x, height, width


def _touching(box: Ints32, window: Window) -> Bools:
    """Which of the boxes (..., 4) meet a window."""
    start, size = np.array(window[:2]), np.array(window[2:])
    return np.asarray(((box[..., ::2] < start + size) & (box[..., 1::2] > start)).all(-1))


def _laid_out(shapes: Ints, which: Ints) -> tuple[Ints, int]:
    """Where ``which`` of N (height, width) begin if they lie end to end: (N, 3), and the end."""
    place, areas = np.pad(shapes, [(0, 0), (1, 0)]), shapes[which].prod(1)
    place[which, 0] = np.cumsum(areas) - areas
    return place, int(areas.sum())


def _bake(scene: Scene, atlas: Atlas, which: Ints) -> packed.Textures:
    """packed.Textures and shadows of the sprites ``which``; those of the others are left out."""
    sprites, levels = scene.sprites, texture_levels(scene)
    source = atlas.place[sprites.cutout, levels]
    place, texels = _laid_out(source[:, 1:], which)
    cells, shadows = _laid_out((source[:, 1:] + 3) // 4 + 2 * shadow_pad(scene), which)
    room = np.empty(texels, np.uint32), np.empty(shadows, np.uint8)
    textures = packed.Textures(room[0], place, room[1], cells)
    per_texel = sprites.scale.mean(1) * 2.0**levels
    feather = np.maximum(sprites.feather / per_texel, 0.3)
    # The soft edge must end within the border that the atlas keeps.
    shrink = np.maximum(sprites.shrink / per_texel, feather / 2 - (BORDER - 1))
    colour = np.rint(1024 * sprites.colour).astype(np.int64)
    first = np.ascontiguousarray(source[:, 0])
    packed.bake_textures(atlas.texels, which, first, colour, feather, shrink, textures)
    if scene.shade is not None:
        packed.bake_shadows(textures, which, shadow_pad(scene), round(scene.shade.softness))
    return textures


@dataclass(frozen=True)
class _Canvas:
    """A frame in the making: the window wanted, and as much round it as reaches into it."""

    scene: Scene
    backgrounds: BackgroundStore
    pixels: Words  # uint32 (h, w) of RGBX words
    owner: Ints32  # int32 (h, w): sprite number + 1, 0 = background
    corner: tuple[int, int]  # Row and column of the frame at which it begins

    def draw_background(self, frame: int) -> None:
        """Fill the pixels from the background."""
        shot = self.scene.background
        background = self.backgrounds.frame(shot.number, int(shot.frames[frame]), shot.level)
        matrix = shot.maps[frame]
        blur = np.zeros(2)
        if self.scene.lens.shutter > 0 and len(shot.maps) > 1:
            end, middle = max(frame, 1), np.array([*self.scene.camera.centre, 1.0])
            blur = self.scene.lens.shutter * (shot.maps[end - 1] - shot.maps[end]) @ middle
        shift = matrix[:, 2]
        if np.array_equal(matrix[:, :2], np.eye(2)) and not blur.any() and (shift % 1 == 0).all():
            y, x = int(shift[0]) + self.corner[0], int(shift[1]) + self.corner[1]
            height, width = self.pixels.shape
            high, wide = background.shape
            if 0 <= y <= high - height and 0 <= x <= wide - width:
                self.pixels[:] = background[y : y + height, x : x + width]
                return
        packed.draw_background(self.pixels, self.corner, background, matrix, blur)

    def draw_own_objects(self, frame: int) -> None:
        """Fill the owners with the background's own objects, numbered on after the sprites."""
        shot = self.scene.background
        number = int(shot.frames[frame])
        labels = self.backgrounds.labels(shot.number, number) if shot.objects else None
        if labels is None:
            self.owner[:] = 0
            return
        matrix = shot.maps[frame] * 2.0**shot.level  # from halved pixels to the mask's
        matrix[:, 2] += (2.0**shot.level - 1) / 2
        packed.draw_labels(self.owner, self.corner, labels, matrix, len(self.scene.sprites))

    def finish(self, frame: int, image: Bytes) -> None:
        """Defocus, light, noise, compression: to RGB, written to ``image``."""
        lens, lit = self.scene.lens, self.scene.lighting
        channels = self.pixels.view(np.uint8).reshape(*self.pixels.shape, 4)
        if lens.defocus > 0:
            size = (_kernel_size(lens.defocus),) * 2
            border = cv2.BORDER_REFLECT_101
            channels = cv2.GaussianBlur(channels, size, lens.defocus, borderType=border)
        noisy = lens.read_noise > 0 or lens.shot_noise > 0
        if lit is None and not noisy:
            cv2.cvtColor(channels, cv2.COLOR_RGBA2RGB, dst=image)
        else:
            sigma = np.sqrt(lens.read_noise**2 + lens.shot_noise**2 * np.arange(256) / 255)
            words = np.ascontiguousarray(channels).view(np.uint32)[..., 0]
            gains = light_grid(lit, self.scene.size, frame) if lit else np.zeros((0, 0, 3), int)
            deviation = np.rint(1024 * sigma).astype(np.int32)
            key = np.uint64((lens.noise_key + frame * _NOISE_STRIDE) % 2**64)
            packed.finish_frame(
                words, self.corner, gains, lit is not None, _NORMAL, deviation, key, noisy, image
            )
        if lens.quality:
            data = simplejpeg.encode_jpeg(image, lens.quality, "RGB", "420", fastdct=False)
            image[:] = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)


def _kernel_size(sigma: float) -> int:
    return 2 * int(np.ceil(3 * sigma)) + 1
