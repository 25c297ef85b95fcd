"""Frames in order, one at a time: of videos, images, clip stores, photos and arrays.

Everything that reads frames keeps to :class:`FrameSource`. Memory is constant whatever the length.
"""

import math
import queue
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError
from dvos.files import absent, check_file_name, real_path, stem_of
from dvos.media.clip_store import ClipStore, OpenStores
from dvos.media.colour import as_rgb, is_picture
from dvos.media.image import image_size, read_image
from dvos.media.intensity import choose_intensity
from dvos.media.layout import IMAGE_SUFFIXES, list_images, path_kind
from dvos.media.video import VideoFile, VideoFrame, told
from dvos.tables import frame_address, frame_stem


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
        """Number of frames as stated by the source, if it states one; after a pass, as given."""

    @property
    def damage(self) -> list[str]:
        """What the latest iteration could not decode, a line each."""

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames with ``frame_index >= start``."""

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()


#: Frames, or uint8 arrays or tensors, RGB (H, W, 3) or grey (H, W): an iterable, a stack or one.
AnyFrames = FrameSource | Iterable[NDArray[np.uint8] | VideoFrame]

#: A video file, a folder of images, a photo, a source of frames, or frames.
Frames = str | Path | AnyFrames


class ImageList:
    """Images, or frames of clip stores, in a given order as frames, a :class:`FrameSource`.

    An image that cannot be read raises: a table that names a file promises it. Without a frame rate
    ``time_s`` is NaN. What becomes of samples of more than 8 bit, the same in all frames, is the
    ``intensity``, see :mod:`dvos.media.intensity`.
    """

    _skips_damaged = False

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        *,
        frame_rate: float | None = None,
        intensity: str = "auto",
    ) -> None:
        self.name = name
        self.paths = tuple(paths)
        self.frame_rate = frame_rate
        self.intensity = intensity
        self.damage: list[str] = []

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first image."""
        with OpenStores() as stores:
            return stores.image_size(self.paths[0])

    @property
    def frame_count(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on."""
        # A list of its own for each pass: an abandoned pass cannot add to it.
        damage = self.damage = []
        given = 0
        if self.intensity == "auto":
            self.intensity = choose_intensity("auto", self.paths, self.name)
        with OpenStores(limit=1) as stores:
            for index in range(max(start, 0), len(self.paths)):
                path = self.paths[index]
                try:
                    check_file_name(path)
                    image = stores.read_image(path, self.intensity)
                except MediaError as error:
                    if not self._skips_damaged:
                        raise
                    damage.append(str(error))
                    continue
                given += 1
                time_s = index / self.frame_rate if self.frame_rate else math.nan
                yield VideoFrame(index, time_s, frame_stem(path), image)
        if damage and not given:
            found = f"no frame could be decoded; the first: {damage[0]}"
            raise MediaError.at(self.paths[0].parent, found, remedy="export the frames again")


class ImageFolder(ImageList):
    """The images of a folder as frames, in natural order of their names.

    What cannot be decoded is left out and told in :attr:`damage`, as is a link whose file is not
    there and a file whose name is not valid Unicode. A MediaError if the folder is missing or holds
    no images, headers are damaged, sizes differ, or, while iterating, no image can be decoded.
    """

    _skips_damaged = True

    def __init__(
        self, folder: Path, *, frame_rate: float | None = None, intensity: str = "auto"
    ) -> None:
        folder = Path(folder)
        paths = list_images(folder)
        if not paths:
            endings = ", ".join(sorted(IMAGE_SUFFIXES))
            raise MediaError.at(folder, "no images in this folder", f"files named {endings}")
        super().__init__(real_path(folder).name, paths, frame_rate=frame_rate, intensity=intensity)
        with FaultCollector(MediaError) as faults:
            # A file that is not there leaves a gap: it is told when its turn comes.
            found = ((path, faults.collect(image_size, path)) for path in paths if path.is_file())
            sizes = {path: size for path, size in found if size is not None}
            if not sizes:
                faults.raise_if_any()
                raise MediaError.at(paths[0], absent(paths[0]), "an image file", "check the path")
            self.size, count = Counter(sizes.values()).most_common(1)[0]
            for path, size in sizes.items():
                if size != self.size:
                    usual = f"{told(self.size)}, as {count} of {len(paths)} images in the folder"
                    faults.add(path, f"is {told(size)}", usual, "resize it or move it away")


class PanClip(ImageList):
    """A photo as a short clip of ``count`` frames, a :class:`FrameSource`.

    It moves in a straight line, ``step`` pixels a frame, to rest: the last frame is the photo, its
    border continued by reflection. The direction depends on the seed and the photo's name.
    """

    def __init__(
        self, photo: Path, *, count: int, step: int, seed: int, intensity: str = "auto"
    ) -> None:
        super().__init__(stem_of(photo), [photo] * count, intensity=intensity)
        name_seed = zlib.crc32(photo.name.encode("utf-8", "surrogateescape"))
        angle = np.random.default_rng([seed, name_seed]).uniform(0.0, 2.0 * math.pi)
        self._step = (step * math.sin(angle), step * math.cos(angle))

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The frames from ``start`` on."""
        if self.intensity == "auto":
            self.intensity = choose_intensity("auto", self.paths[:1], self.paths[0])
        photo = read_image(self.paths[0], self.intensity)
        height, width = photo.shape[:2]
        for index in range(start, self.frame_count):
            left = self.frame_count - 1 - index
            # Reflection has nothing to show beyond one width of the photo.
            down = round(max(-height, min(height, left * self._step[0])))
            right = round(max(-width, min(width, left * self._step[1])))
            edges = (abs(down), abs(down), abs(right), abs(right))
            bordered = cv2.copyMakeBorder(photo, *edges, cv2.BORDER_REFLECT)
            image = bordered[edges[0] + down :, edges[2] + right :][:height, :width]
            yield VideoFrame(index, math.nan, self.name, np.ascontiguousarray(image))


def store_frames(store: Path) -> list[Path]:
    """Addresses of all frames of a clip store, of which there must be one."""
    with ClipStore(store) as opened:
        count = len(opened)
    if not count:
        raise MediaError.at(store, "holds no frame", "at least one", "make the clip again")
    return [frame_address(store, index) for index in range(count)]


@overload
def open_frames(source: str | Path, intensity: str = "auto") -> FrameSource: ...


@overload
def open_frames(source: Frames, intensity: str = "auto") -> AnyFrames: ...


def open_frames(source: Frames, intensity: str = "auto") -> AnyFrames:
    """Open a video file, a folder of images or a photo; frames come back as they are."""
    if not isinstance(source, str | Path):
        alone: Any = source
        return [alone] if is_picture(source) else source
    path = Path(source)
    if path.is_dir():
        return ImageFolder(path, intensity=intensity)
    if path_kind(path) == "image":
        return ImageList(stem_of(path), [path], intensity=intensity)
    return VideoFile(path, intensity=intensity)


def _kept(frame: Any) -> Any:
    """A copy: a camera may fill one array again and again, and frames are kept meanwhile."""
    if isinstance(frame, VideoFrame):
        return replace(frame, image=frame.image.copy())
    return as_rgb(frame).copy()


def checked_frames(source: AnyFrames, *, start: int = 0) -> Iterator[VideoFrame]:
    """The frames from ``start`` on; a MediaError if one is no uint8 RGB of the first's size."""
    shape: tuple[int, ...] | None = None
    items = source.frames(start) if isinstance(source, FrameSource) else map(_kept, source)
    for index, item in enumerate(items):
        frame = item
        if not isinstance(frame, VideoFrame):
            frame = VideoFrame(index, math.nan, f"{index:06d}", as_rgb(item))
        if frame.frame_index < start:
            continue
        image = frame.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            where, found = f"frame {frame.frame_index}", f"has shape {image.shape}"
            expected = "uint8 RGB (height, width, 3)"
            raise MediaError.at(where, f"{found} and type {image.dtype}", expected)
        shape = shape or image.shape
        if image.shape != shape:
            found = f"is {image.shape[1]} x {image.shape[0]} pixels"
            expected = f"{shape[1]} x {shape[0]}, as the clip begins"
            remedy = "predict frames of different sizes as clips of their own"
            raise MediaError.at(f"frame {frame.name}", found, expected, remedy)
        yield frame


T = TypeVar("T")
#: Seconds after which a waiting reader looks whether it is still wanted. An executor would not do:
#: its thread is gone before a generator that is collected as garbage could wait for it.
_POLL = 0.1


def read_ahead(items: Iterator[T], *, depth: int) -> Generator[T, None, None]:
    """Give ``items`` in order while a thread already fetches the next ones, at most ``depth``.

    Their exception is raised here, after the items before it. When the consumer stops early the
    thread ends, and ``items`` is closed in it.
    """
    # An item alone in a tuple; the last entry is what ended the reading.
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                waiting.put(entry, timeout=_POLL)
                return True
        return False

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put((item,)):
                    break
        except BaseException as caught:  # handed to the consumer, which raises it
            error = caught
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        put(error)

    reader = threading.Thread(target=read, name="dvos-reader", daemon=True)
    reader.start()
    try:
        while isinstance(entry := waiting.get(), tuple):
            yield entry[0]
        if entry is not None:
            raise entry
    finally:
        stopped.set()
        reader.join()


def behind(
    items: Iterable[T], most: int, is_ready: Callable[[T], bool] = lambda _: False
) -> Generator[T, None, None]:
    """Items in order, each when it is ready or ``most`` more have begun, then what was raised."""
    waiting: deque[T] = deque()
    try:
        for item in items:
            waiting.append(item)
            while len(waiting) > most or (waiting and is_ready(waiting[0])):
                yield waiting.popleft()
    except Exception:
        yield from waiting
        raise
    yield from waiting
