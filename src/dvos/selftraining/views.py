"""One clip seen in several ways: mirrored and at several scales, read only once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.frames import FrameSource
from dvos.media.video import VideoFrame
from dvos.prediction.predictor import FramePrediction, Predictor

__all__ = [
    "Mirrors",
    "SharedFrames",
    "ViewedFrame",
    "close_iterator",
    "mirrors_of",
    "view_clip",
]

Mirrors = Literal["none", "horizontal", "all"]

_MIRRORS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (1,)),
    "all": ((), (1,), (0,), (0, 1)),
}


@dataclass(frozen=True, eq=False)
class ViewedFrame:
    """A frame and what all views together say of it.

    Attributes:
        frame_index: From 0.
        name: Stem of its files.
        image: uint8 RGB (H, W, 3), as read.
        probability: Of object, mean over the views, float32 (H, W).
        std: Standard deviation over the views, float32 (H, W).
    """

    frame_index: int
    name: str
    image: NDArray[np.uint8]
    probability: NDArray[np.float32]
    std: NDArray[np.float32]


def mirrors_of(flips: Mirrors) -> tuple[tuple[int, ...], ...]:
    """The mirror images of a setting, as the axes of (H, W) turned round."""
    return _MIRRORS[flips]


def view_clip(
    source: FrameSource,
    predictors: Sequence[Predictor],
    mirrors: Sequence[tuple[int, ...]],
    *,
    start: int = 0,
) -> Generator[ViewedFrame, None, None]:
    """Predict a clip in every view, frame after frame in step.

    The clip is read once, and no more frames are kept than the predictors
    read ahead.

    Args:
        source: The clip.
        predictors: One for each scale.
        mirrors: Mirror images that each of them sees.
        start: First frame that is wanted.

    Raises:
        MediaError: If the frames cannot be read or change their size.
        RunError: If memory runs out.
    """
    pairs = [(predictor, axes) for predictor in predictors for axes in mirrors]
    shared = SharedFrames(source, readers=len(pairs))
    with ExitStack() as stack:
        stack.callback(shared.close)
        streams = []
        for number, (predictor, axes) in enumerate(pairs):
            mirrored = _MirroredFrames(shared, reader=number, axes=axes)
            stream = predictor.segment(mirrored, start=start)
            # Their reading threads end before the shared frames are closed.
            stack.callback(close_iterator, stream)
            streams.append(stream)
        for predictions in zip(*streams, strict=True):
            yield _combined(predictions, [axes for _, axes in pairs])


def _combined(
    predictions: Sequence[FramePrediction], mirrors: Sequence[tuple[int, ...]]
) -> ViewedFrame:
    """Mean and deviation over the views, one after another (Welford 1962)."""
    mean = np.zeros(predictions[0].probability.shape, np.float32)
    squares = np.zeros_like(mean)
    for count, (prediction, axes) in enumerate(zip(predictions, mirrors, strict=True), 1):
        probability = np.flip(prediction.probability, axes)
        difference = probability - mean
        mean += difference / count
        squares += difference * (probability - mean)
    first = predictions[0]
    return ViewedFrame(
        frame_index=first.frame_index,
        name=first.name,
        image=np.ascontiguousarray(np.flip(first.image, mirrors[0])),
        probability=mean,
        std=np.sqrt(np.maximum(squares, 0) / len(predictions)),
    )


class SharedFrames:
    """The frames of one source for several readers, in threads of their own.

    A frame is kept until every reader has had it.

    Args:
        source: Read once, by whichever reader is ahead.
        readers: Their number. All must begin at the same frame.
    """

    def __init__(self, source: FrameSource, *, readers: int) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._frames: Iterator[VideoFrame] | None = None
        self._failure: MediaError | None = None
        self._start = 0
        self._kept: deque[VideoFrame] = deque()
        self._dropped = 0
        self._places = [0] * readers

    def frames(self, reader: int, start: int) -> Iterator[VideoFrame]:
        """The frames from ``start`` on, for one reader.

        Raises:
            ValueError: If another reader began elsewhere.
        """
        while (frame := self._next(reader, start)) is not None:
            yield frame

    def close(self) -> None:
        """Close the source's frames; call it when no reader is reading."""
        close_iterator(self._frames)
        self._kept.clear()

    def _next(self, reader: int, start: int) -> VideoFrame | None:
        with self._lock:
            if self._frames is None:
                self._frames, self._start = self.source.frames(start), start
            if start != self._start:
                raise ValueError(f"a reader begins at {start}, another at {self._start}")
            place = self._places[reader] - self._dropped
            if place == len(self._kept):
                fetched = self._fetch(self._frames)
                if fetched is None:
                    return None
                self._kept.append(fetched)
            self._places[reader] += 1
            frame = self._kept[place]
            while self._kept and min(self._places) > self._dropped:
                self._kept.popleft()
                self._dropped += 1
            return frame

    def _fetch(self, frames: Iterator[VideoFrame]) -> VideoFrame | None:
        # A generator that failed looks finished to whoever asks next: every
        # reader is told of the failure.
        if self._failure is not None:
            raise self._failure
        try:
            return next(frames, None)
        except MediaError as error:
            self._failure = error
            raise


class _MirroredFrames:
    """One reader's frames, mirrored; keeps to :class:`dvos.media.frames.FrameSource`."""

    def __init__(self, shared: SharedFrames, *, reader: int, axes: tuple[int, ...]) -> None:
        self._shared = shared
        self._reader = reader
        self._axes = axes
        source = shared.source
        self.name = source.name
        self.frame_rate = source.frame_rate
        self.size = source.size
        self.frame_count = source.frame_count
        self.damage = source.damage

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """The mirrored frames from ``start`` on."""
        for frame in self._shared.frames(self._reader, start):
            image = np.ascontiguousarray(np.flip(frame.image, self._axes))
            yield VideoFrame(frame.frame_index, frame.time_s, frame.name, image)


def close_iterator(iterator: Any) -> None:
    """End an iterator early, if it is one that holds something open."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
