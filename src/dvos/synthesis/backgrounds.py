"""Backgrounds: what there is of them, and how they lie in a clip.

Where all the frames fit the bound on what is kept decoded, each clip starts anywhere. Where they do
not, clips share starts: as many runs of frames as fit are in use at a time, and each block of
``reuse`` clips per run has its own. Which runs those are follows from the clip's index alone, so a
clip stays the same in every process, and a process that makes clips in order decodes each run once.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvos.config.scene import BackgroundSettings
from dvos.errors import MediaError
from dvos.files import stem_of
from dvos.media.image import image_size, read_image
from dvos.media.limits import ImageCache
from dvos.media.mask import is_binary, label_components, read_mask, without_unknown
from dvos.synthesis import Floats, Ids, Ints, Size, Words, log_uniform, signs, uniform
from dvos.synthesis.motion import CameraPath
from dvos.synthesis.scene import BackgroundShot
from dvos.tables import BackgroundRow

_LABELS = -1  # key of a frame's labels in the cache, in place of the number of halvings
_HALVED_BELOW = 0.6  # a background shown smaller than this is halved first


@dataclass(frozen=True)
class Background:
    """One background: a video's frames in order, or one still."""

    name: str  # Stem without the frame's number
    table: int  # Number of the table it came from
    frames: tuple[Path, ...]  # Paths
    size: Size  # Height and width of its first frame
    masks: tuple[Path | None, ...]  # Mask of each frame's own objects, None = it has none


def group_backgrounds(
    tables: Sequence[Sequence[BackgroundRow]], frames: str = "numbered"
) -> list[Background]:
    """Group the images of each table into backgrounds.

    ``numbered``: images of one folder and stem whose names end in ``_`` and six digits that rise by
    one, or from 0 on by any step, are a video. ``video``: any digits, with gaps. ``stills``: none.
    """
    pattern = {"numbered": r"(.+)_(\d{6})", "video": r"(.+?)_?(\d+)", "stills": r"(?!)"}[frames]
    found: list[tuple[str, int, list[BackgroundRow]]] = []
    # Background, last number and step; those from 0 on rise by the interval of an extraction.
    runs: dict[tuple[int, Path, str], tuple[int, int, int | None]] = {}
    for table, rows in enumerate(tables):
        for row in rows:
            match = re.fullmatch(pattern, stem_of(row.image))
            stem, number = (match[1], int(match[2])) if match else (stem_of(row.image), 0)
            key = (table, row.image.parent, stem)
            place, last, step = runs.get(key, (-1, 0, None)) if match else (-1, 0, None)
            rises = number - last
            broken = rises <= 0 if step is None else rises != step
            if place < 0 or (frames == "numbered" and broken):
                found.append((stem, table, []))
                place, rises = len(found) - 1, 1 if number else 0
            found[place][2].append(row)
            runs[key] = (place, number, rises or None)
    backgrounds = []
    for name, table, rows in found:
        images, masks = zip(*((row.image, row.mask) for row in rows), strict=True)
        backgrounds.append(Background(name, table, images, image_size(images[0]), masks))
    return backgrounds


class BackgroundStore:
    """The backgrounds, of which frames are kept decoded up to a bound, and shots drawn of them.

    A copy sent to another process starts empty. What cannot be read or is not of its
    background's size raises a MediaError.
    """

    def __init__(
        self,
        backgrounds: Sequence[Background],
        settings: BackgroundSettings,
        seed: int,  # of all clips
        intensity: str = "full",  # what becomes of samples of more than 8 bit, the same in all
        void: str = "auto",  # what means "unknown" in masks
    ) -> None:
        self.backgrounds = tuple(backgrounds)
        #: Frames, or masks, with what is known of them.
        self.cache = ImageCache(settings.cache_mb * 2**20, lambda entry: entry[0].nbytes)
        self.settings, self.seed = settings, seed
        self._how = intensity, void

    def __reduce__(self) -> tuple[Any, ...]:
        return BackgroundStore, (self.backgrounds, self.settings, self.seed, *self._how)

    def frame(self, background: int, frame: int, level: int) -> Words:
        """A frame as RGBX words (H, W), halved ``level`` times."""
        return self._get(background, frame, level)[0]

    def labels(self, background: int, frame: int) -> Ids | None:
        """Numbers (H, W) of the frame's own objects, 0 = none; None if it has no mask.

        Ids of an instance mask last over a video; parts of a semantic one are numbered anew.
        """
        mask = self.backgrounds[background].masks[frame]
        return None if mask is None else self._get(background, frame, _LABELS)[0]

    def object_count(self, background: int, frames: Ints) -> int:
        """The highest number of an object in any of the frames; 0 where there is none."""
        masks = self.backgrounds[background].masks
        shown = (k for k in np.unique(frames).tolist() if masks[k])
        return max((self._get(background, k, _LABELS)[1] for k in shown), default=0)

    def _get(self, background: int, frame: int, level: int) -> tuple[NDArray[Any], Any]:
        decode = partial(_decode, self.backgrounds[background], frame, level, *self._how)
        return self.cache.get((background, frame, level), decode)

    def draw(
        self,
        rng: Generator,
        clip_index: int,
        frames: int,
        size: Size,
        camera: CameraPath,
        table: int | None,  # only backgrounds of this table; None = all
        scale: float,  # size of everything relative to the drawn one
    ) -> BackgroundShot:
        """Draw one shot of ``frames`` frames.

        A background too small for the frame is enlarged; beyond its border it is mirrored.
        """
        number, start = self._run(rng, clip_index, frames, table)
        background = self.backgrounds[number]
        fitting = (s / p for s, p in zip(size, background.size, strict=True))
        scale = max(scale * log_uniform(rng, self.settings.scale), *fitting)
        mirrored = float(signs(rng, 1)[0]) if self.settings.flip else 1.0
        window = np.array(background.size) - np.array(size) / scale
        origin = rng.random(2) * np.maximum(window, 0)
        if scale == 1:
            origin = np.floor(origin)  # whole pixels stay as they were taken
        # A still's window travels and zooms by itself; a video moves as it was taken.
        moving = float(len(background.frames) == 1)
        speed = uniform(rng, self.settings.pan) * moving
        heading = uniform(rng, (0, 2 * np.pi))
        rate = uniform(rng, self.settings.zoom) * float(signs(rng, 1)[0]) * moving
        time = np.arange(frames, dtype=np.float64)
        path = speed * time[:, None] * np.array([np.sin(heading), np.cos(heading)])
        zoom = np.exp(rate * time)
        level = 1 if scale < _HALVED_BELOW else 0
        maps = _maps(camera, size, scale, mirrored, origin, path, zoom, level)
        # Frames from the start on; the film turns round at its ends.
        last = len(background.frames) - 1
        steps = (start + np.arange(frames)) % (2 * last) if last else np.zeros(frames, np.int64)
        order = np.where(steps <= last, steps, 2 * last - steps).astype(np.int64)
        colour = self._get(number, int(order[0]), level)[1]
        return BackgroundShot(number, order, level, maps, colour, self.object_count(number, order))

    def _run(
        self, rng: Generator, clip_index: int, frames: int, table: int | None
    ) -> tuple[int, int]:
        """Background and first frame: anywhere, or one of the runs in use."""
        choice = rng.random(3)
        backgrounds = self.backgrounds
        allowed = [n for n, p in enumerate(backgrounds) if table is None or p.table == table]
        if not allowed:
            raise ValueError(f"there is no background table {table}")
        frame_bytes = [4 * backgrounds[n].size[0] * backgrounds[n].size[1] for n in allowed]
        counts = [len(backgrounds[n].frames) for n in allowed]
        if sum(b * c for b, c in zip(frame_bytes, counts, strict=True)) > self.cache.memory:
            run_bytes = max(b * min(c, frames) for b, c in zip(frame_bytes, counts, strict=True))
            runs = max(int(0.9 * self.cache.memory // run_bytes), 1)
            block = clip_index // (runs * self.settings.reuse)
            which = int(choice[2] * runs)
            choice = np.random.default_rng([self.seed, block, which, 1]).random(3)
        # The first number decides between all or, first, those with objects of their own.
        share, own = float(choice[0]), [n for n in allowed if any(backgrounds[n].masks)]
        if 0 < len(own) < len(allowed):
            if share < self.settings.labelled:
                allowed, share = own, share / self.settings.labelled
            else:
                allowed = [n for n in allowed if n not in own]
                share = (share - self.settings.labelled) / (1 - self.settings.labelled)
        number = allowed[min(int(share * len(allowed)), len(allowed) - 1)]
        return number, int(choice[1] * max(len(backgrounds[number].frames) - frames + 1, 1))


def _decode(
    background: Background, frame: int, level: int, intensity: str, void: str
) -> tuple[NDArray[Any], Any]:
    """A frame as RGBX words with its mean colour, or its labels with the highest of them."""
    path, model = background.frames[frame], background.frames[0]
    remedy = "extract the frames of one video with one setting"
    mask = background.masks[frame] if level == _LABELS else None
    if mask:
        path, model, remedy = mask, path, "give each photo the mask that was drawn on it"
    array = without_unknown(read_mask(path, void)) if mask else read_image(path, intensity)
    if array.shape[:2] != background.size:
        found = f"is {array.shape[0]} x {array.shape[1]} px"
        expected = f"{background.size[0]} x {background.size[1]} px as {model}"
        raise MediaError.at(path, found, expected, remedy)
    if mask:
        numbers = label_components(array) if is_binary(array) else array
        if numbers.dtype not in (np.uint8, np.uint16):
            raise MediaError.at(path, "has more than 65535 parts", "a mask of objects")
        return numbers.astype(np.uint16), int(numbers.max(initial=0))
    for _ in range(level):
        height, width = max(array.shape[0] // 2, 1), max(array.shape[1] // 2, 1)
        array = cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA)
    rgbx = cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_RGB2RGBA)
    return rgbx.view(np.uint32)[..., 0], rgbx[::4, ::4, :3].reshape(-1, 3).mean(0)


def _maps(
    camera: CameraPath,
    size: Size,
    scale: float,
    mirrored: float,
    origin: Floats,
    path: Floats,
    zoom: Floats,
    level: int,
) -> Floats:
    """Maps (T, 2, 3) from the frame to the background halved ``level`` times."""
    maps = camera.background_maps()
    centre = (np.array(size) - 1) / 2
    # The still's own window: pan and zoom about the frame's centre.
    maps[:, :, 2] += path
    maps = maps / zoom[:, None, None]
    maps[:, :, 2] += centre * (1 - 1 / zoom[:, None])
    if mirrored < 0:
        maps[:, 1] = -maps[:, 1]
        maps[:, 1, 2] += size[1] - 1
    # Pixel centres: background = (frame + 0.5) / scale - 0.5 + origin.
    factor = 1 / (scale * 2**level)
    maps = maps * factor
    maps[:, :, 2] += 0.5 * factor - 0.5 + origin / 2**level
    return np.asarray(maps)
