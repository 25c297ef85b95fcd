"""The masks a clip starts from: given as files or arrays, or found by another network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.mask import is_binary, read_mask
from dvos.media.splitting import split_mask
from dvos.media.video import VideoFrame
from dvos.prediction.predictor import Predictor
from dvos.prediction.xmem.mask_files import MaskFiles, find_masks

__all__ = [
    "ArrayMasks",
    "FirstMasks",
    "FoundMasks",
    "GivenMasks",
    "MaskReader",
    "MaskRules",
    "MaskTree",
]

_log = logging.getLogger(__name__)

Ids = NDArray[np.uint16]


@dataclass(frozen=True)
class MaskRules:
    """What of a mask is an object.

    Attributes:
        objects: ``given`` (each id), ``union`` (all are one object, 1), or
            ``instances`` (what a mask without ids is split into).
        frames: Masks used of a clip: the ``first``, or all, of which later
            ones start ``new`` objects only, or correct ``all`` objects.
        objects_max: Most objects of a mask.
        minimum_area: Smaller pieces of a mask that is split or was found by a
            network are no objects, pixels.
        single_object: Whether the network was trained on single objects.
    """

    objects: Literal["given", "union", "instances"] = "given"
    frames: Literal["first", "new", "all"] = "first"
    objects_max: int = 2000
    minimum_area: int = 30
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
        if self.objects == "union":
            ids = (mask > 0).astype(np.uint16)
        elif self.objects == "instances" and is_binary(mask):
            ids = split_mask(mask > 0, minimum_area=self.minimum_area).labels
        count = len(np.unique(ids[ids > 0]))
        if self.single_object and count > 1:
            raise MediaError.at(
                where,
                f"holds {count} objects",
                "one, as the network was trained on single objects",
                "set xmem.objects=union to follow them as one, or give another checkpoint",
            )
        if count > self.objects_max:
            raise MediaError.at(
                where,
                f"holds {count} objects",
                f"at most {self.objects_max}",
                "raise xmem.objects_max, or set xmem.objects=union",
            )
        return ids.astype(np.uint16)


class MaskReader(Protocol):
    """Gives the masks of one pass over a clip's frames."""

    def read(self, frame: VideoFrame) -> Ids | None:
        """Ids (H, W) of the objects given in a frame, 0 elsewhere; None where it has no mask.

        Raises:
            MediaError: If the frame's mask cannot be used, or no mask is left
                and none held an object.
        """

    def end(self) -> None:
        """Say that no frame follows.

        Raises:
            MediaError: If masks were given and none of them held an object.
        """


class FirstMasks(Protocol):
    """Where the masks of a clip come from."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that they are read from."""

    def begin(self) -> MaskReader:
        """A reader for a pass over the clip, from its first frame on."""


@dataclass(frozen=True)
class MaskTree:
    """Mask files of clips that are still to be named."""

    path: Path
    rules: MaskRules

    def of_clip(
        self, clip: str, frame_names: Sequence[str] | None = None, *, alone: bool = True
    ) -> GivenMasks:
        """Those of one clip; see :func:`~dvos.prediction.xmem.mask_files.find_masks`."""
        found = find_masks(self.path, clip, frame_names=frame_names, alone=alone)
        return GivenMasks(clip, found, self.rules)


@dataclass(frozen=True)
class GivenMasks:
    """Mask files of one clip."""

    clip: str
    found: MaskFiles
    rules: MaskRules

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are read."""
        return self.found.all

    def begin(self) -> _FileReader:
        """See :class:`FirstMasks`."""
        return _FileReader(self.clip, self.found, self.rules)

    def check(self, size: tuple[int, int]) -> None:
        """Read the first mask and see whether a clip of this size can start from it.

        Raises:
            MediaError: If it cannot be read, has another size, or holds no
                object and is the only one, or too many.
        """
        first = self.files[0]
        ids = self.rules.apply(
            _read(first, size, f"the frames of the clip {self.clip!r}"), str(first)
        )
        if len(self.files) == 1 and not ids.any():
            raise _without_object(self.clip, self.files)


class _FileReader:
    def __init__(self, clip: str, found: MaskFiles, rules: MaskRules) -> None:
        self._clip = clip
        self._files = found.all
        self._rules = rules
        self._first = found.first
        self._named = dict(found.named)
        self._started = False

    def read(self, frame: VideoFrame) -> Ids | None:
        """See :class:`MaskReader`."""
        if self._started and self._rules.frames == "first":
            return None
        path = self._named.pop(frame.name, self._first)
        self._first = None
        if path is None:
            return None
        height, width = frame.image.shape[:2]
        ids = self._rules.apply(_read(path, (height, width), f"frame {frame.name}"), str(path))
        if ids.any():
            if not self._started and self._rules.frames == "first" and self._named:
                _log.info(
                    "%s: %s starts it; later masks are not used (xmem.frames)",
                    self._clip,
                    path.name,
                )
            self._started = True
            return ids
        if not self._named:
            self.end()
        return None

    def end(self) -> None:
        """See :class:`MaskReader`."""
        if not self._started:
            raise _without_object(self._clip, self._files)


class ArrayMasks:
    """Masks given from Python, for any clip.

    Args:
        masks: By frame index; bool, or whole numbers 0..65535, (H, W).
        rules: What of them is an object.
    """

    files: tuple[Path, ...] = ()

    def __init__(self, masks: Mapping[int, NDArray[np.generic]], rules: MaskRules) -> None:
        self._masks = {index: _checked(mask, index) for index, mask in masks.items()}
        self._rules = rules

    def begin(self) -> MaskReader:
        """See :class:`FirstMasks`."""
        return _ArrayReader(self._masks, self._rules)


class _ArrayReader:
    def __init__(self, masks: Mapping[int, Ids], rules: MaskRules) -> None:
        self._masks = masks
        self._rules = rules
        self._started = False

    def read(self, frame: VideoFrame) -> Ids | None:
        """See :class:`MaskReader`."""
        if self._started and self._rules.frames == "first":
            return None
        mask = self._masks.get(frame.frame_index)
        if mask is None:
            return None
        where = f"the first mask of frame {frame.frame_index}"
        _check_size(mask, (frame.image.shape[0], frame.image.shape[1]), where, "its frame")
        ids = self._rules.apply(mask, where)
        self._started = self._started or bool(ids.any())
        return ids if ids.any() else None

    def end(self) -> None:
        """See :class:`MaskReader`."""
        if not self._started:
            raise MediaError.at(
                "the first mask",
                "no frame came with an object",
                "at least one object in the mask of a frame",
                "check masks and frame indices",
            )


@dataclass(frozen=True)
class FoundMasks:
    """Masks found by another network, in the first frame in which it finds anything.

    Each frame is looked at on its own, as the first frame of a clip is.
    """

    predictor: Predictor
    rules: MaskRules
    files: tuple[Path, ...] = ()

    def begin(self) -> MaskReader:
        """See :class:`FirstMasks`."""
        return _Finder(self.predictor, self.rules)


class _Finder:
    def __init__(self, predictor: Predictor, rules: MaskRules) -> None:
        self._predictor = predictor
        self._rules = rules
        self._found = False

    def read(self, frame: VideoFrame) -> Ids | None:
        """See :class:`MaskReader`."""
        if self._found:
            return None
        found = next(iter(self._predictor.segment([frame.image])))
        kept = split_mask(found.mask, minimum_area=self._rules.minimum_area).labels
        if not kept.any():
            return None
        self._found = True
        # A mask without ids is one object; its pieces are told apart on request.
        mask = kept if self._rules.objects == "instances" else (kept > 0).astype(np.int32)
        return self._rules.apply(mask, f"the mask found in frame {frame.name}")

    def end(self) -> None:
        """A video without objects is no fault."""
        if not self._found:
            _log.warning("no object was found in any frame; all masks are empty")


def _read(path: Path, size: tuple[int, int], of: str) -> NDArray[np.uint8] | Ids:
    mask = read_mask(path)
    _check_size(mask, size, str(path), of)
    return mask


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


def _without_object(clip: str, files: Sequence[Path]) -> MediaError:
    if len(files) == 1:
        return MediaError.at(
            files[0],
            "holds no object (all of it is 0)",
            "a first mask with at least one object",
            "draw the objects, or give the mask of a frame that shows them",
        )
    return MediaError.at(
        files[0].parent,
        f"none of the {len(files)} masks of the clip {clip!r} holds an object in a frame of it",
        "a first mask with at least one object",
        "draw the objects, or check that masks are named like the frames",
    )
