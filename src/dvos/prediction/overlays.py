"""Masks drawn over the frames of a finished clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.frames import FrameSource, read_ahead
from dvos.media.image import write_image
from dvos.media.mask import read_mask
from dvos.media.overlay import overlay
from dvos.media.video import VideoFrame
from dvos.media.video_write import VideoWriter

__all__ = ["write_overlay_picture", "write_overlay_video"]

#: Where the frames tell no rate.
_FRAME_RATE = 25.0


def write_overlay_video(path: Path, source: FrameSource, masks: Path) -> None:
    """Write a clip with its masks drawn over it as H.264 video.

    Frames keep their own times, which may lie unevenly; frames without times
    follow each other at the source's rate, or 25 a second. It is made from
    the finished masks, so that a continued run gives the very same video as an
    unbroken one.

    Args:
        path: Ending ``.mp4``.
        source: The clip's frames.
        masks: Folder of its masks.

    Raises:
        MediaError: If a frame or mask cannot be read.
        OutputError: If the video cannot be written.
    """
    rate = source.frame_rate or _FRAME_RATE
    frames = source.frames()
    first = next(frames, None)
    if first is None:
        raise MediaError.at(source.name, "has no frames", "at least one")
    timed = not math.isnan(first.time_s)
    drawn = _drawn_frames(chain([first], frames), masks)
    with (
        VideoWriter(path, frame_rate=rate, size=first.image.shape[:2], timed=timed) as video,
        closing(read_ahead(drawn, depth=4)) as images,
    ):
        latest = -1.0 / rate
        for time_s, image in images:
            # A time stamp that is missing amid others is made up by the rate.
            latest = latest + 1.0 / rate if math.isnan(time_s) else time_s
            video.write(image, latest if timed else None)


def write_overlay_picture(path: Path, photo: VideoFrame, masks: Path) -> None:
    """Write a photo with its mask drawn over it; see :func:`write_overlay_video`."""
    write_image(path, _drawn(photo, masks))


def _drawn_frames(
    frames: Iterator[VideoFrame], masks: Path
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    for frame in frames:
        yield frame.time_s, _drawn(frame, masks)


def _drawn(frame: VideoFrame, masks: Path) -> NDArray[np.uint8]:
    return overlay(frame.image, read_mask(masks / f"{frame.name}.png") > 0)
