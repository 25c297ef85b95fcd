"""What every predictor offers, and how one is loaded from a checkpoint.

Importing this module loads no torch; :func:`load_predictor` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.media.video import FrameSource

__all__ = ["FramePrediction", "Frames", "Predictor", "load_predictor"]

#: A video file, a folder of images, a source of frames, or uint8 RGB arrays (H, W, 3).
Frames = str | Path | FrameSource | Iterable[NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """One frame and what was found in it.

    Attributes:
        frame_index: From 0.
        time_s: Seconds since the first frame; NaN where the frames have no
            time stamps.
        name: Name of the frame, the stem of its mask's file.
        image: uint8 RGB (H, W, 3), as read.
        probability: Of object, float32 (H, W) in 0..1, at the image's size.
        mask: ``probability >= threshold``, bool (H, W).
    """

    frame_index: int
    time_s: float
    name: str
    image: NDArray[np.uint8]
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]


class Predictor(Protocol):
    """Segments videos of any length in constant memory."""

    @property
    def context(self) -> int:
        """How many frames before a frame its mask depends on."""

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """Segment frame after frame, in order.

        Args:
            video_or_frames: All frames must be of one size.
            start: Predictions begin at this frame; what was given for it in a
                run from the beginning is given again.

        Raises:
            MediaError: If the frames cannot be read or change their size.
            RunError: If memory runs out.
        """


def load_predictor(
    checkpoint: str | Path,
    device: str = "auto",
    *,
    scale: float = 1.0,
    tile: int = 0,
    threshold: float = 0.5,
    augment: Literal["none", "flips"] = "none",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: int = 0,
    reference_interval: int | None = None,
) -> Predictor:
    """Load a trained network, ready to segment.

    Args:
        checkpoint: ``best.safetensors`` of a training run.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        scale: Frames are resized by this factor before the network sees
            them; probabilities come back at the frame's own size.
        tile: Side in pixels (after scaling) of the tiles that larger frames
            are cut into; 0 = whole frames.
        threshold: Probability from which a pixel counts as object.
        augment: ``flips`` averages over the frame and its mirror images, at
            four times the cost.
        precision: ``auto`` is float32 on a CPU and bfloat16 on a GPU.
        batch: Frames the network takes at once; 0 = one on a CPU, four on a GPU.
        reference_interval: Frames between references; None = as trained.

    Returns:
        The predictor. Its masks do not depend on ``batch``.

    Raises:
        CheckpointError: If the file is missing, damaged or holds a network
            that does not segment videos this way.
        UsageError: If the device does not exist.
    """
    from dvos.prediction.build import build_predictor

    return build_predictor(
        Path(checkpoint),
        device=device,
        scale=scale,
        tile=tile,
        threshold=threshold,
        augment=augment,
        precision=precision,
        batch=batch,
        reference_interval=reference_interval,
    )
