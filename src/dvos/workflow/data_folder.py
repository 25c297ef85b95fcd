"""What a data folder for ``dvos fit`` holds, found and checked; any part of it may be absent.

It may have ``annotated/{images,masks}``, ``clips.csv``, ``backgrounds/*``,
``validation/{images,masks}``, ``validation/*.mp4`` with ``validation/masks/<video>/*``,
``target/*`` and ``unlabelled/*``.
"""

import csv
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dvos.errors import (
    DvosError,
    FaultCollector,
    MediaError,
    UsageError,
    check_size,
    shortened,
)
from dvos.files import absent, absolute, find_path, real_path, stem_of
from dvos.media import layout
from dvos.media.clip_store import read_image_at
from dvos.media.frames import open_frames
from dvos.media.left_out import tell_left_out
from dvos.media.mask import mask_size, object_pixels, read_mask
from dvos.runner.display import waiting
from dvos.runner.manifest import read_clip_record
from dvos.tables import StillRow, read_clips
from dvos.training.fingerprints import declarations

_log = logging.getLogger(__name__)

_EXPECTED = "annotated/images and annotated/masks, or clips.csv, or unlabelled videos or photos"
_REMEDY = "see docs/how-to/fit.md; dvos import makes such a folder of other programs' annotations"

_THREADS = 4  # that read photos and videos
_NUMBER = re.compile(r"(?:.*\D)?(\d{4,})")
_ALIKE = "extract both alike, with names=frame, or rename the masks by the frames they show"


@dataclass(frozen=True)
class LabelledVideo:
    """A video and the folder that holds masks of some or all of its frames."""

    video: Path
    masks: Path


@dataclass(frozen=True)
class DataFolder:
    """The inputs of one run of the whole method."""

    folder: Path  # Where they lie.
    annotated: tuple[StillRow, ...] = ()  # Labelled stills to cut from and to train on.
    clips: Path | None = None  # Table of labelled video frames to train on.
    clip_frames: tuple[StillRow, ...] = ()  # Its labelled frames, in its order.
    background_videos: tuple[Path, ...] = ()  # Videos without objects.
    background_stills: tuple[Path, ...] = ()  # Stills without objects.
    validation_stills: tuple[StillRow, ...] = ()  # Labelled stills to score on.
    validation_videos: tuple[LabelledVideo, ...] = ()  # Labelled videos to score on.
    targets: tuple[Path, ...] = ()  # Unlabelled videos to segment.
    unlabelled: tuple[Path, ...] = ()  # Videos and folders of frames to learn from.
    photos: tuple[Path, ...] = ()  # Photos to learn from.

    @property
    def labelled(self) -> tuple[StillRow, ...]:
        """The stills that tell what objects look like; without any, the frames of clips."""
        return self.annotated or self.clip_frames

    def learnt_from(self) -> Iterator[Path]:
        """Files, tables and folders that a run learns from, or chooses its weights by."""
        for row in (*self.annotated, *self.validation_stills):
            yield from (row.image, row.mask, *declarations(row.mask))
        yield from () if self.clips is None else (self.clips,)
        yield from (*self.background_videos, *self.background_stills)
        for place in self.unlabelled:
            frames = layout.list_files(place, layout.IMAGE_SUFFIXES)
            yield from frames if place.is_dir() else (place,)
        yield from self.photos

    @property
    def validates(self) -> bool:
        """Whether something is labelled to score on."""
        return bool(self.validation_stills or self.validation_videos)

    def tell_left_out(self) -> None:
        """Warn of pictures and videos of the folder that no part of the method uses."""
        rows = (*self.annotated, *self.validation_stills)
        videos = (item.video for item in self.validation_videos)
        folders = (x for x in self.unlabelled if x.is_dir())
        frames = (x for one in folders for x in layout.list_files(one, layout.IMAGE_SUFFIXES))
        others = (*self.background_videos, *self.background_stills, *self.targets, *self.photos)
        used = {row.image for row in rows}.union(videos, frames, others, self.unlabelled)
        # The table of clips says what is used of the folders that it names.
        home = self.folder.absolute()
        named = (path for row in self.clip_frames for path in (row.image, row.mask))
        known = {path.relative_to(home).parts[0] for path in named if home in path.parents}
        tell_left_out(self.folder, used, "see docs/how-to/fit.md", known)


def read_data_folder(folder: Path, where: str = "--data", void: str = "auto") -> DataFolder:
    """Find and check the inputs in ``folder``, given as ``where``; a UsageError of all faults.

    ``void`` are the values of masks that mean "unknown", see :func:`~dvos.media.mask.read_mask`.

    Where nothing is labelled, videos and photos in the folder itself and in ``target`` count as
    unlabelled ones; ``folder`` may then be a single video.
    """
    if folder.is_file() and folder.suffix.lower() in layout.VIDEO_SUFFIXES:
        data = DataFolder(folder.parent, unlabelled=(folder,))
        with FaultCollector(UsageError) as faults:
            _check_media(data, faults)
        return data
    if folder.is_file():
        remedy = "give the folder that it lies in"
        raise UsageError.at(folder, "is a file, and no video", "a data folder, or a video", remedy)
    if not folder.is_dir():
        raise UsageError.at(folder, "no such folder", remedy=f"check the path of {where}")
    with FaultCollector(UsageError) as faults:
        data = _find(folder, faults, void)
        if not data.labelled and not faults:
            places = (folder / "unlabelled", folder, folder / "target")
            moving = tuple(x for place in places for x in _moving(place, faults))
            photos = (x for place in places[:2] for x in _files(place, layout.IMAGE_SUFFIXES))
            data = replace(data, unlabelled=moving, photos=tuple(photos))
            if not (data.unlabelled or data.photos or faults):
                faults.add(folder, "holds nothing to learn from", _EXPECTED, _REMEDY)
        _check_media(data, faults)
        data.tell_left_out()
    return _without_unscored(data)


def _find(folder: Path, faults: FaultCollector, void: str) -> DataFolder:
    backgrounds, unlabelled = folder / "backgrounds", folder / "unlabelled"
    videos, stills = _videos(backgrounds, faults), _files(backgrounds, layout.IMAGE_SUFFIXES)
    for still in stills:
        faults.collect(read_image_at, still)
    there = (folder / "annotated").is_dir()
    annotated = _stills(folder / "annotated", faults, void, need_objects=True) if there else ()
    table = folder / "clips.csv"
    rows = (faults.collect(read_clips, table) if table.is_file() else None) or []
    frames = (StillRow(row.image, row.mask) for row in rows if row.label == 1 and row.mask)
    validation = folder / "validation"
    labelled_videos = _labelled_videos(validation, faults)
    masked = any(_files(validation / name, layout.MASK_SUFFIXES) for name in layout.MASK_FOLDERS)
    there = masked or bool(_files(validation / "images", layout.IMAGE_SUFFIXES))
    return DataFolder(
        folder=folder,
        annotated=annotated,
        clips=table if rows else None,
        clip_frames=tuple(frames),
        background_videos=videos,
        background_stills=stills,
        validation_stills=_stills(validation, faults, void) if there else (),
        validation_videos=labelled_videos,
        targets=_videos(folder / "target", faults),
        unlabelled=_moving(unlabelled, faults) if unlabelled.is_dir() else (),
        photos=_files(unlabelled, layout.IMAGE_SUFFIXES),
    )


def _check_media(data: DataFolder, faults: FaultCollector) -> None:
    """A fault for each photo that cannot be read, and each video that cannot be opened.

    Those with masks are looked at beside these. Only the first frame of a video is read.
    """
    scored = [item.video for item in data.validation_videos]
    for folder, predicted in (("target", data.targets), ("validation", scored)):
        for name, number in Counter(map(stem_of, predicted)).items():
            if number > 1:
                found = f"{number} videos are named {name!r}"
                faults.add(data.folder / folder, found, "a name of its own for each", "rename them")
    videos = dict.fromkeys((*data.background_videos, *scored, *data.targets, *data.unlabelled))
    steps: list[tuple[Callable[[Path], object], Path]] = [
        *((_first_frame, video) for video in videos if video.exists()),
        *((read_image_at, photo) for photo in data.photos),
    ]
    with waiting("reads photos and videos"), ThreadPoolExecutor(_THREADS) as pool:
        for error in pool.map(lambda step: _error_of(*step), steps):
            faults.extend(error.faults if error else ())


def _first_frame(source: Path) -> None:
    next(iter(open_frames(source)), None)


def _error_of(step: Callable[[Path], object], path: Path) -> DvosError | None:
    try:
        step(path)
    except DvosError as error:
        return error
    return None


def _without_unscored(data: DataFolder) -> DataFolder:
    """Without labelled videos where photos are labelled to score on, which a line tells."""
    if not (data.validation_stills and data.validation_videos):
        return data
    videos = shortened([item.video.name for item in data.validation_videos])
    text = "%s: scored are the photos in images/ alone, and not %s; give these to dvos evaluate"
    _log.warning(text, data.folder / "validation", videos)
    return replace(data, validation_videos=())


def _moving(folder: Path, faults: FaultCollector) -> tuple[Path, ...]:
    """The videos of a folder, and the folders of frames in ``unlabelled``."""
    inner = layout.list_folders(folder) if folder.name == "unlabelled" else []
    return (*_videos(folder, faults), *(x for x in inner if _files(x, layout.IMAGE_SUFFIXES)))


def _files(folder: Path, suffixes: frozenset[str]) -> tuple[Path, ...]:
    return tuple(sorted(layout.list_files(folder, suffixes)))


def _videos(folder: Path, faults: FaultCollector) -> tuple[Path, ...]:
    videos = _files(folder, layout.VIDEO_SUFFIXES)
    if made := [video for video in videos if _is_overlay(video)]:
        found = f"holds results of dvos predict, such as {made[0].name}"
        remedy = "give the folder of the videos that were predicted, or move the results elsewhere"
        faults.add(folder, found, "videos as they were taken", remedy)
        return ()
    for video in videos:
        if not video.is_file():
            faults.add(video, absent(video), "a video file", "mount it, or remove the link")
    return videos


def _is_overlay(video: Path) -> bool:
    """Whether prediction has drawn a video: it bears a clip's name, and is not what that is of."""
    record = video.parent / ".progress" / f"{stem_of(video)}.jsonl"
    sources = read_clip_record(record)[0] if record.is_file() else []
    return bool(sources) and all(real_path(record.parent / x) != real_path(video) for x in sources)


def _labelled_videos(folder: Path, faults: FaultCollector) -> tuple[LabelledVideo, ...]:
    found, extracted = [], ExtractedFrames()
    for video in _videos(folder, faults):
        masks = find_path(folder / "masks", video.stem) or folder / "masks" / video.stem
        found.append(LabelledVideo(video, masks))
        files = _files(masks, layout.MASK_SUFFIXES)
        if not files:
            remedy = "name them as the frames, or move the video to target/"
            faults.add(masks, "no masks", f"masks of frames of {video.name}", remedy)
        extracted.check_pairs([(None, file) for file in files], faults)
        with suppress(MediaError):  # told with the other videos
            size = open_frames(video).size
            for path in files:
                if (found_size := faults.collect(mask_size, path)) is not None:
                    faults.collect(check_size, path, found_size, size, video.name)
    named = {item.masks for item in found}
    for masks in layout.list_folders(folder / "masks"):
        if masks not in named and _files(masks, layout.MASK_SUFFIXES):
            faults.add(masks, f"no video of that name in {folder}", "", "add or remove it")
    return tuple(found)


def _stills(
    folder: Path, faults: FaultCollector, void: str, *, need_objects: bool = False
) -> tuple[StillRow, ...]:
    pairs = sorted(layout.pair_stills(folder, faults))
    ExtractedFrames().check_pairs(pairs, faults)
    empty = 0
    for image, mask in pairs:
        # Whole, not by their headers: a file cut short would stop the run after many minutes.
        pixels, labels = faults.collect(read_image_at, image), faults.collect(read_mask, mask, void)
        if pixels is not None and labels is not None:
            faults.collect(check_size, mask, labels.shape, pixels.shape, image.name)
        empty += labels is not None and not object_pixels(labels).any()
    if need_objects and pairs and empty == len(pairs):
        remedy = "label some, or put photos there that show them"
        faults.add(folder, "no mask holds an object", "at least one labelled object", remedy)
    return tuple(StillRow(*pair) for pair in pairs)


class ExtractedFrames:
    """Frames of videos by the tables of ``extract frames`` beside pictures, each read once.

    A picture named by its order may be of another frame, of the same size, without any error.
    """

    def __init__(self) -> None:
        self._listed = cache(_listed)
        self._near: dict[str, list[dict[str, int]]] = {}  # by folder, the nearest table first

    def check_pairs(
        self, pairs: Iterable[tuple[Path | None, Path]], faults: FaultCollector
    ) -> None:
        """A fault for each mask that a table tells to be of another frame than its picture.

        Without a picture its name counts. A line tells of names alone that have another number.
        """
        doubtful = []
        for image, mask in pairs:
            of_mask = self.frame_of(mask)
            of_image = _number(mask) if image is None else self.frame_of(image)
            if of_mask is None or of_image == of_mask:
                continue
            if of_image is not None:
                other = "its name says" if image is None else f"{image.name} shows"
                found = f"shows frame {of_mask} of a video, and {other} frame {of_image}"
                faults.add(mask, found, "picture and mask of one frame", _ALIKE)
            elif image is not None and _number(image) not in (None, of_mask):
                doubtful.append(f"{mask} (frame {of_mask})")
        if doubtful:
            text = "%s: by their table masks of other frames than their pictures' names tell; %s"
            _log.warning(text, shortened(doubtful), _ALIKE)

    def frame_of(self, path: Path) -> int | None:
        """The frame of a video that a file shows, if a table in a folder about it tells."""
        place = absolute(str(path))
        folder = os.path.dirname(place)  # noqa: PTH120 (text: tables have some ten thousand rows)
        if folder not in self._near:
            above = [*Path(place).parents][:3]
            self._near[folder] = [found for one in above if (found := self._listed(one))]
        return next((found[place] for found in self._near[folder] if place in found), None)


def _listed(folder: Path) -> dict[str, int]:
    """Frames by the files that tables of ``extract frames`` in a folder list."""
    found: dict[str, int] = {}
    for table in sorted(folder.glob("*.csv")):
        # What cannot be read is told of by whoever needs it.
        with (
            suppress(OSError, ValueError, TypeError, csv.Error),
            table.open(encoding="utf-8-sig", newline="") as stream,
        ):
            rows = csv.DictReader(stream)
            if {"Image", "Video", "Frame"} <= set(rows.fieldnames or ()):
                for row in rows:
                    found[absolute(str(folder / row["Image"]))] = int(row["Frame"])
    return found


def _number(path: Path) -> int | None:
    match = _NUMBER.fullmatch(stem_of(path))
    return None if match is None else int(match[1])
