"""Clips and photos with what was found drawn over them, made from the finished files."""

from __future__ import annotations

import math
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
from dvos.prediction.predictor import thinned
from dvos.prediction.tracks.files import read_tracks

#: Frames a second of an overlay video where the frames tell no rate.
_FRAME_RATE = 25.0


def write_video(
    path: Path, source: FrameSource, masks: Path, tracks: Path | None = None, *, every: int = 1
) -> None:
    """Write a clip, or of ``every`` frames the first, with its masks over it as H.264 ``.mp4``.

    Objects that were followed, as the label images in ``tracks`` say, keep a colour of their own.
    Frames keep their own times, which may lie unevenly; without times they follow each other at the
    source's rate, or 25 a second. Raises a MediaError if a frame or mask cannot be read.
    """
    rate = source.frame_rate / every if source.frame_rate else _FRAME_RATE
    frames = thinned(source.frames(), every)
    first = next(frames, None)
    if first is None:
        raise MediaError.at(source.name, "has no frames", "at least one")
    timed = not math.isnan(first.time_s)
    drawn = ((frame.time_s, _drawn(frame, masks, tracks)) for frame in chain([first], frames))
    with (
        VideoWriter(path, frame_rate=rate, size=first.image.shape[:2], timed=timed) as video,
        closing(read_ahead(drawn, depth=4)) as images,
    ):
        latest = -1.0 / rate
        for time_s, image in images:
            # A time stamp that is missing amid others is made up by the rate.
            latest = latest + 1.0 / rate if math.isnan(time_s) else time_s
            video.write(image, latest if timed else None)


def write_picture(path: Path, photo: VideoFrame, masks: Path) -> None:
    """Write a photo with its mask, from the folder ``masks``, drawn over it."""
    write_image(path, _drawn(photo, masks))


def _drawn(frame: VideoFrame, masks: Path, tracks: Path | None = None) -> NDArray[np.uint8]:
    drawn = overlay(frame.image, read_mask(masks / f"{frame.name}.png") > 0)
    if tracks is None:
        return drawn
    ids = read_tracks(tracks, frame.name)
    # What is in no track stays as any mask is drawn; the others are drawn over the plain frame.
    return np.where((ids > 0)[..., None], overlay(frame.image, ids), drawn)
