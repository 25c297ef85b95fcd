"""What every predictor offers, and how one is loaded from a checkpoint.

Importing this module loads no torch; :func:`load_predictor` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.xmem_prediction import XMemPredictionSettings
from dvos.media.frames import Frames
from dvos.media.overlay import OVERLAY_ALPHA, OVERLAY_COLOUR, outline, overlay
from dvos.prediction.objects import ObjectKnowledge

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "FirstMask",
    "FramePrediction",
    "Predictor",
    "load_predictor",
]

#: ``auto``, a file or folder, a mask (H, W) of the first frame, or masks by frame index.
FirstMask = str | Path | NDArray[np.generic] | Mapping[int, NDArray[np.generic]]

Augmentation = Literal["none", "flips", "scales", "flips_and_scales"]
#: What may be averaged over.
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)


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
        instances: uint16 (H, W), 0 background: ids of the objects inside the
            mask, the same in all frames; None of networks that tell none apart.
    """

    frame_index: int
    time_s: float
    name: str
    image: NDArray[np.uint8]
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    instances: NDArray[np.uint16] | None = None

    def picture(
        self,
        *,
        colour: tuple[int, int, int] = OVERLAY_COLOUR,
        alpha: float = OVERLAY_ALPHA,
        contours: bool = True,
    ) -> NDArray[np.uint8]:
        """The image with the mask drawn over it, uint8 RGB (H, W, 3).

        Args:
            colour: RGB, of the mask.
            alpha: Opacity of the tint, 0..1.
            contours: Whether the borders of objects are drawn, too.
        """
        tinted = overlay(self.image, self.mask, colour=colour, alpha=alpha)
        return outline(tinted, self.mask, colour=colour) if contours else tinted

    def _repr_png_(self) -> bytes:
        """What a notebook shows: :meth:`picture` as a PNG."""
        _, encoded = cv2.imencode(".png", cv2.cvtColor(self.picture(), cv2.COLOR_RGB2BGR))
        return bytes(encoded)


class Predictor(Protocol):
    """Segments videos of any length in constant memory."""

    @property
    def context(self) -> int:
        """How many frames before a frame its mask depends on."""

    @property
    def knowledge(self) -> ObjectKnowledge:
        """What training learnt about objects, in pixels of the frames as they are given."""

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
    augment: Augmentation = "none",
    augment_scales: Sequence[float] = (0.75, 1.0, 1.25),
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: int = 0,
    reference_interval: int | None = None,
    first_mask: FirstMask | None = None,
    first_mask_checkpoint: str | Path | None = None,
    xmem: XMemPredictionSettings | None = None,
) -> Predictor:
    """Load a trained network, ready to segment.

    Args:
        checkpoint: ``best.safetensors`` of a training run, a checkpoint of the
            published training, or an ``.onnx`` file of ``dvos convert``, which
            is run by onnxruntime.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``,
            ``mps``; an ``.onnx`` file is run on the CPU.
        scale: Frames are resized by this factor before the network sees
            them; probabilities come back at the frame's own size.
        tile: Side in pixels (after scaling) of the tiles that larger frames
            are cut into; 0 = whole frames.
        threshold: Probability from which a pixel counts as object.
        augment: ``flips`` averages over the frame and its mirror images, at
            four times the cost; ``scales`` over the sizes of ``augment_scales``;
            ``flips_and_scales`` over both.
        augment_scales: Size factors that ``scales`` averages over.
        precision: ``auto`` is float32 on a CPU and bfloat16 on a GPU.
        batch: Frames the network takes at once; 0 = one on a CPU, four on a GPU.
        reference_interval: Frames between references; None = as trained.
        first_mask: Of XMem, what it starts from: a mask (H, W) of the first
            frame, masks by frame index, a file, a folder with ``<clip>.png`` or
            ``<clip>/<frame>.png``, or ``auto``.
        first_mask_checkpoint: Network that finds the first mask, where it is ``auto``.
        xmem: What XMem remembers and how it reads masks; None = as published.

    Returns:
        The predictor. Its masks do not depend on ``batch``.

    Raises:
        CheckpointError: If the file is missing, damaged or holds a network
            that does not segment videos this way, as with a first mask only
            XMem does.
        UsageError: If the device does not exist, an argument has no such value,
            XMem gets no first mask, or what an ``.onnx`` file needs is not
            installed.
    """
    from dvos.prediction.build import build_predictor

    return build_predictor(
        Path(checkpoint),
        device=device,
        scale=scale,
        tile=tile,
        threshold=threshold,
        augment=augment,
        augment_scales=augment_scales,
        precision=precision,
        batch=batch,
        reference_interval=reference_interval,
        first_mask=first_mask,
        first_mask_checkpoint=None
        if first_mask_checkpoint is None
        else Path(first_mask_checkpoint),
        xmem=xmem,
    )
