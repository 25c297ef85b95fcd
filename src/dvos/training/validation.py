"""Validation clips: a fixed list, whole frames, nothing augmented."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError
from dvos.media.frames import open_frames
from dvos.media.layout import MASK_SUFFIXES
from dvos.media.mask import read_mask
from dvos.tables import frame_stem
from dvos.training.clip_files import ClipFiles
from dvos.training.clips import ClipSample, target_of
from dvos.training.geometry import Box, cut
from dvos.training.motion import PanMotion
from dvos.training.stills import LabelledStill, load_still, pan_clip
from dvos.training.store import DecodedFiles
from dvos.training.synthetic import Maker
from dvos.training.tabled import FrameClip, read_clip

__all__ = [
    "FixedClips",
    "FixedSource",
    "FixedStills",
    "FixedSynthetic",
    "FixedVideo",
    "spread",
]

_log = logging.getLogger(__name__)

# Training draws synthetic clips below this number, validation at and above it.
_FIRST_SYNTHETIC = 2**62


class FixedSource(Protocol):
    """A fixed list of labelled clips."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each clip."""
        ...

    def clip(self, number: int, *, frames: int) -> ClipSample:
        """Clip ``number`` with ``frames`` frames, always the same."""
        ...


class FixedStills:
    """Labelled stills, each as one pan clip that ends on the whole photo.

    What a frame before the last sees beyond the photo is its mirror image.

    Args:
        stills: The stills.
        speed: Of the window, pixels per frame; the direction differs from
            still to still.
        largest_side: Larger photos are cut to this about their middle.
    """

    def __init__(self, stills: Sequence[LabelledStill], *, speed: float, largest_side: int) -> None:
        self._stills = tuple(stills)
        self._speed = speed
        self._largest_side = largest_side

    @property
    def names(self) -> list[str]:
        """Stem of each photo."""
        return [still.image.stem for still in self._stills]

    def clip(self, number: int, *, frames: int) -> ClipSample:
        """The photo of that number as a clip."""
        still = load_still(self._stills[number])
        box = middle_box(still.target.shape, self._largest_side)
        motion = PanMotion(speed=self._speed, fast_speed=self._speed, fast_share=1.0)
        # A seed of its own: the clips do not change with the run's seed, so
        # that runs can be compared.
        path = motion.draw(np.random.default_rng(number), frames)
        target = np.ascontiguousarray(cut(still.target, box))
        return ClipSample(pan_clip(still.image, box, path), target)


class FixedClips:
    """Labelled clips on the disk.

    Args:
        clips: The clips.
        interval: Step between references, in frame ids.
        limit: Most queries, spread evenly over all there are.
        largest_side: Larger frames are cut to this about their middle.
    """

    def __init__(
        self, clips: Sequence[FrameClip], *, interval: int, limit: int, largest_side: int
    ) -> None:
        queries = [(clip, query) for clip in clips for query in clip.masks]
        self._queries = [queries[number] for number in spread(len(queries), limit)]
        self._interval = interval
        self._largest_side = largest_side

    @property
    def names(self) -> list[str]:
        """Clip and frame of each query."""
        return [f"{clip.name}/{frame_stem(clip.frames[query])}" for clip, query in self._queries]

    def clip(self, number: int, *, frames: int) -> ClipSample:
        """The query of that number with its references."""
        clip, query = self._queries[number]
        references = clip.references(query, count=frames - 1, interval=self._interval)
        files = ClipFiles(DecodedFiles(0))
        size = files.size(clip.masks[query], clip.ignore_value)
        box = middle_box(size, self._largest_side)
        images, target = read_clip(clip, query, references, files, box)
        return ClipSample(np.stack(images), np.ascontiguousarray(target))


class FixedSynthetic:
    """Synthetic clips that training never sees.

    Args:
        maker: Makes the clips.
        count: How many.
        size: (height, width) of them, pixels.
    """

    def __init__(self, maker: Maker, *, count: int, size: tuple[int, int]) -> None:
        self._maker = maker
        self._count = count
        self._size = size

    @property
    def names(self) -> list[str]:
        """``synthetic_000`` and so on."""
        return [f"synthetic_{number:03d}" for number in range(self._count)]

    def clip(self, number: int, *, frames: int) -> ClipSample:
        """The synthetic clip of that number."""
        made = self._maker.make(_FIRST_SYNTHETIC + number, frames=frames, size=self._size)
        return ClipSample(made.frames, target_of(made.instances[-1]))


class FixedVideo:
    """A video with masks of some of its frames.

    The video is read once, in order; the frames needed are kept.

    Args:
        video: Video file or folder of frames.
        masks: Folder of masks named as the frames.
        references: References of each query.
        ignore_value: The masks' value for "unknown".
        limit: Most queries, spread evenly over the masks.
        largest_side: Larger frames are cut to this about their middle.

    Raises:
        MediaError: If there are no masks, or a mask has no frame or another
            size than the frames.
    """

    def __init__(
        self,
        video: Path,
        masks: Path,
        *,
        references: int,
        ignore_value: int | None,
        limit: int,
        largest_side: int,
    ) -> None:
        self._masks = masks_by_stem(masks)
        self._ignore_value = ignore_value
        self._largest_side = largest_side
        chosen = sorted(self._masks)
        wanted = {chosen[number] for number in spread(len(chosen), limit)}
        self._queries: list[tuple[str, list[int]]] = []
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._read(video, wanted, references)
        with FaultCollector(MediaError) as faults:
            for name in sorted(wanted - {name for name, _ in self._queries}):
                faults.add(self._masks[name], f"no frame of that name in {video}")

    @property
    def names(self) -> list[str]:
        """Name of each query frame."""
        return [name for name, _ in self._queries]

    def clip(self, number: int, *, frames: int) -> ClipSample:
        """The query of that number with the frames before it."""
        name, indices = self._queries[number]
        wanted = indices[len(indices) - frames :]
        target = target_of(read_mask(self._masks[name]), self._ignore_value)
        images = np.stack([self._kept[index] for index in wanted])
        if target.shape != images.shape[1:3]:
            raise MediaError.at(
                self._masks[name],
                f"is {target.shape[1]} x {target.shape[0]} pixels",
                f"{images.shape[2]} x {images.shape[1]} as its video",
            )
        return middle_part(images, target, self._largest_side)

    def _read(self, video: Path, wanted: set[str], references: int) -> None:
        recent: dict[int, NDArray[np.uint8]] = {}
        first: NDArray[np.uint8] | None = None
        source = open_frames(video)
        for order, frame in enumerate(source):
            first = frame.image if first is None else first
            recent[order] = frame.image
            recent.pop(order - references - 1, None)
            if frame.name not in wanted:
                continue
            indices = [max(0, order - step) for step in range(references, -1, -1)]
            for index in indices:
                self._kept[index] = first if index == 0 else recent[index]
            self._queries.append((frame.name, indices))
        for damage in source.damage:
            _log.warning("%s: %s", video, damage)


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by stem.

    Raises:
        MediaError: If the folder is missing or holds none.
    """
    listed = sorted(folder.iterdir()) if folder.is_dir() else []
    masks = {path.stem: path for path in listed if path.suffix.lower() in MASK_SUFFIXES}
    if not masks:
        raise MediaError.at(
            folder,
            "holds no masks" if folder.is_dir() else "no such folder",
            "masks named as the frames of the video",
        )
    return masks


def spread(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` numbers, evenly spread."""
    if count <= limit:
        return list(range(count))
    return [(2 * number + 1) * count // (2 * limit) for number in range(limit)]


def middle_box(size: tuple[int, ...], largest_side: int) -> Box:
    """The middle of a frame, at most ``largest_side`` high and wide."""
    height, width = min(size[0], largest_side), min(size[1], largest_side)
    return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def middle_part(
    frames: NDArray[np.uint8], target: NDArray[np.uint8], largest_side: int
) -> ClipSample:
    """Cut a clip to its middle, at most ``largest_side`` high and wide."""
    top, left, height, width = middle_box(target.shape, largest_side)
    rows, columns = slice(top, top + height), slice(left, left + width)
    return ClipSample(
        np.ascontiguousarray(frames[:, rows, columns]), np.ascontiguousarray(target[rows, columns])
    )
