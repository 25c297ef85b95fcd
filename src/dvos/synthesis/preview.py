"""The contact sheet: a few frames of a few clips, plain and with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.image import write_image
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.runner import progress
from dvos.synthesis.clip import ClipGenerator

__all__ = ["write_preview"]

_CELL = 420  # longer side of a picture, px


def write_preview(
    path: Path,
    generator: ClipGenerator,
    backgrounds: Sequence[int],
    *,
    frames: int,
    size: tuple[int, int],
) -> int:
    """Write a sheet with a row a clip: its first frame, then first, middle and last with masks.

    The clips are the first of the set, made as they would be written, but for
    the frames shown only.

    Args:
        path: PNG.
        generator: Makes the clips.
        backgrounds: Background table of each clip, from clip 0 on.
        frames: Length of a clip.
        size: Height and width of a frame.

    Returns:
        Number of frames shown.
    """
    times = sorted({0, frames // 2, frames - 1})
    pictures: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    for number, background in enumerate(
        progress(backgrounds, description="preview", total=len(backgrounds), unit="clip")
    ):
        clip = generator.make(number, frames=frames, size=size, times=times, background=background)
        pictures.append(_shrunk(clip.frames[0]))
        labels.append(f"VID_{number:05d} {clip.plate}")
        for k, time in enumerate(times):
            # Ids are coloured and outlined at the sheet's size, so that lines stay sharp.
            small, ids = _shrunk(clip.frames[k]), clip.instances[k]
            shape = small.shape[1], small.shape[0]
            ids = np.asarray(cv2.resize(ids, shape, interpolation=cv2.INTER_NEAREST))
            pictures.append(outline(overlay(small, ids, alpha=0.3), ids))
            count = len(np.unique(clip.instances[k])) - int((clip.instances[k] == 0).any())
            labels.append(f"frame {time}: {count} objects")
    write_image(path, contact_sheet(pictures, columns=1 + len(times), labels=labels))
    return len(times) * len(backgrounds)


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _CELL / max(image.shape[:2])
    if scale >= 1:
        return image
    shape = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA))
