"""Validation clips for XMem: whole frames in order, the first with its mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dvos.errors import MediaError
from dvos.media.frames import open_frames
from dvos.media.mask import read_mask
from dvos.media.video import VideoFrame
from dvos.training.geometry import Box, cut
from dvos.training.motion import PanMotion
from dvos.training.stills import LabelledStill, pan_clip
from dvos.training.store import DecodedFiles
from dvos.training.tabled import FrameClip
from dvos.training.validation import masks_by_stem, middle_box
from dvos.training.xmem.clips import UNKNOWN, ObjectClip, ids_of, known_objects
from dvos.training.xmem.datasets import IGNORED, ObjectItem, normalised
from dvos.training.xmem.files import IdFiles
from dvos.training.xmem.made import MomentMaker, load_numbered_still

__all__ = [
    "HeldClips",
    "HeldSource",
    "HeldStills",
    "HeldSynthetic",
    "HeldVideo",
    "TrackingValidation",
]

# Training draws synthetic clips below this number, validation at and above it.
_FIRST_SYNTHETIC = 2**62


class HeldSource(Protocol):
    """A fixed list of clips; frames without a mask are ``UNKNOWN`` throughout."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each clip."""
        ...

    def clip(self, number: int) -> ObjectClip:
        """Clip ``number``, always the same; its first frame has an object."""
        ...


class TrackingValidation(Dataset[ObjectItem]):
    """Clips as tensors; their sizes and lengths may differ.

    An item has frames float32 (T, 3, H, W) and target int64 (T, H, W): 1 where
    there is any object, ``IGNORED`` where that is unknown.

    Args:
        sources: Where the clips come from.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.
    """

    def __init__(
        self, sources: Sequence[HeldSource], *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self._clips = [(source, i) for source in sources for i in range(len(source.names))]
        self.names = [name for source in sources for name in source.names]
        self._mean, self._std = tuple(mean), tuple(std)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> ObjectItem:
        """Clip ``number`` as tensors."""
        source, i = self._clips[number]
        clip = source.clip(i)
        target = known_objects(clip.ids).astype(np.int64)
        target[clip.ids == UNKNOWN] = IGNORED
        frames = normalised(clip.frames, mean=self._mean, std=self._std)
        return {"frames": frames, "target": torch.from_numpy(target)}


@dataclass(frozen=True)
class _Part:
    """Frame ids of one clip that are measured, the first having an object."""

    clip: FrameClip
    frame_ids: tuple[int, ...]


class HeldClips:
    """Labelled clips on the disk, from the first frame with an object on.

    Args:
        clips: The clips.
        frames: Most frames of each.
        largest_side: Larger frames are cut to this about their middle.

    Raises:
        MediaError: If no clip has an object and a labelled frame after it.
    """

    def __init__(self, clips: Sequence[FrameClip], *, frames: int, largest_side: int) -> None:
        self._largest_side = largest_side
        parts = [_part(clip, frames) for clip in clips]
        self._parts = [part for part in parts if part is not None]
        if not self._parts:
            raise MediaError.at(
                ", ".join(clip.name for clip in clips[:3]),
                "no frame with an object is followed by a labelled one",
                f"masks of at least two of {frames} frames in a row, with objects in the first",
                "name other clips under validation, or raise xmem.validation_frames",
            )

    @property
    def names(self) -> list[str]:
        """Name of each clip."""
        return [part.clip.name for part in self._parts]

    def clip(self, number: int) -> ObjectClip:
        """The clip of that number."""
        clip, chosen = self._parts[number].clip, self._parts[number].frame_ids
        files = IdFiles(DecodedFiles(0))
        unknown = clip.ignore_value
        size = files.ids_size(clip.masks[chosen[0]], unknown)
        box = middle_box(size, self._largest_side)
        frames = [files.frame(clip.frames[i], box, size=size) for i in chosen]
        nothing = np.full((box.height, box.width), UNKNOWN, np.uint16)
        ids = [
            files.ids(clip.masks[i], box, size=size, unknown=unknown)
            if i in clip.masks
            else nothing
            for i in chosen
        ]
        return ObjectClip(np.stack(frames), np.stack(ids))


def _part(clip: FrameClip, frames: int) -> _Part | None:
    files = IdFiles(DecodedFiles(0))
    ids = list(clip.frames)
    for place, frame_id in enumerate(ids):
        if frame_id in clip.masks and len(files.ids_aims(clip.masks[frame_id], clip.ignore_value)):
            chosen = tuple(ids[place : place + frames])
            return _Part(clip, chosen) if clip.masks.keys() & set(chosen[1:]) else None
    return None


class HeldVideo:
    """A video with masks of some frames, from the first with an object on.

    The frames needed are read once and kept.

    Args:
        video: Video file or folder of frames.
        masks: Folder of masks named as the frames.
        ignore_value: The masks' value for "unknown".
        frames: Most frames.
        largest_side: Larger frames are cut to this about their middle.

    Raises:
        MediaError: If there are no masks, none of the frames has objects, or a
            mask has another size than its frame.
    """

    def __init__(
        self,
        video: Path,
        masks: Path,
        *,
        ignore_value: int | None,
        frames: int,
        largest_side: int,
    ) -> None:
        self.names = [video.stem]
        by_name = masks_by_stem(masks)
        images: list[NDArray[np.uint8]] = []
        ids: list[NDArray[np.uint16]] = []
        for frame in _from_object(open_frames(video), by_name, ignore_value, frames):
            box = middle_box(frame.image.shape[:2], largest_side)
            images.append(cut(frame.image, box).copy())
            path = by_name.get(frame.name)
            if path is None:
                ids.append(np.full((box.height, box.width), UNKNOWN, np.uint16))
                continue
            mask = ids_of(read_mask(path), path, ignore_value)
            if mask.shape != frame.image.shape[:2]:
                found = f"is {mask.shape[1]} x {mask.shape[0]} pixels"
                expected = f"{frame.image.shape[1]} x {frame.image.shape[0]} as its video"
                raise MediaError.at(path, found, expected)
            ids.append(cut(mask, box))
        if not any((mask != UNKNOWN).any() for mask in ids[1:]):
            raise MediaError.at(
                masks,
                f"no frame of {video} with an object is followed by a labelled one",
                f"masks of at least two of {frames} frames in a row, named as they are",
                "name them as the frames, or raise xmem.validation_frames",
            )
        self._clip = ObjectClip(np.stack(images), np.stack(ids))

    def clip(self, number: int) -> ObjectClip:
        """The clip; there is one."""
        del number
        return self._clip


def _from_object(
    video: Iterable[VideoFrame], masks: dict[str, Path], unknown: int | None, frames: int
) -> Iterable[VideoFrame]:
    """The frames from the first with an object on."""
    remaining = iter(video)
    for frame in remaining:
        path = masks.get(frame.name)
        if path is not None and known_objects(ids_of(read_mask(path), path, unknown)).any():
            yield frame
            break
    yield from islice(remaining, frames - 1)


class HeldStills:
    """Labelled stills, each as one pan clip that begins with the whole photo.

    Args:
        stills: The stills; those without objects are left out.
        frames: Of each clip.
        speed: Of the window, pixels per frame; the direction differs from
            still to still.
        largest_side: Larger photos are cut to this about their middle.
    """

    def __init__(
        self, stills: Sequence[LabelledStill], *, frames: int, speed: float, largest_side: int
    ) -> None:
        self._stills = [still for still in stills if len(load_numbered_still(still).aims)]
        self._frames = frames
        self._speed = speed
        self._largest_side = largest_side
        if not self._stills:
            raise MediaError.at(
                str(stills[0].mask), "has no object, nor have the others", "labelled objects"
            )

    @property
    def names(self) -> list[str]:
        """Stem of each photo."""
        return [still.image.stem for still in self._stills]

    def clip(self, number: int) -> ObjectClip:
        """The photo of that number as a clip."""
        still = load_numbered_still(self._stills[number])
        box: Box = middle_box(still.ids.shape, self._largest_side)
        motion = PanMotion(speed=self._speed, fast_speed=self._speed, fast_share=1.0)
        # A seed of its own: the clips do not change with the run's seed.
        path = motion.draw(np.random.default_rng(number), self._frames)
        images = pan_clip(still.image, box, path)
        ids = pan_clip(still.ids, box, path, interpolation=cv2.INTER_NEAREST)
        # The path ends on the photo as it is: backwards it begins there.
        return ObjectClip(images[::-1], ids[::-1])


class HeldSynthetic:
    """Synthetic clips that training never sees.

    Args:
        maker: Makes the clips.
        count: How many.
        frames: Of each.
        size: (height, width) of them, pixels.
    """

    def __init__(
        self, maker: MomentMaker, *, count: int, frames: int, size: tuple[int, int]
    ) -> None:
        self._maker = maker
        self._frames = frames
        self._size = size
        self.names = [f"synthetic_{number:03d}" for number in range(count)]

    def clip(self, number: int) -> ObjectClip:
        """The synthetic clip of that number."""
        made = self._maker.make(_FIRST_SYNTHETIC + number, frames=self._frames, size=self._size)
        return ObjectClip(made.frames, made.instances)
