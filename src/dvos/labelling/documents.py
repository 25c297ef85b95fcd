"""What is labelled: the frames of a data folder, of a video, or of a run's predictions."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError, UsageError
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
        """Indices of the frames of a clip, in order."""
        return [index for index, frame in enumerate(self.frames) if frame.clip == clip]


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
    ``out``, else to the folder itself, or of a video or a run to ``NAME-labels`` beside it. A
    UsageError if there is nothing to label, or two photos have one name.
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
    return next((place for place in places if place.is_dir()), places[-1])


def _of_folder(path: Path, root: Path, intensity: str) -> Document:
    """Photos and videos of a data folder, what is labelled first."""
    there = {stem_of(mask): mask for mask in list_files(mask_folder(path), layout.MASK_SUFFIXES)}
    masks = mask_folder(root)
    frames: dict[str, Frame] = {}
    photos: dict[str, Path] = {}
    with FaultCollector(UsageError) as faults:
        listed = [list_files(path / name, IMAGE_SUFFIXES) for name in _PHOTO_FOLDERS]
        for photo in itertools.chain(*listed):
            name = stem_of(photo)
            if name not in photos:
                photos[name], given = photo, there.get(name)
                mask = given if given is not None and root == path else masks / f"{name}.png"
                given = None if given == mask else given
                frames[name] = Frame(name, Shown(photo, intensity), mask, given)
            elif _mark(photos[name]) != _mark(photo):  # a labelled one lies in two places
                found = f"has the name of another picture, {photos[name]}"
                faults.add(photo, found, "names of their own", "rename one of them")
    videos = [x for at in (path, path / "unlabelled") for x in list_files(at, VIDEO_SUFFIXES)]
    for video in videos:
        for frame in _video_frames(video, root, intensity):
            frames.setdefault(frame.name, frame)
    used = {*itertools.chain(*listed), *videos}
    tell_left_out(path, used, "name such a folder itself to label it", _DATA_FOLDERS)
    return Document(path, root, [*frames.values()])


def _mark(photo: Path) -> tuple[str, int]:
    return photo.name, photo.stat().st_size


def _video_frames(path: Path, root: Path, intensity: str) -> Iterator[Frame]:
    video, masks = SeekableVideo(path, intensity=intensity), mask_folder(root)
    for index in range(video.count()):
        name, picture = f"{video.name}_{index:06d}", Shown(path, intensity, video, index)
        yield Frame(name, picture, masks / f"{name}.png", clip=video.name)


def _of_run(path: Path, root: Path, clips: list[PredictedClip], intensity: str) -> Document:
    """Frames that were predicted: tracks are edited where they lie, other masks become labels."""
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
