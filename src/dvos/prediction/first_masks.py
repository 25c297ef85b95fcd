"""The masks a clip starts from: given as files or arrays, or found by another network.

Files for a clip ``field`` with the frames ``field_000000``, ...: one file, for its first frame or
the frame it is named after; a folder with ``field.png`` or ``field/<frame>.png`` (also in a folder
``masks`` of either); a folder of the clip's masks, where there is one clip only. As published, a
mask named ``..._mask-00000`` belongs to the frame ``..._frame-00000``.
"""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import XMemPredictionSettings
from dvos.errors import MediaError, UsageError, check_size
from dvos.files import find_path, stem_of
from dvos.media.layout import MASK_SUFFIXES, frame_name, inner_folder, list_files, natural_key
from dvos.media.mask import is_binary, read_mask, without_unknown
from dvos.media.splitting import split_mask
from dvos.media.video import VideoFrame
from dvos.prediction.predictor import FirstMask, Predictor

_log = logging.getLogger(__name__)

Ids = NDArray[np.uint16]  # (H, W), 0 elsewhere


@dataclass(frozen=True)
class MaskRules:
    """What of a mask is an object, by settings and whether the network knows single ones only."""

    settings: XMemPredictionSettings
    single_object: bool = False
    void: str = "auto"  # of mask files, see :func:`~dvos.media.mask.read_mask`

    def apply(self, mask: NDArray[np.integer[Any]], where: str | Path) -> Ids:
        """Ids of the objects in a mask (H, W) at ``where``; a MediaError if there are too many."""
        ids = mask = without_unknown(mask)
        if self.settings.objects == "union":
            ids = (mask > 0).astype(np.uint16)
        elif self.settings.objects == "instances" and is_binary(mask):
            ids = split_mask(mask > 0, minimum_area=self.settings.minimum_area)
        count = len(np.unique(ids[ids > 0]))
        expected, most = f"at most {self.settings.objects_max}", self.settings.objects_max
        remedy = "raise xmem.objects_max, or set xmem.objects=union"
        if self.single_object:
            expected, most = "one, as the network was trained on single objects", 1
            remedy = "set xmem.objects=union to follow them as one, or give another checkpoint"
        if count > most:
            raise MediaError.at(where, f"holds {count} objects", expected, remedy)
        return ids.astype(np.uint16)

    def of_size(
        self, mask: NDArray[np.integer[Any]], where: str | Path, size: tuple[int, ...], of: str
    ) -> Ids:
        """As :meth:`apply`, of a mask that must have the size ``of`` its frame."""
        check_size(where, mask.shape, size, of, "give the mask at the size of its frame")
        return self.apply(mask, where)

    def read(self, path: Path, size: tuple[int, ...], of: str) -> Ids:
        """As :meth:`of_size`, of a mask file."""
        return self.of_size(read_mask(path, self.void), path, size, of)


class FirstMasks:
    """Where the masks of a clip come from.

    ``of_frame`` gives the ids of the objects of a frame, which may be the first; None where it has
    no mask. They are read from ``files``, none where any frame may have one; ``empty`` is what is
    wrong if none of them holds an object, None where that is no fault.
    """

    def __init__(
        self,
        rules: MaskRules,
        empty: MediaError | None,
        of_frame: Callable[[VideoFrame, bool], Ids | None],
        files: tuple[Path, ...] = (),
    ) -> None:
        self.rules, self.empty, self.of_frame, self.files = rules, empty, of_frame, files
        self.unmet: MediaError | None = None  # told where no frame comes that has a mask
        # Whether nothing follows the first that holds an object.
        self.only_first = empty is None or rules.settings.frames == "first"

    def along(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, Ids | None]]:
        """Each frame of a clip with the ids of the objects given in it; a MediaError for none."""
        read, started, number = 0, False, -1
        for number, frame in enumerate(frames):
            done = started and self.only_first
            ids = None if done else self.of_frame(frame, number == 0)
            read += ids is not None
            if ids is not None and not ids.any():
                ids = None
                if not started and read == len(self.files) and self.empty:
                    raise self.empty
            if ids is not None and not started and self.only_first and read < len(self.files):
                _log.info(
                    "the mask of frame %s starts its clip; later ones are not used (xmem.frames)",
                    frame.name,
                )
            started = started or ids is not None
            yield frame, ids
        if number >= 0 and not started:
            if self.empty:
                raise self.empty if read else self.unmet or self.empty
            _log.warning("no object was found in any frame; all masks are empty")


@dataclass(frozen=True)
class MaskTree:
    """Mask files of clips that are still to be named: a file or folder, as the module says."""

    path: Path
    rules: MaskRules

    def of_clip(
        self, clip: str, frame_names: Collection[str] | None = None, *, alone: bool = True
    ) -> "GivenMasks":
        """Find the masks of a clip, which is ``alone`` or one of several.

        ``frame_names`` are in order; None of a video, whose frames are ``<clip>_<six digits>``.
        """
        found, known = self._files(clip, alone=alone), frozenset(frame_names or ())
        of_video = re.compile(rf"{re.escape(clip)}_\d{{6,}}")
        named: dict[str, Path] = {}
        for path in found:
            names = (stem_of(path), frame_name(stem_of(path)))
            for name in names:
                if of_video.fullmatch(name) if frame_names is None else name in known:
                    named.setdefault(name, path)
                    break
        if named:
            order = sorted(named, key=natural_key) if frame_names is None else frame_names
            in_order = {name: named[name] for name in order if name in named}
            return GivenMasks(clip, None, in_order, self.rules)
        if len(found) == 1:
            return GivenMasks(clip, found[0], {}, self.rules)
        place, one = found[0].parent, found[0].name
        told = f"holds {len(found)} masks, none of which has the name of a frame, as {one}"
        expected = "masks named like their frames, or a single one"
        raise MediaError.at(place, told, expected, "rename them")

    def _files(self, clip: str, *, alone: bool) -> list[Path]:
        """The files that may be a clip's, at least one."""
        if self.path.is_file():
            if alone:
                return [self.path]
            told = "is one mask, and there are several clips"
            expected = "a folder with <clip>.png or <clip>/<frame>.png"
            remedy = "give the folder of their first masks"
            raise MediaError.at(self.path, told, expected, remedy)
        if not self.path.is_dir():
            raise UsageError.at(self.path, "no such file or folder", remedy="check --first-mask")
        bases = [self.path, inner_folder(self.path, "masks")]
        folders = [base for base in bases if base is not None]
        for base in folders:
            own = find_path(base, clip, os.path.isdir)
            if own is not None:
                inner = inner_folder(own, "masks") or own
                found = list_files(own, MASK_SUFFIXES) or list_files(inner, MASK_SUFFIXES)
            else:
                found = list_files(base, MASK_SUFFIXES)
                found = [path for path in found if stem_of(path) == clip][:1]
            if found:
                return found
        for base in folders if alone else ():
            if found := list_files(base, MASK_SUFFIXES):
                return found
        expected = f"{clip}.png, or a folder {clip} with masks named like the frames"
        remedy = "add its first mask, or take the clip out of the input"
        raise MediaError.at(self.path, f"holds no mask of the clip {clip!r}", expected, remedy)


class GivenMasks(FirstMasks):
    """Mask files of one clip: ``first`` for its first frame, or those named like frames."""

    def __init__(
        self, clip: str, first: Path | None, named: dict[str, Path], rules: MaskRules
    ) -> None:
        files = (*([first] if first else []), *named.values())
        if len(files) == 1:
            where, found = files[0], "holds no object (all of it is 0)"
            remedy = "draw the objects, or give the mask of a frame that shows them"
        else:
            where = files[0].parent
            found = f"none of the {len(files)} masks of the clip {clip!r} holds an object in a"
            found += " frame of it"
            remedy = "draw the objects, or check that masks are named like the frames"
        expected = "a first mask with at least one object"
        fault = MediaError.at(where, found, expected, remedy)
        super().__init__(rules, fault, self._of_frame, files)
        self.first, self.named, self._clip = first, named, clip
        unmet, wanted = "holds no object of a frame that is looked at", "the mask of one that is"
        self.unmet = MediaError.at(files[0], unmet, wanted, "check its name, and --every")

    def _of_frame(self, frame: VideoFrame, first: bool) -> Ids | None:
        """The mask named like the frame, or that of the first frame."""
        path = self.named.get(frame.name, self.first if first else None)
        if path is None:
            return None
        return self.rules.read(path, frame.image.shape[:2], f"frame {frame.name}")

    def check(self, size: tuple[int, int]) -> None:
        """Read the first mask; a MediaError if a clip of this size cannot start from it."""
        path, of = self.files[0], f"the frames of the clip {self._clip!r}"
        ids = self.rules.read(path, size, of)
        if self.empty and not ids.any() and len(self.files) == 1:
            raise self.empty


def array_masks(masks: Mapping[int, NDArray[np.generic]], rules: MaskRules) -> FirstMasks:
    """Masks given from Python by frame index, (H, W) of bool or whole numbers 0..65535."""
    known: dict[int, Ids] = {}
    for index, given in masks.items():
        mask = np.asarray(given)
        sound = mask.ndim == 2 and mask.dtype.kind in "bui"
        if not sound or (mask.size and not 0 <= int(mask.min()) <= int(mask.max()) <= 65535):
            found = f"has shape {mask.shape} and type {mask.dtype}"
            expected = "(height, width) of bool or of ids in 0..65535"
            raise MediaError.at(f"the first mask of frame {index}", found, expected)
        known[index] = mask.astype(np.uint16)

    def of_frame(frame: VideoFrame, _: bool) -> Ids | None:
        mask = known.get(frame.frame_index)
        where = f"the first mask of frame {frame.frame_index}"
        return None if mask is None else rules.of_size(mask, where, frame.image.shape, "its frame")

    expected = "at least one object in the mask of a frame"
    fault = ("the first mask", "no frame came with an object", expected)
    return FirstMasks(rules, MediaError.at(*fault, "check masks and frame indices"), of_frame)


def found_masks(predictor: Predictor, rules: MaskRules) -> FirstMasks:
    """Masks found by another network, in the first frame in which it finds anything, seen alone."""

    def of_frame(frame: VideoFrame, _: bool) -> Ids | None:
        found = next(iter(predictor.segment([frame.image])))
        kept = split_mask(found.mask, minimum_area=rules.settings.minimum_area)
        # A mask without ids is one object; its pieces are told apart on request.
        mask = kept if rules.settings.objects == "instances" else (kept > 0).astype(np.int32)
        return rules.apply(mask, f"the mask found in frame {frame.name}")

    return FirstMasks(rules, None, of_frame)


def first_masks(
    given: FirstMask, finder: Predictor | None, rules: MaskRules
) -> FirstMasks | MaskTree:
    """The masks of what a caller may give as a first mask; ``finder`` is for ``auto``."""
    if isinstance(given, Mapping | np.ndarray):
        return array_masks(given if isinstance(given, Mapping) else {0: given}, rules)
    if str(given) != "auto":
        return MaskTree(Path(given), rules)
    if finder is None:
        found = "is auto, and no network is named that finds it"
        expected = "first_mask_checkpoint, a checkpoint of the network 'dvos' or 'paper'"
        remedy = "give it with --first-mask-checkpoint"
        raise UsageError.at("first_mask", found, expected, remedy)
    return found_masks(finder, rules)
