"""A predictor that needs no network: what is white is object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dvos.media.frames import checked_frames, open_frames
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.predictor import FramePrediction, thinned


class WhitePredictor:
    """Of each frame, pixels brighter than half are object for sure."""

    context = 0
    calibration = CountCalibration()
    tells_apart = False
    intensity = "auto"

    def __init__(self, options: Any) -> None:
        self.options = options

    def segment(self, video_or_frames: Any, *, start: int = 0) -> Iterator[FramePrediction]:
        """Segment frame after frame."""
        frames = checked_frames(open_frames(video_or_frames), start=start)
        for frame in thinned(frames, getattr(self.options, "every", 1)):
            mask = frame.image[..., 0] > 127
            yield FramePrediction(
                frame.frame_index,
                frame.time_s,
                frame.name,
                frame.image,
                mask * np.float32(0.95),
                mask,
            )
