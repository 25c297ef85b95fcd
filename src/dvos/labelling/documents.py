"""What is labelled: the frames of a data folder, of a video, or of a run's predictions."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvos.errors import Fault, FaultCollector, MediaError, UsageError, shortened
from dvos.files import is_plain_name, stem_of
from dvos.media import layout
from dvos.media.image import image_size, read_image, read_reduced
from dvos.media.intensity import choose_intensity
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_files
from dvos.media.left_out import tell_left_out
from dvos.media.video import SeekableVideo
from dvos.runner.manifest import read_clip_record

#: Where photos lie in a data folder, those that are labelled first.
_PHOTO_FOLDERS = ("annotated/images", ".", "unlabelled")
#: What else there is for trainings and scores.
_DATA_FOLDERS = ("annotated", "backgrounds", "target", "validation")
#: Most that a frame's name may take of the 255 of a file's: its journal has the longest ending.
_LONGEST = 255 - len(".jsonl")
#: How file systems count names.
_ENCODING, _UNIT = ("utf-16-le", 2) if sys.platform == "win32" else ("utf-8", 1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """A picture in a file of its own, or a frame of a video."""

    path: Path  # of the file
    intensity: str  # what becomes of samples of more than 8 bit
    video: SeekableVideo | None = None
    index: int = 0  # in the video

    def read(self) -> NDArray[np.uint8]:
        """The pixels, RGB (H, W, 3), upright."""
        if self.video is not None:
            return self.video.frame(self.index)
        return read_image(self.path, choose_intensity(self.intensity, [self.path], self.path))

    def small(self, side: int) -> NDArray[np.uint8]:
        """The pixels of a picture that may be smaller, but no side less than that."""
        reduced = None if self.video else read_reduced(self.path, side)
        return self.read() if reduced is None else reduced

    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return image_size(self.path) if self.video is None else self.video.size


@dataclass(frozen=True)
class Frame:
    """A picture and its mask."""

    name: str  # unique in the document; the stem of its label
    picture: Shown
    mask: Path  # file of the mask that is edited; it need not be there
    given: Path | None = None  # shown as long as that is not there: a prediction, or another label
    label: Path | None = None  # further file that an edit by hand is written to, to train on
    clip: str = ""  # name of its clip; empty for a photo
    predicted: bool = False  # whether what is given is a prediction


@dataclass
class Document:
    """The frames of what was opened, in order, and the data folder that labels go to."""

    path: Path
    root: Path
    frames: list[Frame]
    #: Of each clip whose objects are followed, the folder of its tracks.
    tracked: dict[str, Path] = field(default_factory=dict)

    def of_clip(self, clip: str) -> list[int]:
        """Indices of the frames of a clip, in order; photos are of none, whatever its name."""
        return [index for index, frame in enumerate(self.frames) if clip and frame.clip == clip]


class PredictedClip(NamedTuple):
    """A clip that was predicted."""

    name: str
    folder: Path  # of its masks
    sources: tuple[Path, ...]  # where its frames may lie, the likeliest place first
    frames: tuple[tuple[int, str], ...]  # index and name of each
    counts: tuple[float, ...]  # number of objects in each frame

    def mask(self, frame: str) -> Path:
        """The mask of a frame that tells its objects apart best."""
        kinds = (self.folder / "tracks", self.folder / "instances", self.folder)
        return next(kind for kind in kinds if kind.is_dir() or kind == self.folder) / f"{frame}.png"

    def pictures(self, intensity: str) -> list[Shown]:
        """The pictures of its frames; a MediaError if they are not where the run read them."""
        source = next((place for place in self.sources if place.exists()), None)
        if source is None:
            found = f"its frames ({next(iter(self.sources), 'of unknown place')}) are gone"
            raise MediaError.at(self.folder, found, remedy="put them back, or predict again")
        if layout.path_kind(source) == "video":
            video = SeekableVideo(source, intensity=intensity)
            return [Shown(source, intensity, video, index) for index, _ in self.frames]
        photos = [source] if source.is_file() else list_files(source, IMAGE_SUFFIXES)
        known = {stem_of(photo): photo for photo in photos}
        if missing := [name for _, name in self.frames if name not in known]:
            raise MediaError.at(source, f"has no frame {missing[0]}", f"all frames of {self.name}")
        return [Shown(known[name], intensity) for _, name in self.frames]


def open_document(path: Path, out: Path | None = None, intensity: str = "auto") -> Document:
    """Find what there is to label, and the data folder for it.

    ``path`` is a folder of photos or videos, a video, or a folder of predictions. Labels go to
    ``out``, else to the folder itself, or of a video or a run to ``NAME-labels`` beside it. What no
    label can be named after is left out, and told. A UsageError if there is nothing to label, or
    two photos, videos or predicted clips have one name.
    """
    kind, real = layout.path_kind(path), path.resolve()
    beside = real.parent / f"{real.name if kind == 'folder' else stem_of(real)}-labels"
    if kind == "folder" and (clips := find_predictions(path)):
        document = _of_run(path, out or beside, clips, intensity)
    elif kind == "folder":
        document = _of_folder(path, out or path, intensity)
    elif kind == "video":
        root = out or beside
        document = Document(path, root, [*_video_frames(path, root, intensity)])
    else:
        found = "no such file or folder" if kind == "missing" else f"is one {kind} file"
        remedy = "check the path" if kind == "missing" else "name the folder it is in"
        raise UsageError.at(path, found, "a folder, a video or a run", remedy)
    if not document.frames:
        expected = "photos or videos in it, in annotated/images or in unlabelled"
        raise UsageError.at(path, "holds nothing to label", expected)
    document.frames = _nameable(path, document.frames)
    return document


def find_predictions(folder: Path) -> list[PredictedClip]:
    """The clips that ``dvos predict`` wrote masks of into a folder, or into folders in it."""
    clips = []
    for place in (folder, *layout.list_folders(folder)):
        for record in sorted((place / ".progress").glob("*.jsonl")):
            name = record.name.removesuffix(".jsonl")
            sources, rows = read_clip_record(record)
            if rows and is_plain_name(name) and (place / name).is_dir():
                frames = tuple((row["frame_index"], row["frame"]) for row in rows)
                counts = tuple(float(row.get("count") or 0) for row in rows)
                places = tuple(record.parent / source for source in sources)
                clips.append(PredictedClip(name, place / name, places, frames, counts))
    return clips


def mask_folder(root: Path) -> Path:
    """Where the masks of a data folder lie, or will."""
    places = [root / "annotated" / name for name in layout.MASK_FOLDERS]
    # Which also answers for names that the system refuses.
    return next((place for place in places if os.path.isdir(place)), places[-1])  # noqa: PTH112


def _of_folder(path: Path, root: Path, intensity: str) -> Document:
    """Photos and videos of a data folder, what is labelled first."""
    there = {stem_of(mask): mask for mask in list_files(mask_folder(path), layout.MASK_SUFFIXES)}
    masks = mask_folder(root)
    photos = [x for at in _PHOTO_FOLDERS for x in list_files(path / at, IMAGE_SUFFIXES)]
    videos = [x for at in (".", "unlabelled") for x in list_files(path / at, VIDEO_SUFFIXES)]
    with FaultCollector(UsageError) as faults:
        named = _by_name(photos, "picture", faults)
        films = _by_name(videos, "video", faults)
    frames: dict[str, Frame] = {}
    for name, photo in named.items():
        given = there.get(name)
        mask = given if given is not None and root == path else masks / f"{name}.png"
        given = None if given == mask else given
        frames[name] = Frame(name, Shown(photo, intensity), mask, given)
    for video in films.values():
        for frame in _video_frames(video, root, intensity):
            frames.setdefault(frame.name, frame)
    left = "name such a folder itself to label it"
    tell_left_out(path, {*photos, *videos}, left, _DATA_FOLDERS)
    return Document(path, root, [*frames.values()])


def _by_name(paths: Iterable[Path], what: str, faults: FaultCollector) -> dict[str, Path]:
    """The first file of each name; another one of it is a fault, unless it is a copy."""
    known: dict[str, Path] = {}
    for path in paths:
        first = known.setdefault(stem_of(path), path)
        if first != path and _mark(first) != _mark(path):  # a labelled one lies in two places
            found = f"has the name of another {what}, {first}"
            faults.add(path, found, "names of their own", "rename one of them")
    return known


def _mark(file: Path) -> tuple[str, int]:
    return file.name, file.stat().st_size


def _nameable(path: Path, frames: list[Frame]) -> list[Frame]:
    """The frames that labels can be named after; a UsageError if there is none of them."""
    good = [frame for frame in frames if _is_nameable(frame.name) and _is_nameable(frame.clip)]
    if len(good) < len(frames):
        kept = {frame.name for frame in good}
        left = dict.fromkeys(one.picture.path.name for one in frames if one.name not in kept)
        expected = f"names in UTF-8 of at most {_LONGEST} bytes without ending"
        fault = Fault(str(path), f"left out: {shortened([*left])}", expected, "rename them")
        if not good:
            raise UsageError(fault)
        _log.warning("%s", fault)
    return good


def _is_nameable(name: str) -> bool:
    try:
        return len(name.encode(_ENCODING)) <= _LONGEST * _UNIT
    except UnicodeEncodeError:
        return False


def _video_frames(path: Path, root: Path, intensity: str) -> Iterator[Frame]:
    video, masks = SeekableVideo(path, intensity=intensity), mask_folder(root)
    for index in range(video.count()):
        name, picture = f"{video.name}_{index:06d}", Shown(path, intensity, video, index)
        yield Frame(name, picture, masks / f"{name}.png", clip=video.name)


def _of_run(path: Path, root: Path, clips: list[PredictedClip], intensity: str) -> Document:
    """Frames that were predicted: tracks are edited where they lie, other masks become labels."""
    with FaultCollector(UsageError) as faults:
        known: dict[str, PredictedClip] = {}
        for clip in clips:
            if (first := known.setdefault(clip.name, clip)) is not clip:
                found = f"has the name of another predicted clip, {first.folder}"
                faults.add(clip.folder, found, "one prediction of it", "open the folder of one")
    named = Counter(name for clip in clips for _, name in clip.frames)
    document, masks = Document(path, root, []), mask_folder(root)
    with FaultCollector(MediaError) as faults:
        for clip in clips:
            tracks = clip.folder / "tracks"
            if tracks.is_dir():
                document.tracked[clip.name] = tracks
            pictures = faults.collect(clip.pictures, intensity) or []
            for (_, frame), picture in zip(clip.frames, pictures, strict=False):
                name = frame if named[frame] == 1 else f"{clip.name}_{frame}"
                given, label = clip.mask(frame), masks / f"{name}.png"
                if clip.name in document.tracked:
                    made = Frame(name, picture, given, label=label, clip=clip.name)
                else:
                    film = clip.name if len(clip.frames) > 1 else ""  # else a photo
                    made = Frame(name, picture, label, given, clip=film, predicted=True)
                document.frames.append(made)
    return document
