"""Frames of a video file or a folder of images, in order, one at a time.

Both sources keep to :class:`FrameSource`; one test suite runs over both.
Memory is constant whatever the length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dvos.errors import FaultCollector, MediaError
from dvos.media import video_decode
from dvos.media.image import image_size, read_image
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_images
from dvos.media.video_write import VideoWriter

__all__ = [
    "VIDEO_SUFFIXES",
    "FrameSource",
    "ImageFolder",
    "VideoFile",
    "VideoFrame",
    "VideoWriter",
    "open_frames",
]


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    Attributes:
        frame_index: From 0. In a video the number of frames decoded before
            this one; in a folder the place of the file, so that an unreadable
            file leaves a gap.
        time_s: Seconds since the first frame, from the time stamps; NaN where
            there are neither time stamps nor a frame rate.
        name: Image stem, or ``{video stem}_{frame_index:06d}``.
        image: uint8 RGB (H, W, 3), upright.
    """

    frame_index: int
    time_s: float
    name: str
    image: npt.NDArray[np.uint8]


@runtime_checkable
class FrameSource(Protocol):
    """Frames of one size, in order. Iterating again starts again."""

    @property
    def name(self) -> str:
        """Stem of the video file, or the folder's name."""

    @property
    def frame_rate(self) -> float | None:
        """Mean frames a second; None if unknown."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of every frame given."""

    @property
    def frame_count(self) -> int | None:
        """Number of frames as stated by the source; None if it states none.

        A damaged video may give fewer; after a whole pass it is the number
        that was given.
        """

    @property
    def damage(self) -> list[str]:
        """What the latest iteration could not decode, a line each."""

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames with ``frame_index >= start``."""

    def __iter__(self) -> Iterator[VideoFrame]:
        """All frames."""


class VideoFile:
    """The frames of a video file, decoded in order with several threads.

    - A rotation or mirror tag is applied; :attr:`size` is the size after it.
    - Times come from the time stamps, so variable frame rates are exact.
    - Colour is converted by the matrix the file names (where it names none:
      BT.709 from 720 lines up, else BT.601), 10 bit and more are reduced to 8.
    - What is damaged is left out and told in :attr:`damage`; a frame that the
      decoder repaired is given, and told as well.
    - ``frames(start)`` decodes from the beginning and drops what comes before
      ``start``: slower than a seek, but the index is exact.

    Args:
        path: The file. Opening it decodes the first frame.
        threads: Decoder threads; 0 for one per core (16 at most). Give 1
            where processes already share the cores.

    Raises:
        MediaError: If it is missing, no video, has no video stream, or no
            frame of it can be decoded. While iterating: if the frame size
            changes.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self.path = Path(path)
        self.damage: list[str] = []
        self._threads = threads
        self._counted: int | None = None
        self._facts = video_decode.probe(self.path, threads)

    @property
    def name(self) -> str:
        """Stem of the file name."""
        return self.path.stem

    @property
    def frame_rate(self) -> float | None:
        """Mean frames a second; None if the file tells none."""
        rate = self._facts.rate
        return None if rate is None else float(rate)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) after rotation."""
        return self._facts.size

    @property
    def frame_count(self) -> int | None:
        """As the header states, or as counted by a whole pass."""
        return self._facts.stated_frames if self._counted is None else self._counted

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on; see :class:`FrameSource`."""
        facts = self._facts
        # A list of its own for each pass: an abandoned pass cannot add to it.
        damage = self.damage = []
        first_pts: int | None = None
        index = -1
        with closing(video_decode.decoded(self.path, self._threads, damage)) as decoded:
            for index, frame in enumerate(decoded):
                if first_pts is None:
                    first_pts = frame.pts
                if (frame.height, frame.width) != facts.coded_size:
                    raise _size_changed(self.path, index, frame, facts.coded_size)
                if index < start:
                    continue
                yield VideoFrame(
                    frame_index=index,
                    time_s=_time(frame, first_pts, index, facts.rate),
                    name=f"{self.name}_{index:06d}",
                    image=video_decode.to_rgb(frame, facts.turn),
                )
        self._counted = index + 1


class ImageFolder:
    """The images of a folder as frames, in natural order of their names.

    Files that are no images and names that begin with a dot are passed over.
    An image whose header is sound but whose pixels cannot be decoded is left
    out and told in :attr:`damage`.

    Args:
        folder: The folder.
        frame_rate: Frames a second, if known; without it ``time_s`` is NaN.

    Raises:
        MediaError: If the folder is missing or holds no images, headers are
            damaged, or sizes differ (each odd one is named). While iterating:
            if no image at all can be decoded.
    """

    def __init__(self, folder: Path, *, frame_rate: float | None = None) -> None:
        self.folder = Path(folder)
        self.damage: list[str] = []
        self._frame_rate = frame_rate
        self.paths = list_images(self.folder)
        if not self.paths:
            endings = ", ".join(sorted(IMAGE_SUFFIXES))
            raise MediaError.at(self.folder, "no images in this folder", f"files named {endings}")
        self._size = _common_size(self.paths)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def frame_rate(self) -> float | None:
        """As given."""
        return self._frame_rate

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image."""
        return self._size

    @property
    def frame_count(self) -> int:
        """Number of image files."""
        return len(self.paths)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on; see :class:`FrameSource`."""
        damage = self.damage = []
        given = 0
        for index in range(max(start, 0), len(self.paths)):
            path = self.paths[index]
            try:
                image = read_image(path)
            except MediaError as error:
                damage.append(str(error))
                continue
            given += 1
            time_s = index / self._frame_rate if self._frame_rate else math.nan
            yield VideoFrame(index, time_s, path.stem, image)
        if damage and not given:
            raise MediaError.at(
                self.folder,
                f"no frame could be decoded; the first: {damage[0]}",
                remedy="export the frames again",
            )


def open_frames(path: Path) -> FrameSource:
    """Open a video file or a folder of images.

    Raises:
        MediaError: If there is neither, or it cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        return ImageFolder(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        raise MediaError.at(
            path, "a single image", "a video file or a folder of images", "name its folder"
        )
    return VideoFile(path)


def _common_size(paths: list[Path]) -> tuple[int, int]:
    sizes: dict[Path, tuple[int, int]] = {}
    with FaultCollector(MediaError) as faults:
        for path in paths:
            try:
                sizes[path] = image_size(path)
            except MediaError as error:
                faults.extend(error.faults)
        if not sizes:
            faults.raise_if_any()
        common, count = Counter(sizes.values()).most_common(1)[0]
        for path, size in sizes.items():
            if size != common:
                expected = f"{_text(common)}, as {count} of {len(paths)} images in the folder"
                faults.add(path, f"is {_text(size)}", expected, "resize it or move it away")
    return common


def _time(frame: Any, first_pts: int | None, index: int, rate: Fraction | None) -> float:
    if frame.pts is not None and first_pts is not None and frame.time_base:
        return float((frame.pts - first_pts) * frame.time_base)
    return float(index / rate) if rate else math.nan


def _size_changed(path: Path, index: int, frame: Any, before: tuple[int, int]) -> MediaError:
    return MediaError.at(
        path,
        f"frame {index} is {_text((frame.height, frame.width))},"
        f" the frames before it are {_text(before)}",
        "one frame size throughout",
        f"split the video at frame {index}, or scale it to one size",
    )


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels (width x height)"
