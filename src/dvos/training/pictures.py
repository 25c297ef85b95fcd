"""Pictures of validation clips: the frame, its label, and what the network says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.media.image import write_image
from dvos.media.overlay import contact_sheet, overlay
from dvos.training.measure import SegmentedClip

__all__ = ["draw_prediction"]

_LARGEST_CELL = (384, 512)


def draw_prediction(
    path: Path, clip: SegmentedClip, *, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write the frame, the frame with its label and with its prediction side by side.

    Args:
        path: Image file.
        clip: What the network made of a clip.
        mean: Of the input's normalisation, per channel.
        std: Likewise.
    """
    image = _image(clip.query.numpy(), mean, std)
    known = clip.weight[0].numpy() > 0
    label = (clip.target[0].numpy() > 0.5) & known
    prediction = clip.probability[0].numpy() > 0.5
    height = min(image.shape[0], _LARGEST_CELL[0])
    width = min(image.shape[1], _LARGEST_CELL[1])
    sheet = contact_sheet(
        [image, overlay(image, label), overlay(image, prediction)],
        columns=3,
        labels=["frame", "label", "prediction"],
        cell=(height, width),
    )
    write_image(path, sheet)


def _image(
    query: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    """Normalised (3, H, W) back to uint8 RGB (H, W, 3)."""
    colours = query.transpose(1, 2, 0) * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    return np.ascontiguousarray(np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8))
