"""Frame sources that prediction makes itself: listed images, clip stores, pan clips of stills."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.clip_store import ClipStore
from dvos.media.image import image_size, read_image
from dvos.media.video import VideoFrame
from dvos.tables import frame_address, frame_stem, split_address

__all__ = ["ImageList", "PanClip", "store_frames"]


def store_frames(store: Path) -> list[Path]:
    """Addresses of all frames of a clip store.

    Raises:
        MediaError: If it cannot be read or holds no frame.
    """
    with ClipStore(store) as opened:
        count = len(opened)
    if not count:
        raise MediaError.at(store, "holds no frame", "at least one", "make the clip again")
    return [frame_address(store, index) for index in range(count)]


class ImageList:
    """Images in a given order as frames; keeps to :class:`dvos.media.video.FrameSource`.

    An image that cannot be read raises: a table that names a file promises it.

    Args:
        name: Of the clip.
        paths: The images, or frames of clip stores, at least one.
        frame_rate: Frames a second, if known.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], *, frame_rate: float | None = None
    ) -> None:
        self.name = name
        self.paths = tuple(paths)
        self.frame_rate = frame_rate
        self.damage: list[str] = []

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first image."""
        address = split_address(self.paths[0])
        if address is None:
            return image_size(self.paths[0])
        with ClipStore(address[0]) as store:
            return store.size

    @property
    def frame_count(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on."""
        with _OpenStore() as store:
            for index in range(start, len(self.paths)):
                path = self.paths[index]
                address = split_address(path)
                image = read_image(path) if address is None else store.read(*address)
                time_s = index / self.frame_rate if self.frame_rate else math.nan
                yield VideoFrame(index, time_s, frame_stem(path), image)


class _OpenStore:
    """The clip store read last, kept open for its next frame."""

    def __init__(self) -> None:
        self._store: ClipStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()

    def read(self, path: Path, index: int) -> NDArray[np.uint8]:
        """A frame, uint8 RGB (H, W, 3)."""
        if self._store is None or self._store.path != path:
            self.__exit__()
            self._store = ClipStore(path)
        count = len(self._store)
        if index >= count:
            expected = f"a frame from 0 to {count - 1}"
            raise MediaError.at(path, f"has no frame {index}", expected, "correct the number")
        return np.asarray(self._store.read_frames([index])[0])


class PanClip:
    """A photo as a short clip; keeps to :class:`dvos.media.video.FrameSource`.

    The photo moves in a straight line, its border continued by reflection,
    and comes to rest: the last frame is the photo itself, whole and untouched.

    Args:
        photo: The image.
        count: Number of frames.
        step: Pixels it moves per frame.
        seed: The direction depends on it and on the photo's name.
    """

    def __init__(self, photo: Path, *, count: int, step: int, seed: int) -> None:
        self.photo = photo
        self.name = photo.stem
        self.frame_rate: float | None = None
        self.frame_count = count
        self.damage: list[str] = []
        name_seed = zlib.crc32(photo.name.encode("utf-8", "surrogateescape"))
        angle = np.random.default_rng([seed, name_seed]).uniform(0.0, 2.0 * math.pi)
        self._step = (step * math.sin(angle), step * math.cos(angle))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the photo."""
        return image_size(self.photo)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on."""
        photo = read_image(self.photo)
        height, width = photo.shape[:2]
        for index in range(start, self.frame_count):
            left = self.frame_count - 1 - index
            # Reflection has nothing to show beyond one width of the photo.
            down = round(max(-height, min(height, left * self._step[0])))
            right = round(max(-width, min(width, left * self._step[1])))
            bordered = cv2.copyMakeBorder(
                photo, abs(down), abs(down), abs(right), abs(right), cv2.BORDER_REFLECT
            )
            top, start_column = abs(down) + down, abs(right) + right
            image = np.ascontiguousarray(
                bordered[top : top + height, start_column : start_column + width]
            )
            yield VideoFrame(index, math.nan, self.name, image)
