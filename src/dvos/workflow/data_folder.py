"""What a data folder for ``dvos demo --data`` holds, found and checked.

::

    annotated/images/*          labelled stills
    annotated/head_mask/*       their masks (or annotated/masks), equal stems
    backgrounds/*               stills or videos without objects
    validation/images/*         labelled stills to score on, with
    validation/head_mask/*      their masks (or validation/masks); or
    validation/*.mp4            labelled videos, with
    validation/masks/<video>/*  a mask for each labelled frame
    target/*                    unlabelled videos to segment; may be absent
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dvos.errors import FaultCollector, UsageError, check_size
from dvos.files import absent, find_path
from dvos.media.addressed import read_image_at
from dvos.media.layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    VIDEO_SUFFIXES,
    list_files,
    list_folders,
    pair_stills,
)
from dvos.media.mask import object_pixels, read_mask
from dvos.tables import StillRow

_MASK_FOLDERS = ("head_mask", "masks")


@dataclass(frozen=True)
class LabelledVideo:
    """A video and the folder that holds masks of some or all of its frames."""

    video: Path
    masks: Path


@dataclass(frozen=True)
class DataFolder:
    """The inputs of one demo run.

    Attributes:
        folder: Where they lie.
        annotated: Labelled stills to cut from and to train on, at least one.
        background_videos: Videos without objects.
        background_stills: Stills without objects.
        validation_stills: Labelled stills to score on.
        validation_videos: Labelled videos to score on.
        targets: Unlabelled videos to segment.
    """

    folder: Path
    annotated: tuple[StillRow, ...]
    background_videos: tuple[Path, ...]
    background_stills: tuple[Path, ...]
    validation_stills: tuple[StillRow, ...]
    validation_videos: tuple[LabelledVideo, ...]
    targets: tuple[Path, ...]


def read_data_folder(folder: Path) -> DataFolder:
    """Find and check the inputs in ``folder``.

    Raises:
        UsageError: With a fault for everything that is missing or does not fit.
    """
    if not folder.is_dir():
        raise UsageError.at(folder, "no such folder", remedy="check the path of --data")
    with FaultCollector(UsageError) as faults:
        backgrounds = folder / "backgrounds"
        videos, stills = _videos(backgrounds, faults), _files(backgrounds, IMAGE_SUFFIXES)
        if not videos and not stills:
            faults.add(
                backgrounds,
                "no backgrounds" if backgrounds.is_dir() else "no such folder",
                "stills or videos of the scene without objects",
                "put at least one there",
            )
        for still in stills:
            faults.collect(read_image_at, still)
        annotated = _stills(folder / "annotated", faults, need_objects=True)
        validation = folder / "validation"
        labelled_videos = _labelled_videos(validation, faults)
        validation_stills: tuple[StillRow, ...] = ()
        masked = any(_files(validation / name, MASK_SUFFIXES) for name in _MASK_FOLDERS)
        if masked or _files(validation / "images", IMAGE_SUFFIXES):
            validation_stills = _stills(validation, faults)
        return DataFolder(
            folder=folder,
            annotated=annotated,
            background_videos=videos,
            background_stills=stills,
            validation_stills=validation_stills,
            validation_videos=labelled_videos,
            targets=_videos(folder / "target", faults),
        )


def _files(folder: Path, suffixes: frozenset[str]) -> tuple[Path, ...]:
    return tuple(sorted(list_files(folder, suffixes)))


def _videos(folder: Path, faults: FaultCollector) -> tuple[Path, ...]:
    videos = _files(folder, VIDEO_SUFFIXES)
    for video in videos:
        if not video.is_file():
            faults.add(video, absent(video), "a video file", "mount it, or remove the link")
    return videos


def _labelled_videos(folder: Path, faults: FaultCollector) -> tuple[LabelledVideo, ...]:
    found = [
        LabelledVideo(
            video, find_path(folder / "masks", video.stem) or folder / "masks" / video.stem
        )
        for video in _videos(folder, faults)
    ]
    for item in found:
        if not _files(item.masks, MASK_SUFFIXES):
            expected = f"masks of frames of {item.video.name}"
            remedy = "name them as the frames, or move the video to target/"
            faults.add(item.masks, "no masks", expected, remedy)
    named = {item.masks for item in found}
    for masks in list_folders(folder / "masks"):
        if masks not in named and _files(masks, MASK_SUFFIXES):
            faults.add(masks, f"no video of that name in {folder}", "", "add or remove it")
    return tuple(found)


def _stills(
    folder: Path, faults: FaultCollector, *, need_objects: bool = False
) -> tuple[StillRow, ...]:
    pairs = sorted(pair_stills(folder, faults, _MASK_FOLDERS))
    empty = 0
    for image, mask in pairs:
        # Whole, not by their headers: a file cut short would otherwise stop the
        # run after many minutes, when it is first decoded.
        pixels, labels = faults.collect(read_image_at, image), faults.collect(read_mask, mask)
        if pixels is not None and labels is not None:
            faults.collect(check_size, mask, labels.shape, pixels.shape, image.name)
        empty += labels is not None and not object_pixels(labels).any()
    if need_objects and pairs and empty == len(pairs):
        remedy = "label some, or put photos there that show them"
        faults.add(folder, "no mask holds an object", "at least one labelled object", remedy)
    return tuple(StillRow(*pair) for pair in pairs)
