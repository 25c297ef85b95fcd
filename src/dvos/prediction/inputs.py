"""What ``INPUT`` of a prediction may be, and the clips in it."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dvos.config.prediction import PredictionOptions
from dvos.errors import FaultCollector, MediaError, TableError, UsageError
from dvos.files import composed, file_stamp, is_plain_name, stem_of
from dvos.media import layout
from dvos.media.frames import FrameSource, ImageFolder, ImageList, PanClip, store_frames
from dvos.media.image import ground_pixel
from dvos.media.intensity import ASKED, MEASURED, is_to_be_told, settled, tell
from dvos.media.layout import IMAGE_SUFFIXES, ClipPlace, list_images
from dvos.media.left_out import tell_left_out
from dvos.media.video import VideoFile
from dvos.tables import frame_stem, read_clips, read_images, split_address
from dvos.tables.cells import read_records

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipInput:
    """One clip to predict."""

    name: str  # the folder its masks go to
    files: tuple[Path, ...]  # or frames of clip stores, that it is read from
    open: Callable[[], FrameSource]
    first: int = 0  # frames before this one are context only and get no mask
    intensity: str = "full"  # what becomes of samples of more than 8 bit
    still: bool = False  # whether it is the simulated pan over a photo
    every: int = 1  # of so many frames one is predicted, the first

    @property
    def source(self) -> Path:
        """The file or folder that it is read from."""
        first = self.files[0]
        if address := split_address(first):
            return address[0]
        is_frame = not self.still and first.suffix.lower() in IMAGE_SUFFIXES
        return first.parent if is_frame else first

    def frame_count(self) -> int | None:
        """Number of frames to predict, as far as stated; a MediaError if it cannot be opened."""
        count = len(self.files) if len(self.files) > 1 else self.open().frame_count
        return None if count is None else -(-count // self.every)

    def stamps(self) -> list[tuple[Any, ...]]:
        """Name of each file or frame, with size and time of change of its file; -1 if gone."""
        found = []
        for path in self.files:
            stamp = [-1, -1]
            # A frame that is gone leaves a gap; whoever reads it tells.
            with suppress(OSError):
                # A frame of a clip store changes with the file that holds it.
                stamp = file_stamp((split_address(path) or [path])[0])
            found.append((composed(path.name), *stamp))
        return found

    def fingerprint(self) -> list[tuple[Any, ...]]:
        """The stamps; where the samples are not divided by 257, their limits follow."""
        limits = [] if self.intensity == "full" else [(self.intensity, 0, 0)]
        return [*self.stamps(), *limits]


def find_clips(
    source: Path,
    *,
    stills: bool = False,
    context: int = 0,
    pan_step: int = 4,
    seed: int = 0,
    frame_rate: float | None = None,
    intensity: str = "auto",
) -> list[ClipInput]:
    """List the clips of an input, in natural order.

    The input is a video file; a clip store; a folder of frames, of videos, of clip stores, or of
    clips (each a folder of frames, in itself or in its own ``Frames``; also all inside a folder
    ``frames``); a CSV of clips or of images. ``stills`` are photos, each a simulated pan with
    ``context`` frames of ``pan_step`` pixels before it. The intensity ``auto`` is measured for each
    clip, and for all photos.

    Raises a UsageError if there is no such file or folder, a TableError if a CSV has faults, a
    MediaError if there is nothing to predict, or clips share a name.
    """
    kind = layout.path_kind(source)
    if stills:
        photos = _photos(source, kind)
        chosen = settled(intensity, photos)
        pan = partial(PanClip, count=context + 1, step=pan_step, seed=seed, intensity=chosen)
        clips = [
            ClipInput(stem_of(photo), (photo,), partial(pan, photo), context, chosen, still=True)
            for photo in photos
        ]
    elif kind == "table":
        clips = _clips_of_table(source, frame_rate, intensity)
    elif kind == "image":
        raise UsageError.at(
            source, "is a single image", "a video, a folder or a CSV", "add --set stills=true"
        )
    elif kind == "missing":
        raise UsageError.at(source, "no such file or folder", remedy="check the path of INPUT")
    else:
        if kind == "store":
            store_frames(source)  # where there is no other clip to do, a fault is told at once
        alone = [ClipPlace(stem_of(source), source, kind)]
        places = layout.find_clip_places(source) if kind == "folder" else alone
        clips = [_clip(place, frame_rate, intensity) for place in places]
    _check_names(clips, source)
    # Videos tell theirs when they are opened.
    spread = (one for one in clips if is_to_be_told(one.intensity, one.files))
    tell({one.name: one.intensity for one in spread}, MEASURED if intensity == "auto" else ASKED)
    if source.is_dir():
        used = {clip.source for clip in clips}.union(*(clip.files for clip in clips))
        tell_left_out(source, used, "give what is of another kind as another input")
    return clips


def with_ground_pixel(options: PredictionOptions, clip: ClipInput) -> PredictionOptions:
    """Options whose ``ground_sampling_distance`` is a number, or None; a photo may tell it."""
    distance = options.ground_sampling_distance
    if options.known_width is not None:
        pixels, millimetres = options.known_width
        distance = millimetres / pixels
    elif distance == "metadata":
        photo = clip.files[0]
        if photo.suffix.lower() not in IMAGE_SUFFIXES:
            found = "is no photo, whose EXIF and XMP would tell how much ground a pixel shows"
            expected = "photos, where ground_sampling_distance is metadata"
            raise MediaError.at(photo, found, expected, "give it in millimetres, or known_width")
        distance = ground_pixel(photo, options.camera_height)
    return options.model_copy(update={"ground_sampling_distance": distance})


def _photos(source: Path, kind: str) -> list[Path]:
    if kind == "folder":
        if photos := list_images(source):
            return photos
        raise MediaError.at(source, "holds no image", "photos", "point INPUT at the photos")
    if kind == "table":
        return [row.image for row in read_images(source)]
    if kind == "image":
        return [source]
    expected = "a photo, a folder of photos or a CSV with the column Image"
    found = "no such file or folder" if kind == "missing" else "is no image"
    raise UsageError.at(source, found, expected, "check the path of INPUT, or leave out stills")


def _clip(place: ClipPlace, frame_rate: float | None, intensity: str) -> ClipInput:
    path = place.path
    if place.kind == "video":
        # Measured anew each time it is opened: only what is given makes the work another.
        given = "full" if intensity == "auto" else intensity
        video = partial(VideoFile, path, intensity=intensity)
        return ClipInput(place.name, (path,), video, intensity=given)
    if place.kind == "folder":
        images = list_images(path)
        chosen = settled(intensity, images)
        make = partial(ImageFolder, path, frame_rate=frame_rate, intensity=chosen)
        return ClipInput(place.name, tuple(images), make, intensity=chosen)
    store = partial(_open_store, place, frame_rate)
    with suppress(MediaError):
        return ClipInput(place.name, tuple(store_frames(path)), store)
    # As of a video that cannot be read, whoever opens it is told.
    return ClipInput(place.name, (path,), store)


def _open_store(place: ClipPlace, frame_rate: float | None) -> ImageList:
    return ImageList(place.name, store_frames(place.path), frame_rate=frame_rate)


def _clips_of_table(table: Path, frame_rate: float | None, intensity: str) -> list[ClipInput]:
    groups: dict[str, list[Path]] = {}
    header = [name.strip() for record in read_records(table, 1) for name in record]
    if header and not {"VID", "Image"} & {*header}:
        found = f"has neither the column VID nor Image (its header is {','.join(header)[:200]})"
        raise TableError.at(f"{table} row 1", found, "VID,FID,Image,Mask,Label, or Image alone")
    if "VID" in header or not header:
        rows = sorted(read_clips(table), key=lambda row: (layout.natural_key(row.vid), row.fid))
        named = [(row.vid, row.image) for row in rows]
    else:
        # Frames of several videos in one table lie in a folder for each.
        named = [(layout.clip_name(row.image.parent), row.image) for row in read_images(table)]
    for name, image in named:
        # A table may name files from the current folder, where other machines do not work.
        groups.setdefault(name, []).append(image.absolute())
    clips = []
    for name, paths in groups.items():
        chosen = settled(intensity, paths)
        make = partial(ImageList, name, paths, frame_rate=frame_rate, intensity=chosen)
        clips.append(ClipInput(name, tuple(paths), make, intensity=chosen))
    return clips


def _check_names(clips: Sequence[ClipInput], source: Path) -> None:
    """See that every clip, and every frame of a clip, has a name of its own for its masks."""
    with FaultCollector(MediaError) as faults:
        for name, number in Counter(clip.name for clip in clips).items():
            if number > 1:
                remedy = "rename them, or predict them into different folders"
                found = f"{number} clips are named {name!r}"
                faults.add(source, found, "a name of its own for each", remedy)
            if not is_plain_name(name):
                expected = "a name without slashes that does not begin with a dot"
                found = f"the clip name {name!r} cannot name a folder"
                faults.add(source, found, expected, "rename the clip")
        for clip in clips:
            first: dict[str, Path] = {}
            for path in clip.files:
                other = first.setdefault(frame_stem(path), path)
                if other is not path:
                    expected = f"a name of its own for each frame of the clip {clip.name!r}"
                    remedy = "rename one: its mask would replace the other's"
                    faults.add(path, f"has the name of {other}", expected, remedy)
