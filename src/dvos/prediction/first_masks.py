"""The masks a clip starts from: given as files or arrays, or found by another network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import XMemPredictionSettings
from dvos.errors import MediaError
from dvos.media.mask import is_binary, read_mask
from dvos.media.splitting import split_mask
from dvos.media.video import VideoFrame
from dvos.prediction.mask_files import MaskFiles, find_masks
from dvos.prediction.predictor import Predictor

_log = logging.getLogger(__name__)

Ids = NDArray[np.uint16]


@dataclass(frozen=True)
class MaskRules:
    """What of a mask is an object.

    Attributes:
        settings: ``objects`` and ``frames``, limits and areas.
        single_object: Whether the network was trained on single objects.
    """

    settings: XMemPredictionSettings
    single_object: bool = False

    def apply(self, mask: NDArray[np.integer[Any]], where: str) -> Ids:
        """Ids (H, W) of the objects in a mask.

        Args:
            mask: (H, W).
            where: What the mask is, for errors.

        Raises:
            MediaError: If there are more objects than allowed.
        """
        ids = mask
        if self.settings.objects == "union":
            ids = (mask > 0).astype(np.uint16)
        elif self.settings.objects == "instances" and is_binary(mask):
            ids = split_mask(mask > 0, minimum_area=self.settings.minimum_area).labels
        count = len(np.unique(ids[ids > 0]))
        if self.single_object and count > 1:
            raise MediaError.at(
                where,
                f"holds {count} objects",
                "one, as the network was trained on single objects",
                "set xmem.objects=union to follow them as one, or give another checkpoint",
            )
        if count > self.settings.objects_max:
            raise MediaError.at(
                where,
                f"holds {count} objects",
                f"at most {self.settings.objects_max}",
                "raise xmem.objects_max, or set xmem.objects=union",
            )
        return ids.astype(np.uint16)


class FirstMasks(Protocol):
    """Where the masks of a clip come from."""

    @property
    def rules(self) -> MaskRules:
        """What of them is an object."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that they are read from."""

    @property
    def count(self) -> int | None:
        """How many there are; None where any frame may have one."""

    @property
    def only_first(self) -> bool:
        """Whether nothing follows the first that holds an object."""

    def of_frame(self, frame: VideoFrame, *, first: bool) -> Ids | None:
        """Ids (H, W) of the objects of a frame's mask, 0 elsewhere; None where it has no mask.

        Args:
            frame: The frame.
            first: Whether it is the first of the clip.

        Raises:
            MediaError: If the frame's mask cannot be used.
        """

    def tell_empty(self) -> None:
        """Say that no mask held an object.

        Raises:
            MediaError: If that is a fault.
        """


class MaskReader:
    """Gives the masks of one pass over a clip's frames.

    Args:
        masks: Those of the clip.
    """

    def __init__(self, masks: FirstMasks) -> None:
        self._masks = masks
        self._frames = 0
        self._read = 0
        self._started = False

    def read(self, frame: VideoFrame) -> Ids | None:
        """Ids (H, W) of the objects given in the next frame, 0 elsewhere; None where it has none.

        Raises:
            MediaError: If the frame's mask cannot be used, or no mask is left
                and none held an object.
        """
        self._frames += 1
        if self._started and self._masks.only_first:
            return None
        ids = self._masks.of_frame(frame, first=self._frames == 1)
        if ids is None:
            return None
        self._read += 1
        if not ids.any():
            if self._read == self._masks.count:
                self.end()
            return None
        if not self._started and self._masks.only_first and self._read < (self._masks.count or 0):
            _log.info(
                "the mask of frame %s starts its clip; later ones are not used (xmem.frames)",
                frame.name,
            )
        self._started = True
        return ids

    def end(self) -> None:
        """Say that no frame follows.

        Raises:
            MediaError: If masks were given and none of them held an object.
        """
        if not self._started:
            self._masks.tell_empty()


@dataclass(frozen=True)
class MaskTree:
    """Mask files of clips that are still to be named."""

    path: Path
    rules: MaskRules

    def of_clip(
        self, clip: str, frame_names: Sequence[str] | None = None, *, alone: bool = True
    ) -> GivenMasks:
        """Those of one clip; as :func:`~dvos.prediction.mask_files.find_masks`."""
        found = find_masks(self.path, clip, frame_names=frame_names, alone=alone)
        return GivenMasks(clip, found, self.rules)


@dataclass(frozen=True)
class GivenMasks:
    """Mask files of one clip, a :class:`FirstMasks`."""

    clip: str
    found: MaskFiles
    rules: MaskRules

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are read."""
        return self.found.all

    @property
    def count(self) -> int:
        """Their number."""
        return len(self.files)

    @property
    def only_first(self) -> bool:
        """As the settings say."""
        return self.rules.settings.frames == "first"

    def of_frame(self, frame: VideoFrame, *, first: bool) -> Ids | None:
        """Ids (H, W) in the mask named like the frame, or in that of the first frame."""
        path = self.found.named.get(frame.name, self.found.first if first else None)
        if path is None:
            return None
        size = (frame.image.shape[0], frame.image.shape[1])
        return self._read(path, size, f"frame {frame.name}")

    def tell_empty(self) -> None:
        """Raise it: a mask was given to start from."""
        expected = "a first mask with at least one object"
        if len(self.files) == 1:
            raise MediaError.at(
                self.files[0],
                "holds no object (all of it is 0)",
                expected,
                "draw the objects, or give the mask of a frame that shows them",
            )
        raise MediaError.at(
            self.files[0].parent,
            f"none of the {len(self.files)} masks of the clip {self.clip!r} holds an object in a"
            " frame of it",
            expected,
            "draw the objects, or check that masks are named like the frames",
        )

    def check(self, size: tuple[int, int]) -> None:
        """Read the first mask and see whether a clip of this size can start from it.

        Raises:
            MediaError: If it cannot be read, has another size, or holds no
                object and is the only one, or too many.
        """
        ids = self._read(self.files[0], size, f"the frames of the clip {self.clip!r}")
        if len(self.files) == 1 and not ids.any():
            self.tell_empty()

    def _read(self, path: Path, size: tuple[int, int], of: str) -> Ids:
        mask = read_mask(path)
        _check_size(mask, size, str(path), of)
        return self.rules.apply(mask, str(path))


class ArrayMasks:
    """Masks given from Python, for any clip, a :class:`FirstMasks`.

    Args:
        masks: By frame index; bool, or whole numbers 0..65535, (H, W).
        rules: What of them is an object.

    Raises:
        MediaError: If one is no such array.
    """

    files: tuple[Path, ...] = ()
    count: int | None = None

    def __init__(self, masks: Mapping[int, NDArray[np.generic]], rules: MaskRules) -> None:
        self._masks = {index: _checked(mask, index) for index, mask in masks.items()}
        self.rules = rules
        self.only_first = rules.settings.frames == "first"

    def of_frame(self, frame: VideoFrame, *, first: bool) -> Ids | None:  # noqa: ARG002
        """Ids (H, W) in the array of the frame's index."""
        mask = self._masks.get(frame.frame_index)
        if mask is None:
            return None
        where = f"the first mask of frame {frame.frame_index}"
        _check_size(mask, (frame.image.shape[0], frame.image.shape[1]), where, "its frame")
        return self.rules.apply(mask, where)

    def tell_empty(self) -> None:
        """Raise it: a mask was given to start from."""
        raise MediaError.at(
            "the first mask",
            "no frame came with an object",
            "at least one object in the mask of a frame",
            "check masks and frame indices",
        )


@dataclass(frozen=True)
class FoundMasks:
    """Masks found by another network, in the first frame in which it finds anything.

    Each frame is looked at on its own, as the first frame of a clip is. A
    :class:`FirstMasks`.
    """

    predictor: Predictor
    rules: MaskRules
    files: tuple[Path, ...] = ()
    count: int | None = None
    only_first: bool = True

    def of_frame(self, frame: VideoFrame, *, first: bool) -> Ids | None:  # noqa: ARG002
        """Ids (H, W) of what is found in the frame."""
        found = next(iter(self.predictor.segment([frame.image])))
        settings = self.rules.settings
        kept = split_mask(found.mask, minimum_area=settings.minimum_area).labels
        # A mask without ids is one object; its pieces are told apart on request.
        mask = kept if settings.objects == "instances" else (kept > 0).astype(np.int32)
        return self.rules.apply(mask, f"the mask found in frame {frame.name}")

    def tell_empty(self) -> None:
        """A video without objects is no fault."""
        _log.warning("no object was found in any frame; all masks are empty")


def _check_size(mask: NDArray[np.uint8] | Ids, size: tuple[int, int], where: str, of: str) -> None:
    if mask.shape != size:
        raise MediaError.at(
            where,
            f"is {mask.shape[1]} x {mask.shape[0]} pixels",
            f"{size[1]} x {size[0]}, as {of}",
            "give the mask at the size of its frame",
        )


def _checked(mask: NDArray[np.generic], index: int) -> Ids:
    mask = np.asarray(mask)
    whole = mask.dtype.kind in "bui"
    if (
        mask.ndim != 2
        or not whole
        or (mask.size and not 0 <= int(mask.min()) <= int(mask.max()) <= 65535)
    ):
        raise MediaError.at(
            f"the first mask of frame {index}",
            f"has shape {mask.shape} and type {mask.dtype}",
            "(height, width) of bool or of ids in 0..65535",
        )
    return mask.astype(np.uint16)
