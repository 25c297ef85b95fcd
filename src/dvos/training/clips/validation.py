"""Validation clips: a fixed list, whole frames, nothing augmented.

They come in two kinds. *Queries* are labelled frames, each with the references before it. *Tracks*
are frames in a row, the first one with objects on it and its mask given.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvos.config.data import LabelledVideoSettings, MotionSettings, ValidationSettings
from dvos.errors import FaultCollector, MediaError, check_size
from dvos.files import absent, stem_of
from dvos.media.frames import FrameSource, open_frames
from dvos.media.layout import MASK_SUFFIXES, evenly, list_files
from dvos.media.limits import ImageCache
from dvos.media.mask import IGNORE
from dvos.tables import frame_stem
from dvos.training.augment.spatial import Box, cut, resize_frame, resize_ids
from dvos.training.clips import clip as sources
from dvos.training.clips import stills as pans
from dvos.training.clips.clip import Clip, ClipRequest, labelled_clip
from dvos.training.clips.files import ClipFiles, DecodedMask, FrameClip
from dvos.training.clips.stills import LabelledStill

if TYPE_CHECKING:
    from dvos.synthesis.build import ClipGenerator


@dataclass(frozen=True)
class ValidationRequest:
    """What validation clips are wanted."""

    tracks: bool  # With the ids of every frame; else queries, with those of the last frame alone.
    frames: int  # Frames of a clip; of a track the most.
    still_frames: int  # Frames of a pan over a still.
    synthetic: int  # Synthetic clips where there is nothing else.
    #: Of queries, whether their objects, and those of the frame before where it is labelled, are
    #: told apart; else all are one.
    objects: bool = False

    def clip(self, frames: int, size: tuple[int, int] = (0, 0)) -> ClipRequest:
        """What is asked for of a clip of this many frames and (height, width)."""
        return ClipRequest(frames, size, every_frame=self.tracks, objects=self.objects)


@dataclass(frozen=True)
class ValidationClip:
    """A clip by its name; ``read`` always gives the same."""

    name: str
    read: Callable[[], Clip]

    def resized(self, scale: float) -> ValidationClip:
        """The clip with heights and widths times ``scale``."""
        if scale == 1:
            return self

        def read() -> Clip:
            clip = self.read()
            height, width = (max(1, round(side * scale)) for side in clip.frames.shape[1:3])
            size = (height, width)
            frames = np.stack([resize_frame(frame, size) for frame in clip.frames])
            masks = np.stack([resize_ids(ids, size, as_one=False) for ids in clip.ids])
            return Clip(frames, masks, clip.labelled, clip.tells_apart)

        return ValidationClip(self.name, read)


def validation_stills(
    stills: Sequence[LabelledStill], settings: ValidationSettings, request: ValidationRequest
) -> list[ValidationClip]:
    """Stills as pans that end (tracks: begin) with all of them; a MediaError if no track is one."""
    chosen = list(stills)
    if request.tracks:
        few = evenly(stills, settings.limit)
        chosen = [still for still in few if pans.load_still(still, as_one=False).mask.only != 0]
        if not chosen:
            found = "has no object, nor have the others"
            raise MediaError.at(str(stills[0].mask), found, "labelled objects")

    def read(number: int) -> Clip:
        asked = request.clip(request.still_frames)
        still = pans.load_still(chosen[number], as_one=asked.as_one)
        box = middle_box(still.mask.ids.shape, settings.largest_side)
        speed = settings.speed
        motion = MotionSettings(preset="none", speed=speed, fast_speed=speed, fast_share=1.0)
        # A seed of its own, whatever the run's seed, so that runs can be compared.
        path = pans.draw_path(np.random.default_rng(number), motion, request.still_frames)
        frames = pans.show_pan(still.image, box, path)
        shown = pans.show_ids(still.mask.ids.astype(np.uint16), box, path, request=asked)
        step = -1 if asked.every_frame else 1
        return labelled_clip(asked, frames[::step], shown[::step], [still.mask.only])

    names = [stem_of(still.image) for still in chosen]
    return [ValidationClip(name, partial(read, number)) for number, name in enumerate(names)]


def validation_files(
    clips: Sequence[FrameClip],
    settings: ValidationSettings,
    request: ValidationRequest,
    *,
    interval: int,
) -> list[ValidationClip]:
    """Clips, references ``interval`` apart; a MediaError if tracks are wanted and none is one."""
    files = ClipFiles(ImageCache(0))

    def read(clip: FrameClip, frame_ids: list[int]) -> Clip:
        size, _ = files.look_at(clip.masks[frame_ids[0 if request.tracks else -1]], clip.void)
        box = middle_box(size, settings.largest_side)
        asked = request.clip(len(frame_ids), (box.height, box.width))
        return files.read(clip, frame_ids, box, asked, size=size)

    parts: list[tuple[str, FrameClip, list[int]]] = []
    if request.tracks:
        few = evenly(clips, settings.limit)
        tracks = ((clip, _track(files, clip, request.frames)) for clip in few)
        parts += [(clip.name, clip, ids) for clip, ids in tracks if ids]
        if not parts:
            names = ", ".join(clip.name for clip in clips[:3])
            raise _no_track(names, "no frame with an object is followed by a labelled one", request)
    else:
        queries = [(clip, query) for clip in clips for query in clip.masks]
        for clip, query in evenly(queries, settings.limit):
            earlier = clip.references(query, count=request.frames - 1, interval=interval)
            name = f"{clip.name}/{frame_stem(clip.frames[query])}"
            parts.append((name, clip, [*earlier, query]))
    return [ValidationClip(name, partial(read, clip, ids)) for name, clip, ids in parts]


def _track(files: ClipFiles, clip: FrameClip, frames: int) -> list[int]:
    """Frame ids from the first with an object on; none without a labelled one after it."""
    ids = list(clip.frames)
    for place, frame_id in enumerate(ids):
        mask = clip.masks.get(frame_id)
        if mask is not None and len(files.look_at(mask, clip.void)[1]):
            chosen = ids[place : place + frames]
            return chosen if clip.masks.keys() & set(chosen[1:]) else []
    return []


class ValidationVideo:
    """A video with masks of some of its frames, read once; the frames needed are kept.

    Its ``clips`` are one of each query frame, by its name; or the track, by that of the video. It
    is a MediaError if there are no masks, a mask has no frame (of a track: none has objects and a
    labelled frame after it) or another size than the frames.
    """

    def __init__(
        self,
        video: LabelledVideoSettings,
        settings: ValidationSettings,
        request: ValidationRequest,
        intensity: str = "auto",
    ) -> None:
        self.clips: list[ValidationClip] = []
        self._video, self._request = video, request
        self._largest_side = settings.largest_side
        self._masks = masks_by_stem(video.masks)
        self._kept: dict[int, NDArray[np.uint8]] = {}
        source = open_frames(video.video, intensity)
        try:
            if request.tracks:
                self._read_track(source)
            else:
                self._read_queries(source, settings.limit)
        finally:
            for line in source.damage:
                logging.getLogger(__name__).warning("%s: %s", video.video, line)

    def _read(self, indices: Sequence[int], paths: Sequence[Path | None]) -> Clip:
        """These frames, with the masks of those that have one."""
        frames = np.stack([self._kept[index] for index in indices])
        masks = [None if path is None else self._mask(path) for path in paths]
        parts = [None if mask is None else mask.part(self._box) for mask in masks]
        only = [mask.only for mask in masks if mask is not None]
        return labelled_clip(self._request.clip(len(frames)), frames, parts, only)

    def _read_queries(self, source: FrameSource, limit: int) -> None:
        chosen = sorted(self._masks)
        wanted, lone = set(evenly(chosen, limit)), set(chosen)
        references = self._request.frames - 1
        recent: deque[tuple[int, NDArray[np.uint8]]] = deque(maxlen=references + 1)
        for order, frame in enumerate(source):
            recent.append((order, frame.image))
            lone.discard(frame.name)
            if frame.name not in wanted:
                continue
            # The first frame stands in for those before it.
            indices = [max(0, order - step) for step in range(references, -1, -1)]
            for index, image in recent:
                self._keep(index, image)
            masks = [*[None] * references, self._masks[frame.name]]
            self.clips.append(ValidationClip(frame.name, partial(self._read, indices, masks)))
        with FaultCollector(MediaError) as faults:
            for name in sorted(lone):
                faults.add(self._masks[name], f"no frame of that name in {self._video.video}")

    def _read_track(self, source: FrameSource) -> None:
        remaining = iter(source)
        paths: list[Path | None] = []
        for frame in remaining:
            path = self._masks.get(frame.name)
            if path is None:
                continue
            self._keep(0, frame.image)
            if self._mask(path).only != 0:
                paths.append(path)
                break
        for order, frame in enumerate(islice(remaining, self._request.frames - 1), 1):
            self._keep(order, frame.image)
            paths.append(self._masks.get(frame.name))
        further = [self._mask(path).part(self._box) for path in paths[1:] if path]
        if not any((part != IGNORE).any() for part in further):
            found = f"no frame of {self._video.video} with an object is followed by a labelled one"
            raise _no_track(str(self._video.masks), found, self._request)
        read = partial(self._read, range(len(paths)), paths)
        self.clips.append(ValidationClip(stem_of(self._video.video), read))

    def _keep(self, index: int, image: NDArray[np.uint8]) -> None:
        self._size = (image.shape[0], image.shape[1])
        self._box = middle_box(self._size, self._largest_side)
        self._kept[index] = cut(image, self._box).copy()

    def _mask(self, path: Path) -> DecodedMask:
        mask = DecodedMask.read(path, self._video.void)
        check_size(path, mask.ids.shape, self._size, "its video")
        return mask


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by stem; a MediaError if there is none, or one is not there."""
    masks = {stem_of(path): path for path in sorted(list_files(folder, MASK_SUFFIXES))}
    if not masks:
        found = "holds no masks" if folder.is_dir() else "no such folder"
        raise MediaError.at(folder, found, "masks named as the frames of the video")
    with FaultCollector(MediaError) as faults:
        for mask in masks.values():
            if not mask.is_file():
                faults.add(mask, absent(mask), "a mask file")
    return masks


def validation_synthetic(
    generator: ClipGenerator,
    count: int,
    size: tuple[int, int],
    request: ValidationRequest,
    scale: float = 1.0,
) -> list[ValidationClip]:
    """So many synthetic clips of this (height, width) that training never sees."""

    def read(number: int) -> Clip:
        frames, first = request.frames, sources.FIRST_VALIDATION_CLIP
        made = generator.make(first + number, frames=frames, size=size, scale=scale)
        return sources.synthetic_clip(made, request.clip(frames, size))

    return [ValidationClip(f"synthetic_{k:03d}", partial(read, k)) for k in range(count)]


def middle_box(size: tuple[int, ...], largest_side: int) -> Box:
    """The middle of a frame, at most ``largest_side`` high and wide."""
    height, width = min(size[0], largest_side), min(size[1], largest_side)
    return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def _no_track(where: str, found: str, request: ValidationRequest) -> MediaError:
    wanted = f"masks of at least two of {request.frames} frames in a row, named as they are, with"
    remedy = "name other validation data, or raise xmem.validation_frames"
    return MediaError.at(where, found, f"{wanted} objects in the first", remedy)
