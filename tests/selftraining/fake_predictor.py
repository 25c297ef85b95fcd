"""A predictor and features that are known: the brightness and the colours of the frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dvos.media.frames import AnyFrames, checked_frames
from dvos.media.image import write_image
from dvos.prediction.features import Piece
from dvos.prediction.predictor import FramePrediction, Views

SIZE = (64, 80)
OBJECT, DOUBT, SOIL = 250, 140, 5


class Brightness:
    """Its probability is the blue channel / 255, plus ``shift`` where red is high in a large view.

    Blue hardly counts in the grey image that the optical flow is found in.
    """

    def __init__(self, context: int = 2, shift: float = 0.0) -> None:
        self.context = context
        self.intensity = "auto"
        self.shift = shift
        self.segmented: list[int] = []

    def segment_views(
        self, source: AnyFrames, views: Views, *, start: int = 0
    ) -> Iterator[FramePrediction]:
        for frame in checked_frames(source, start=max(0, start - self.context)):
            if frame.frame_index >= start:
                self.segmented.append(frame.frame_index)
                # Mirror images of what looks at single pixels are all the same.
                image = frame.image.astype(np.float32) / 255
                seen = [
                    image[..., 2] + (self.shift if scale > 1 else 0) * (image[..., 0] > 0.9)
                    for scale in views.scales
                ]
                mean = np.mean(seen, 0, dtype=np.float32)
                yield FramePrediction(
                    frame.frame_index,
                    frame.time_s,
                    frame.name,
                    frame.image,
                    mean,
                    mean >= 0.5,
                    std=np.std(seen, 0, dtype=np.float32),
                )


class Colours:
    """Its features are the mean colours of each cell, in two pieces."""

    scale = 1.0

    def __init__(self, channels: tuple[int, ...] = (0, 1, 2)) -> None:
        self.channels = channels
        self.read = 0

    def pieces(self, image: np.ndarray) -> Iterator[Piece]:
        self.read += 1
        rows, columns = -(-image.shape[0] // 4), -(-image.shape[1] // 4)
        padded = np.pad(
            image, ((0, 4 * rows - len(image)), (0, 4 * columns - image.shape[1]), (0, 0)), "edge"
        )
        cells = padded.reshape(rows, 4, columns, 4, 3).mean((1, 3)).astype(np.float32)
        values = np.moveaxis(cells, 2, 0)[list(self.channels)] / 255
        middle = columns // 2
        yield Piece(slice(0, rows), slice(0, middle), values[:, :, :middle])
        yield Piece(slice(0, rows), slice(middle, columns), values[:, :, middle:])


def scene(offset: int = 0, *, doubt: bool = True) -> np.ndarray:
    """A frame: half soil, a quarter object, a quarter doubt; green texture for the flow."""
    rng = np.random.default_rng(1)
    image = np.full((*SIZE, 3), SOIL, np.uint8)
    image[:, :20, 2] = OBJECT
    image[:, 20:40, 2] = DOUBT if doubt else SOIL
    image[..., 1] = np.roll(rng.integers(0, 256, SIZE, dtype=np.uint8), offset, axis=1)
    return image


def write_frames(folder: Path, count: int, **options: Any) -> Path:
    for index in range(count):
        write_image(folder / f"f{index}.png", scene(**options))
    return folder
