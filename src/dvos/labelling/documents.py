"""What is labelled: the frames of a data folder, of a video, or of a run's predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.files import is_plain_name, stem_of
from dvos.media.image import image_size, read_image, read_reduced
from dvos.media.intensity import choose_intensity
from dvos.media.layout import (
    IMAGE_SUFFIXES,
    MASK_FOLDERS,
    MASK_SUFFIXES,
    VIDEO_SUFFIXES,
    list_files,
    list_folders,
    path_kind,
)
from dvos.media.video_seek import SeekableVideo
from dvos.runner.manifest import read_clip_record

#: Where photos lie in a data folder, those that are labelled first.
_PHOTO_FOLDERS = ("annotated/images", ".", "unlabelled")


@dataclass(frozen=True)
class Photo:
    """A picture in a file of its own."""

    path: Path
    intensity: str

    def read(self) -> NDArray[np.uint8]:
        """The pixels, RGB (H, W, 3), upright."""
        return read_image(self.path, choose_intensity(self.intensity, [self.path], self.path))

    def small(self, side: int) -> NDArray[np.uint8]:
        """The picture, perhaps smaller, but no side less than that."""
        reduced = read_reduced(self.path, side)
        return self.read() if reduced is None else reduced

    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return image_size(self.path)


@dataclass(frozen=True)
class VideoPicture:
    """A frame of a video."""

    video: SeekableVideo
    index: int

    def read(self) -> NDArray[np.uint8]:
        """The pixels, RGB (H, W, 3), upright."""
        return self.video.frame(self.index)

    def small(self, side: int) -> NDArray[np.uint8]:  # noqa: ARG002
        """The pixels: a video has no smaller ones."""
        return self.read()

    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.video.size


@dataclass(frozen=True)
class Frame:
    """A picture and its mask.

    Attributes:
        name: Unique in the document; the stem of its label.
        picture: Gives the pixels.
        mask: File of the mask that is edited; it need not be there.
        given: Mask shown as long as ``mask`` is not there: a prediction, or a label elsewhere.
        label: Further file that an edit by hand is written to, to train on.
        clip: Name of its clip; empty for a photo.
        predicted: Whether ``given`` is a prediction.
    """

    name: str
    picture: Photo | VideoPicture
    mask: Path
    given: Path | None = None
    label: Path | None = None
    clip: str = ""
    predicted: bool = False


@dataclass
class Document:
    """The frames, in order, and the data folder that labels go to.

    Attributes:
        path: What was opened.
        root: The data folder.
        frames: The frames.
        tracked: Of each clip whose objects are followed, the folder of its tracks.
    """

    path: Path
    root: Path
    frames: list[Frame]
    tracked: dict[str, Path] = field(default_factory=dict)

    def of_clip(self, clip: str) -> list[int]:
        """Indices of the frames of a clip, in order."""
        return [index for index, frame in enumerate(self.frames) if frame.clip == clip]


@dataclass(frozen=True)
class PredictedClip:
    """A clip that was predicted.

    Attributes:
        name: Of the clip.
        folder: Of its masks.
        sources: Where its frames may lie, the likeliest place first.
        frames: Index and name of each frame, in order.
        counts: Number of objects in each frame.
    """

    name: str
    folder: Path
    sources: tuple[Path, ...]
    frames: tuple[tuple[int, str], ...]
    counts: tuple[float, ...]

    def mask(self, frame: str) -> Path:
        """The mask of a frame that tells its objects apart best."""
        kinds = (self.folder / "tracks", self.folder / "instances", self.folder)
        return next(kind for kind in kinds if kind.is_dir() or kind == self.folder) / f"{frame}.png"

    def pictures(self, intensity: str) -> list[Photo | VideoPicture]:
        """The pictures of its frames.

        Raises:
            MediaError: If they are not where the run read them.
        """
        source = next((place for place in self.sources if place.exists()), None)
        if source is None:
            found = f"its frames ({next(iter(self.sources), 'of unknown place')}) are gone"
            raise MediaError.at(self.folder, found, remedy="put them back, or predict again")
        if path_kind(source) == "video":
            video = SeekableVideo(source, intensity=intensity)
            return [VideoPicture(video, index) for index, _ in self.frames]
        photos = [source] if source.is_file() else list_files(source, IMAGE_SUFFIXES)
        known = {stem_of(photo): photo for photo in photos}
        if missing := [name for _, name in self.frames if name not in known]:
            raise MediaError.at(source, f"has no frame {missing[0]}", f"all frames of {self.name}")
        return [Photo(known[name], intensity) for _, name in self.frames]


def open_document(path: Path, out: Path | None = None, intensity: str = "auto") -> Document:
    """Find what there is to label.

    Args:
        path: A folder of photos or videos, which may be a data folder; a video; or a folder that
            ``dvos predict``, ``fit`` or ``demo`` wrote predictions to.
        out: The data folder; None for ``path`` itself, and for a video or a run for
            ``NAME-labels`` beside it.
        intensity: What becomes of samples of more than 8 bit.

    Raises:
        UsageError: If there is nothing to label, or two different photos have one name.
        MediaError: If a folder or a video cannot be read.
    """
    kind, real = path_kind(path), path.resolve()
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
    for place in (folder, *list_folders(folder)):
        for record in sorted((place / ".progress").glob("*.jsonl")):
            name = record.name.removesuffix(".jsonl")
            sources, rows = read_clip_record(record)
            if not rows or not is_plain_name(name) or not (place / name).is_dir():
                continue
            clips.append(
                PredictedClip(
                    name,
                    place / name,
                    tuple(record.parent / source for source in sources),
                    tuple((row["frame_index"], row["frame"]) for row in rows),
                    tuple(float(row.get("count") or 0) for row in rows),
                )
            )
    return clips


def mask_folder(root: Path) -> Path:
    """Where the masks of a data folder lie, or will."""
    places = [root / "annotated" / name for name in MASK_FOLDERS]
    return next((place for place in places if place.is_dir()), places[-1])


def _of_folder(path: Path, root: Path, intensity: str) -> Document:
    """Photos and videos of a data folder, what is labelled first."""
    there = {stem_of(mask): mask for mask in list_files(mask_folder(path), MASK_SUFFIXES)}
    masks = mask_folder(root)
    frames: dict[str, Frame] = {}
    with FaultCollector(UsageError) as faults:
        photos = (list_files(path / name, IMAGE_SUFFIXES) for name in _PHOTO_FOLDERS)
        for photo in (photo for folder in photos for photo in folder):
            name = stem_of(photo)
            if name in frames:
                known = frames[name].picture
                # A photo that is labelled lies in two places.
                if isinstance(known, Photo) and not _are_one(known.path, photo):
                    found = f"has the name of another picture, {known.path}"
                    faults.add(photo, found, "names of their own", "rename one of them")
                continue
            place, given = masks / f"{name}.png", there.get(name)
            picture = Photo(photo, intensity)
            if given is not None and root == path:
                frames[name] = Frame(name, picture, given)
            else:
                frames[name] = Frame(name, picture, place, given)
    for video in (
        one for place in (path, path / "unlabelled") for one in list_files(place, VIDEO_SUFFIXES)
    ):
        found_frames = _video_frames(video, root, intensity)
        frames |= {frame.name: frame for frame in found_frames if frame.name not in frames}
    return Document(path, root, [*frames.values()])


def _are_one(first: Path, second: Path) -> bool:
    return first.name == second.name and first.stat().st_size == second.stat().st_size


def _video_frames(path: Path, root: Path, intensity: str) -> Iterator[Frame]:
    video, masks = SeekableVideo(path, intensity=intensity), mask_folder(root)
    for index in range(video.count()):
        name = f"{video.name}_{index:06d}"
        yield Frame(name, VideoPicture(video, index), masks / f"{name}.png", clip=video.name)


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
                    made = Frame(name, picture, label, given, clip=clip.name, predicted=True)
                document.frames.append(made)
    return document
