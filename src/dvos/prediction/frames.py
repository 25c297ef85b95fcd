"""Whatever a predictor is given, as frames that were checked and sized for a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.video import FrameSource, VideoFrame, open_frames
from dvos.prediction.predictor import Frames

__all__ = ["checked", "open_source", "resized"]


def open_source(video_or_frames: Frames) -> FrameSource | Iterable[NDArray[np.uint8]]:
    """The frames of a path; anything else as it is.

    Raises:
        MediaError: If there is no such video or folder.
    """
    if isinstance(video_or_frames, str | Path):
        return open_frames(Path(video_or_frames))
    return video_or_frames


def checked(
    source: FrameSource | Iterable[NDArray[np.uint8]], *, start: int = 0
) -> Iterator[VideoFrame]:
    """The frames from ``start`` on.

    Raises:
        MediaError: If one cannot be read, is no uint8 RGB, or has another size
            than the first.
    """
    shape: tuple[int, ...] | None = None
    for frame in _frames(source, start):
        image = frame.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MediaError.at(
                f"frame {frame.frame_index}",
                f"has shape {image.shape} and type {image.dtype}",
                "uint8 RGB (height, width, 3)",
            )
        shape = shape or image.shape
        if image.shape != shape:
            raise MediaError.at(
                f"frame {frame.name}",
                f"is {image.shape[1]} x {image.shape[0]} pixels",
                f"{shape[1]} x {shape[0]}, as the clip begins",
                "predict frames of different sizes as clips of their own",
            )
        yield frame


def resized(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """An image (H, W, 3) with its sides times ``scale``."""
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _frames(source: FrameSource | Iterable[NDArray[np.uint8]], start: int) -> Iterator[VideoFrame]:
    if isinstance(source, FrameSource):
        yield from source.frames(start)
        return
    for index, image in islice(enumerate(source), start, None):
        yield VideoFrame(index, math.nan, f"{index:06d}", np.asarray(image))
