"""Validation clips: a fixed list, whole frames, nothing augmented.

They come in two kinds. *Queries* are labelled frames, each with the references before it. *Tracks*
are frames in a row, the first one with objects on it and its mask given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.config.augmentation import MotionSettings
from dvos.config.data import LabelledVideoSettings, ValidationSettings
from dvos.errors import FaultCollector, MediaError, check_size
from dvos.files import stem_of
from dvos.media.frames import FrameSource, open_frames
from dvos.media.layout import masks_by_stem
from dvos.media.mask import IGNORE
from dvos.tables import frame_stem
from dvos.training.augment.spatial import Box, cut, resize_frame, resize_ids
from dvos.training.clips.cache import DecodedMask, ImageCache
from dvos.training.clips.clip import (
    FIRST_VALIDATION_CLIP,
    Clip,
    ClipRequest,
    merge_objects,
    query_clip,
    synthetic_clip,
    track_clip,
)
from dvos.training.clips.files import ClipFiles, FrameClip
from dvos.training.clips.stills import LabelledStill, PanMotion, load_still, show_ids, show_pan

if TYPE_CHECKING:
    from dvos.synthesis.clip import ClipGenerator


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationRequest:
    """What validation clips are wanted.

    Attributes:
        tracks: Whether they are tracks, with the ids of every frame; else queries, with those of
            the last frame alone.
        frames: Frames of a clip; of a track the most.
        still_frames: Frames of a pan over a still.
        synthetic: Synthetic clips where there is nothing else.
        objects: Of queries, whether their objects, and those of the frame before where it is
            labelled, are told apart; else all are one.
    """

    tracks: bool
    frames: int
    still_frames: int
    synthetic: int
    objects: bool = False

    def clip(self, frames: int, size: tuple[int, int]) -> ClipRequest:
        """What is asked for of a clip of this many frames and (height, width)."""
        return ClipRequest(frames, size, every_frame=self.tracks, objects=self.objects)


class ValidationSource(Protocol):
    """A fixed list of labelled clips."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each clip."""
        ...

    def clip(self, number: int) -> Clip:
        """Clip ``number``, always the same."""
        ...


class ValidationStills:
    """Labelled stills, each as one pan that ends (as a track, begins) with the whole photo.

    What the other frames see beyond the photo is its mirror image.

    Args:
        stills: The stills; of tracks those without objects are left out.
        settings: Speed of the window, pixels per frame, whose direction differs from still to
            still; and side to which larger photos are cut about their middle.
        request: Which clips are wanted.

    Raises:
        MediaError: If tracks are wanted and no still has an object.
    """

    def __init__(
        self,
        stills: Sequence[LabelledStill],
        settings: ValidationSettings,
        request: ValidationRequest,
    ) -> None:
        self._settings = settings
        self._request = request
        self._stills = list(stills)
        if request.tracks:
            few = [stills[number] for number in evenly_spread(len(stills), settings.limit)]
            self._stills = [s for s in few if load_still(s, as_one=False).mask.only != 0]
            if not self._stills:
                raise MediaError.at(
                    str(stills[0].mask), "has no object, nor have the others", "labelled objects"
                )

    @property
    def names(self) -> list[str]:
        """Stem of each photo."""
        return [stem_of(still.image) for still in self._stills]

    def clip(self, number: int) -> Clip:
        """The photo of that number as a clip."""
        asked = self._request.clip(self._request.still_frames, (0, 0))
        still = load_still(self._stills[number], as_one=asked.as_one)
        box = middle_box(still.mask.ids.shape, self._settings.largest_side)
        speed = self._settings.speed
        motion = MotionSettings(preset="none", speed=speed, fast_speed=speed, fast_share=1.0)
        # A seed of its own: the clips do not change with the run's seed, so
        # that runs can be compared.
        rng = np.random.default_rng(number)
        path = PanMotion(motion).path(rng, self._request.still_frames)
        frames = show_pan(still.image, box, path)
        if asked.as_one:
            return query_clip(frames, merge_objects(still.mask.part(box)))
        shown = show_ids(still.mask.ids.astype(np.uint16), box, path, request=asked)
        step = -1 if asked.every_frame else 1
        return track_clip(frames[::step], shown[::step], [still.mask.only])


class ValidationFiles:
    """Labelled clips on the disk.

    Args:
        clips: The clips.
        settings: At most how many queries or tracks there are, evenly spread over all, and side
            to which larger frames are cut about their middle.
        request: Which clips are wanted.
        interval: Step between references of a query, in frame ids.

    Raises:
        MediaError: If tracks are wanted and no clip has a frame with an object and a labelled
            frame after it.
    """

    def __init__(
        self,
        clips: Sequence[FrameClip],
        settings: ValidationSettings,
        request: ValidationRequest,
        *,
        interval: int,
    ) -> None:
        self._largest_side = settings.largest_side
        self._request = request
        self._files = ClipFiles(ImageCache(0))
        self.names: list[str] = []
        self._parts: list[tuple[FrameClip, list[int]]] = []
        if not request.tracks:
            queries = [(clip, query) for clip in clips for query in clip.masks]
            for number in evenly_spread(len(queries), settings.limit):
                clip, query = queries[number]
                earlier = clip.references(query, count=request.frames - 1, interval=interval)
                self.names.append(f"{clip.name}/{frame_stem(clip.frames[query])}")
                self._parts.append((clip, [*earlier, query]))
            return
        for number in evenly_spread(len(clips), settings.limit):
            clip = clips[number]
            if frame_ids := self._track(clip, request.frames):
                self.names.append(clip.name)
                self._parts.append((clip, frame_ids))
        if not self._parts:
            names = ", ".join(clip.name for clip in clips[:3])
            raise _no_track(names, "no frame with an object is followed by a labelled one", request)

    def clip(self, number: int) -> Clip:
        """The query of that number with its references, or the track of that number."""
        clip, frame_ids = self._parts[number]
        held = clip.masks[frame_ids[0 if self._request.tracks else -1]]
        size = self._files.size(held, clip.void)
        box = middle_box(size, self._largest_side)
        asked = self._request.clip(len(frame_ids), (box.height, box.width))
        return self._files.read(clip, frame_ids, box, asked, size=size)

    def _track(self, clip: FrameClip, frames: int) -> list[int]:
        """Frame ids from the first with an object on; none without a labelled one after it."""
        ids = list(clip.frames)
        for place, frame_id in enumerate(ids):
            mask = clip.masks.get(frame_id)
            if mask is not None and len(self._files.seed_points(mask, clip.void)):
                chosen = ids[place : place + frames]
                return chosen if clip.masks.keys() & set(chosen[1:]) else []
        return []


class ValidationVideo:
    """A video with masks of some of its frames.

    The video is read once, in order; the frames needed are kept.

    Args:
        video: The video, its masks and their value for "unknown".
        settings: As of :class:`ValidationFiles`, of queries.
        request: Which clips are wanted: queries, or one track.
        intensity: What becomes of the frames' samples of more than 8 bit.

    Raises:
        MediaError: If there are no masks, a mask has no frame (of a track: none has objects and a
            labelled frame after it) or another size than the frames.
    """

    def __init__(
        self,
        video: LabelledVideoSettings,
        settings: ValidationSettings,
        request: ValidationRequest,
        intensity: str = "auto",
    ) -> None:
        self._video = video
        self._largest_side = settings.largest_side
        self._request = request
        self._masks = masks_by_stem(video.masks)
        self._size = (0, 0)
        self._kept: dict[int, NDArray[np.uint8]] = {}
        #: Name of each clip, its frames, and the mask of each of them that has one.
        self._clips: list[tuple[str, list[int], list[Path | None]]] = []
        source = open_frames(video.video, intensity)
        try:
            if request.tracks:
                self._read_track(source)
            else:
                self._read_queries(source, settings.limit)
        finally:
            for line in source.damage:
                _log.warning("%s: %s", video.video, line)

    @property
    def names(self) -> list[str]:
        """Name of each query frame; of a track that of the video."""
        return [name for name, _, _ in self._clips]

    def clip(self, number: int) -> Clip:
        """The query of that number with the frames before it, or the track."""
        _, indices, paths = self._clips[number]
        frames = np.stack([self._kept[index] for index in indices])
        masks = [None if path is None else self._mask(path) for path in paths]
        box = middle_box(self._size, self._largest_side)
        if self._request.clip(len(frames), self._size).as_one:
            last = masks[-1]
            assert last is not None
            return query_clip(frames, merge_objects(last.part(box)))
        parts = [None if mask is None else mask.part(box) for mask in masks]
        return track_clip(frames, parts, [mask.only for mask in masks if mask is not None])

    def _read_queries(self, source: FrameSource, limit: int) -> None:
        chosen = sorted(self._masks)
        wanted = {chosen[number] for number in evenly_spread(len(chosen), limit)}
        lone = set(chosen)
        references = self._request.frames - 1
        recent: dict[int, NDArray[np.uint8]] = {}
        for order, frame in enumerate(source):
            recent[order] = frame.image
            lone.discard(frame.name)
            if order > references + 1:  # the first frame stands in for those before it
                del recent[order - references - 1]
            if frame.name not in wanted:
                continue
            indices = [max(0, order - step) for step in range(references, -1, -1)]
            for index in indices:
                self._keep(index, recent[index])
            masks = [*[None] * references, self._masks[frame.name]]
            self._clips.append((frame.name, indices, masks))
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
            self._size = (frame.image.shape[0], frame.image.shape[1])
            if self._mask(path).only != 0:
                self._keep(0, frame.image)
                paths.append(path)
                break
        for order, frame in enumerate(islice(remaining, self._request.frames - 1), 1):
            self._keep(order, frame.image)
            paths.append(self._masks.get(frame.name))
        box = middle_box(self._size, self._largest_side)
        known = [bool((self._mask(p).part(box) != IGNORE).any()) for p in paths[1:] if p]
        if not any(known):
            found = f"no frame of {self._video.video} with an object is followed by a labelled one"
            raise _no_track(str(self._video.masks), found, self._request)
        self._clips.append((stem_of(self._video.video), list(range(len(paths))), paths))

    def _keep(self, index: int, image: NDArray[np.uint8]) -> None:
        self._size = (image.shape[0], image.shape[1])
        self._kept[index] = cut(image, middle_box(self._size, self._largest_side)).copy()

    def _mask(self, path: Path) -> DecodedMask:
        mask = DecodedMask.read(path, self._video.void)
        check_size(path, mask.ids.shape, self._size, "its video")
        return mask


class ValidationSynthetic:
    """Synthetic clips that training never sees.

    Args:
        generator: Makes the clips.
        count: How many.
        size: (height, width) of them, pixels.
        request: Which clips are wanted.
        scale: Size of their objects, of their own.
    """

    def __init__(
        self,
        generator: ClipGenerator,
        count: int,
        size: tuple[int, int],
        request: ValidationRequest,
        scale: float = 1.0,
    ) -> None:
        self._generator = generator
        self._size = size
        self._scale = scale
        self._request = request
        self.names = [f"synthetic_{number:03d}" for number in range(count)]

    def clip(self, number: int) -> Clip:
        """The synthetic clip of that number."""
        frames = self._request.frames
        made = self._generator.make(
            FIRST_VALIDATION_CLIP + number, frames=frames, size=self._size, scale=self._scale
        )
        return synthetic_clip(made, self._request.clip(frames, self._size))


class ResizedValidation:
    """The clips of another source at another size.

    Args:
        source: The source.
        scale: Factor of heights and widths.
    """

    def __init__(self, source: ValidationSource, scale: float) -> None:
        self._source = source
        self._scale = scale
        self.names = source.names

    def clip(self, number: int) -> Clip:
        """Clip ``number``, resized."""
        clip = self._source.clip(number)
        height, width = (max(1, round(side * self._scale)) for side in clip.frames.shape[1:3])
        size = (height, width)
        return Clip(
            np.stack([resize_frame(frame, size) for frame in clip.frames]),
            np.stack([resize_ids(ids, size, as_one=False) for ids in clip.ids]),
            clip.labelled,
            clip.tells_apart,
        )


def evenly_spread(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` numbers, evenly spread."""
    if count <= limit:
        return list(range(count))
    return [(2 * number + 1) * count // (2 * limit) for number in range(limit)]


def middle_box(size: tuple[int, ...], largest_side: int) -> Box:
    """The middle of a frame, at most ``largest_side`` high and wide."""
    height, width = min(size[0], largest_side), min(size[1], largest_side)
    return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def _no_track(where: str, found: str, request: ValidationRequest) -> MediaError:
    return MediaError.at(
        where,
        found,
        f"masks of at least two of {request.frames} frames in a row, named as they are, with "
        "objects in the first",
        "name other validation data, or raise xmem.validation_frames",
    )
