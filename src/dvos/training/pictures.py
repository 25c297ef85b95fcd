"""Pictures of clips, to look at: what is trained on, and what a network makes of validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.media.image import write_image
from dvos.media.mask import IGNORE
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.networks.spec import Normalisation
from dvos.training.clips.clip import known_objects
from dvos.training.datasets import TrainingClips, images_of
from dvos.training.objective import SegmentedClip

_LARGEST_CELL = (384, 512)
_UNKNOWN = np.array([128, 128, 128], np.uint16)


def batch_picture(data: TrainingClips, count: int, *, first: int = 0) -> NDArray[np.uint8]:
    """Show clips as the network sees them, before they are normalised.

    Args:
        data: Training clips.
        count: How many.
        first: Number of the first.

    Returns:
        uint8 (H, W, 3): a row for each clip; its frames in order, then the last one with its
        objects outlined and unknown pixels greyed.
    """
    cells: list[NDArray[np.uint8]] = []
    for number in range(first, first + count):
        clip = data.sample(number)
        shown = outline(clip.frames[-1], known_objects(clip.ids[-1]))
        unknown = clip.ids[-1] == IGNORE
        shown[unknown] = ((shown[unknown] + _UNKNOWN) // 2).astype(np.uint8)
        cells += [*clip.frames, shown]
    return contact_sheet(cells, columns=len(cells) // count)


def draw_prediction(path: Path, clip: SegmentedClip, normalisation: Normalisation) -> None:
    """Write the frame, the frame with its label and with its prediction side by side.

    Args:
        path: Image file.
        clip: What the network made of a clip.
        normalisation: Of the network's input.
    """
    image = images_of(clip.query[None], normalisation)[0]
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
