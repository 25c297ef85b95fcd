"""Clips on the disk with masks of their frames, as a source for XMem's training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError
from dvos.media.mask import read_mask
from dvos.training.clip_files import ClipFiles
from dvos.training.geometry import Box, cut, looked_at, place, resize_frame
from dvos.training.stills import aims_of
from dvos.training.store import DecodedFiles
from dvos.training.tabled import FrameClip
from dvos.training.xmem.clips import ObjectClip, draw_moments, ids_of, known_objects

__all__ = ["FiledObjects", "IdFiles", "check_lengths", "resize_ids"]


@dataclass(frozen=True)
class _DecodedIds:
    """An instance mask, uint16 (H, W), with pixels to aim at, int64 (N, 2)."""

    ids: NDArray[np.uint16]
    aims: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.aims.nbytes


class IdFiles(ClipFiles):
    """Reads parts of frames and of instance masks, files or frames of clip stores."""

    def ids_size(self, mask: Path, unknown: int | None) -> tuple[int, int]:
        """(height, width) of a mask."""
        found = self._stores.find(mask)
        if found:
            return found[0].size
        height, width = self._decode(mask, unknown).ids.shape
        return height, width

    def ids_aims(self, mask: Path, unknown: int | None) -> NDArray[np.int64]:
        """(row, column) of pixels spread over a mask's objects, int64 (N, 2)."""
        if self._stores.find(mask):
            return self.aims(mask)
        return self._decode(mask, unknown).aims

    def ids(
        self, mask: Path, box: Box, *, size: tuple[int, int], unknown: int | None
    ) -> NDArray[np.uint16]:
        """Part of an instance mask, uint16 (height, width) of the box.

        Args:
            mask: A file, or a store's frame.
            box: The part; mirrored where it reaches beyond the mask.
            size: (height, width) that the whole mask must have.
            unknown: A file's value for "unknown", if it has one.

        Raises:
            MediaError: If it cannot be read, has another size or too large ids.
        """
        found = self._stores.find(mask)
        if found:
            store, index = found
            _check_size(mask, store.size, size)
            near = looked_at(box, store.size)
            ids: NDArray[np.uint16] = store.read_instances([index], near)[0]
            return cut(ids, box.relative_to(near))
        whole = self._decode(mask, unknown).ids
        _check_size(mask, whole.shape, size)
        return cut(whole, box)

    def _decode(self, mask: Path, unknown: int | None) -> _DecodedIds:
        return self._decoded.get(("ids", mask, unknown), partial(_read_ids, mask, unknown))


def _read_ids(mask: Path, unknown: int | None) -> _DecodedIds:
    ids = ids_of(read_mask(mask), mask, unknown)
    return _DecodedIds(ids, aims_of(known_objects(ids).astype(np.uint8)))


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found != expected:
        raise MediaError.at(
            path,
            f"is {found[1]} x {found[0]} pixels",
            f"{expected[1]} x {expected[0]} as the other masks of its clip",
            "give all frames of a clip one size",
        )


class FiledObjects:
    """Labelled clips on the disk, an :class:`~dvos.training.xmem.clips.ObjectSource`.

    Args:
        clips: The clips, each with masks of at least as many frames as are
            drawn; every one is drawn as often as any other. Frames without
            masks have no part.
        decoded: Where decoded files are kept.
        object_share: Share of the samples whose window is laid so that it
            holds an object of the first frame, if that has one.
    """

    def __init__(
        self, clips: Sequence[FrameClip], decoded: DecodedFiles, *, object_share: float = 0.7
    ) -> None:
        if not clips:
            raise ValueError("there are no clips")
        self._clips = tuple(clips)
        self._files = IdFiles(decoded)
        self._object_share = object_share

    def sample(
        self,
        rng: np.random.Generator,
        *,
        frames: int,
        jump: int,
        size: tuple[int, int],
        scale: float,
    ) -> ObjectClip:
        """Draw a clip, its frames and a window that is the same in all of them."""
        clip = self._clips[int(rng.integers(len(self._clips)))]
        labelled = [frame_id for frame_id in clip.frames if frame_id in clip.masks]
        moments = draw_moments(rng, len(labelled), count=frames, jump=jump)
        chosen = [labelled[moment] for moment in moments]
        first, unknown = clip.masks[chosen[0]], clip.ignore_value
        aims = self._files.ids_aims(first, unknown)
        aim = None
        if len(aims) and rng.random() < self._object_share:
            row, column = aims[int(rng.integers(len(aims)))]
            aim = int(row), int(column)
        native = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
        whole = self._files.ids_size(first, unknown)
        box = place(rng, native, whole, aim=aim)
        read = self._files
        images = [read.frame(clip.frames[i], box, size=whole) for i in chosen]
        masks = [read.ids(clip.masks[i], box, size=whole, unknown=unknown) for i in chosen]
        return ObjectClip(
            np.stack([resize_frame(image, size) for image in images]),
            np.stack([resize_ids(mask, size) for mask in masks]),
        )


def resize_ids(ids: NDArray[np.uint16], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Resize an instance mask: the nearest pixel's id.

    Args:
        ids: uint16 (H, W).
        size: (height, width) wanted.
    """
    if ids.shape == size:
        return ids
    resized: NDArray[np.uint16] = cv2.resize(
        ids, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return resized


def check_lengths(clips: Iterable[FrameClip], *, frames: int) -> None:
    """See that each clip has masks of enough frames.

    Args:
        clips: The clips.
        frames: Frames that are drawn from each.

    Raises:
        MediaError: With a fault for each clip that is too short.
    """
    with FaultCollector(MediaError) as faults:
        for clip in clips:
            count = len(clip.masks.keys() & clip.frames.keys())
            if count < frames:
                faults.add(
                    f"{clip.name} ({next(iter(clip.frames.values())).parent})",
                    f"has masks of {count} of its {len(clip.frames)} frames",
                    f"masks of at least {frames} frames",
                    "lower xmem.frames, add masks or leave the clip out",
                )
