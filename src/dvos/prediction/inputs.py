"""What ``INPUT`` of a prediction may be, and the clips in it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.media.frames import FrameSource, ImageFolder, ImageList, PanClip, store_frames
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_images, natural_key
from dvos.media.video import VideoFile
from dvos.tables import STORE_SUFFIX, frame_stem, read_clips, read_images, split_address

__all__ = ["ClipInput", "find_clips"]


class OpenFrames(Protocol):
    """Opens the frames of a clip."""

    def __call__(self) -> FrameSource:
        """Open them."""


@dataclass(frozen=True)
class ClipInput:
    """One clip to predict.

    Attributes:
        name: Of the clip: the folder its masks go to.
        files: The files, or frames of clip stores, it is read from.
        open: Opens its frames.
        first: Frames before this one are context only and get no mask.
        still: Whether it is the pan clip of a photo.
    """

    name: str
    files: tuple[Path, ...]
    open: OpenFrames
    first: int = 0
    still: bool = False

    def frame_count(self) -> int | None:
        """Number of frames, as far as stated.

        Raises:
            MediaError: If a video cannot be opened.
        """
        return len(self.files) if len(self.files) > 1 else self.open().frame_count

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Name of each file or frame, with size and time of change of its file.

        Raises:
            MediaError: If a file is gone.
        """
        try:
            return [
                (path.name, (facts := _file(path).stat()).st_size, facts.st_mtime_ns)
                for path in self.files
            ]
        except OSError as error:
            raise MediaError.at(
                error.filename, f"cannot be read ({error.strerror})", remedy="check the path"
            ) from error


def find_clips(
    source: Path,
    *,
    stills: bool = False,
    context: int = 0,
    pan_step: int = 4,
    seed: int = 0,
    frame_rate: float | None = None,
) -> list[ClipInput]:
    """List the clips of an input, in natural order.

    Args:
        source: A video file; a clip store; a folder of frames, of videos, of
            clip stores, or of clips (each a folder of frames, in itself or in
            its own ``Frames``; also all inside a folder ``frames``); a CSV of
            clips or of images.
        stills: Whether the images are photos, each a pan clip of its own.
        context: Frames of a pan clip before the photo itself.
        pan_step: Pixels a pan clip moves per frame.
        seed: Of the pan clips' directions.
        frame_rate: Frames a second of folders and tables of frames.

    Raises:
        UsageError: If there is no such file or folder.
        TableError: If a CSV has faults.
        MediaError: If there is nothing to predict, or clips share a name.
    """
    if stills:
        photos = _photos(source)
        make = partial(_still, context=context, step=pan_step, seed=seed)
        clips = [make(photo) for photo in photos]
    elif source.is_dir():
        clips = _clips_of_folder(source, frame_rate)
    elif not source.is_file():
        raise UsageError.at(source, "no such file or folder", remedy="check the path of INPUT")
    elif source.suffix.lower() == ".csv":
        clips = _clips_of_table(source, frame_rate)
    elif source.suffix.lower() in IMAGE_SUFFIXES:
        raise UsageError.at(
            source, "is a single image", "a video, a folder or a CSV", "add --set stills=true"
        )
    else:
        clips = [_store_clip(source, frame_rate) if _is_store(source) else _video(source)]
    _check_names(clips, source)
    return clips


def _photos(source: Path) -> list[Path]:
    if source.is_dir():
        photos = list_images(source)
        if not photos:
            raise MediaError.at(source, "holds no image", "photos", "point INPUT at the photos")
        return photos
    if source.is_file() and source.suffix.lower() == ".csv":
        return [row.image for row in read_images(source)]
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        return [source]
    expected = "a photo, a folder of photos or a CSV with the column Image"
    found = "is no image" if source.is_file() else "no such file or folder"
    raise UsageError.at(source, found, expected, "check the path of INPUT, or leave out stills")


def _clips_of_folder(folder: Path, frame_rate: float | None) -> list[ClipInput]:
    images, videos, stores = list_images(folder), _videos(folder), _stores(folder)
    kinds = {"images": images, "videos": videos, "clip stores": stores}
    held = [f"{len(paths)} {kind}" for kind, paths in kinds.items() if paths]
    if len(held) > 1:
        found = f"holds {' and '.join(held)}"
        raise MediaError.at(folder, found, "one kind", "move the others elsewhere")
    if images:
        return [_folder_clip(_clip_name(folder), folder, frame_rate)]
    if videos:
        return [_video(path) for path in videos]
    if stores:
        return [_store_clip(path, frame_rate) for path in stores]
    inner = _inner(folder)
    if inner is not None and list_images(inner):
        return [_folder_clip(_clip_name(inner), inner, frame_rate)]
    clips = _clips_of_subfolders(folder if inner is None else inner, frame_rate)
    if not clips:
        raise MediaError.at(
            folder,
            "holds no frame, no video, no clip store and no folder of frames",
            "one of these",
            "point INPUT at them",
        )
    return clips


def _clips_of_subfolders(folder: Path, frame_rate: float | None) -> list[ClipInput]:
    clips = []
    for sub in _subfolders(folder):
        place = sub if list_images(sub) else _inner(sub)
        if place is not None and list_images(place):
            clips.append(_folder_clip(sub.name, place, frame_rate))
    return clips


def _clips_of_table(table: Path, frame_rate: float | None) -> list[ClipInput]:
    groups: dict[str, list[Path]] = {}
    if "VID" in _header(table) or "Image" not in _header(table):
        for clip_row in sorted(read_clips(table), key=lambda row: (natural_key(row.vid), row.fid)):
            groups.setdefault(clip_row.vid, []).append(clip_row.image)
    else:
        # Frames of several videos in one table lie in a folder for each.
        for row in read_images(table):
            groups.setdefault(_clip_name(row.image.parent), []).append(row.image)
    return [
        ClipInput(name, tuple(paths), partial(ImageList, name, paths, frame_rate=frame_rate))
        for name, paths in groups.items()
    ]


def _header(table: Path) -> list[str]:
    # What cannot be read here is reported by the reader of the whole table.
    with open(table, encoding="utf-8-sig", errors="replace", newline="") as stream:
        return [cell.strip() for cell in next(csv.reader(stream), [])]


def _still(photo: Path, *, context: int, step: int, seed: int) -> ClipInput:
    make = partial(PanClip, photo, count=context + 1, step=step, seed=seed)
    return ClipInput(photo.stem, (photo,), make, first=context, still=True)


def _video(path: Path) -> ClipInput:
    return ClipInput(path.stem, (path,), partial(VideoFile, path))


def _store_clip(path: Path, frame_rate: float | None) -> ClipInput:
    frames = store_frames(path)
    make = partial(ImageList, path.stem, frames, frame_rate=frame_rate)
    return ClipInput(path.stem, tuple(frames), make)


def _folder_clip(name: str, folder: Path, frame_rate: float | None) -> ClipInput:
    make = partial(ImageFolder, folder, frame_rate=frame_rate)
    return ClipInput(name, tuple(list_images(folder)), make)


def _clip_name(folder: Path) -> str:
    # A folder "Frames" says nothing; the clip is named by the folder around it.
    folder = folder.resolve()
    return folder.parent.name if folder.name.lower() == "frames" else folder.name


def _videos(folder: Path) -> list[Path]:
    return _files(folder, lambda path: path.suffix.lower() in VIDEO_SUFFIXES)


def _stores(folder: Path) -> list[Path]:
    return _files(folder, _is_store)


def _files(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    found = (path for path in folder.iterdir() if wanted(path) and path.name[0] != ".")
    return _in_order(path for path in found if path.is_file())


def _is_store(path: Path) -> bool:
    return path.suffix.lower() == STORE_SUFFIX


def _file(path: Path) -> Path:
    """The file that holds a frame."""
    address = split_address(path)
    return path if address is None else address[0]


def _subfolders(folder: Path) -> list[Path]:
    return _in_order(sub for sub in folder.iterdir() if sub.is_dir() and sub.name[0] != ".")


def _inner(folder: Path) -> Path | None:
    return next((sub for sub in _subfolders(folder) if sub.name.lower() == "frames"), None)


def _in_order(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: natural_key(path.name))


def _check_names(clips: Sequence[ClipInput], source: Path) -> None:
    times = Counter(clip.name for clip in clips)
    with FaultCollector(MediaError) as faults:
        for name, number in times.items():
            if number > 1:
                faults.add(
                    source,
                    f"{number} clips are named {name!r}",
                    "a name of its own for each",
                    "rename them, or predict them into different folders",
                )
            if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
                faults.add(
                    source,
                    f"the clip name {name!r} cannot name a folder",
                    "a name without slashes that does not begin with a dot",
                    "rename the clip",
                )
        for clip in clips:
            _check_frame_names(clip, faults)


def _check_frame_names(clip: ClipInput, faults: FaultCollector) -> None:
    """Frames of one name would write one mask."""
    first: dict[str, Path] = {}
    for path in clip.files:
        other = first.setdefault(frame_stem(path), path)
        if other is not path:
            faults.add(
                path,
                f"has the name of {other}",
                f"a name of its own for each frame of the clip {clip.name!r}",
                "rename one: its mask would replace the other's",
            )
