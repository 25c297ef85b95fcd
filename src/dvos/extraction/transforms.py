"""The named spatial transforms of frames and cutouts.

A transform is drawn once and then applied to any number of images of one size, such as the frames
of a video. Over the border lies the image mirrored: black corners would be learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.extraction import TransformSettings

Image = NDArray[np.uint8]
Size = tuple[int, int]
Step = Callable[[Image], Image]

_ALL_PARTS = ("horizontal_flip", "vertical_flip", "rotate", "elastic")


@dataclass(frozen=True)
class DrawnTransform:
    """A transform with its random choices made, for images of one size (height, width)."""

    size: Size
    steps: tuple[Step, ...]

    def __call__(self, image: Image) -> Image:
        """Transform ``image``: uint8 (H, W, C) of ``size``."""
        if image.shape[:2] != self.size:
            raise ValueError(f"drawn for {self.size}, not for {image.shape[:2]}")
        for step in self.steps:
            image = step(image)
        return np.ascontiguousarray(image)


def fits(settings: TransformSettings, size: Size) -> bool:
    """Whether an image of ``size`` (height, width) is large enough for the crop asked for."""
    crops = settings.name in ("center_crop", "random_crop")
    return not crops or (size[0] >= settings.height and size[1] >= settings.width)


def draw_transform(
    settings: TransformSettings, size: Size, rng: np.random.Generator
) -> DrawnTransform:
    """Make the random choices of a transform for images of ``size`` (height, width).

    A crop larger than the image keeps the whole of that side, see :func:`fits`.
    """
    name, target = settings.name, (settings.height, settings.width)
    crop = (min(target[0], size[0]), min(target[1], size[1]))
    room = (size[0] - crop[0], size[1] - crop[1])
    steps: list[Step] = []
    if name == "center_crop":
        steps.append(_crop(room[0] // 2, room[1] // 2, crop))
    elif name == "random_crop":
        top, left = (int(rng.integers(0, free + 1)) for free in room)
        steps.append(_crop(top, left, crop))
    elif name == "resize":
        steps.append(lambda image: resize(image, target))
    elif name == "smallest_side_center_crop":
        scale = max(target[0] / size[0], target[1] / size[1])
        # Rounding may fall one pixel short of the side that decides the scale.
        cover = (max(round(size[0] * scale), target[0]), max(round(size[1] * scale), target[1]))
        steps.append(lambda image: resize(image, cover))
        steps.append(_crop((cover[0] - target[0]) // 2, (cover[1] - target[1]) // 2, target))
    for part in _ALL_PARTS if name == "flip_rotate_elastic" else (name,):
        chance = settings.elastic_p if part == "elastic" else settings.p
        if part in (*_ALL_PARTS, "flip") and rng.random() < chance:
            steps.append(_drawn_part(part, settings, size, rng))
    return DrawnTransform(size, tuple(steps))


def _drawn_part(
    part: str, settings: TransformSettings, size: Size, rng: np.random.Generator
) -> Step:
    """A flip, rotation or deformation."""
    border = cv2.BORDER_REFLECT_101
    if part == "rotate":
        centre = ((size[1] - 1) / 2, (size[0] - 1) / 2)
        angle = float(rng.uniform(-settings.angle, settings.angle))
        matrix = cv2.getRotationMatrix2D(centre, angle, 1.0)
        return lambda image: _bytes(
            cv2.warpAffine(np.ascontiguousarray(image), matrix, size[::-1], borderMode=border)
        )
    if part == "elastic":
        maps = _elastic(size, settings.elastic_amount, settings.elastic_scale, rng)
        return lambda image: _bytes(
            cv2.remap(np.ascontiguousarray(image), *maps, cv2.INTER_LINEAR, borderMode=border)
        )
    flips = {"horizontal_flip": (1,), "vertical_flip": (0,)}
    axes = flips.get(part) or ((0,), (1,), (0, 1))[int(rng.integers(3))]
    return lambda image: np.flip(image, axes)


def _bytes(image: NDArray[Any]) -> Image:
    return np.asarray(image, dtype=np.uint8)


def resize(image: Image, size: Size) -> Image:
    """Resize to (height, width): bicubic when larger, by area when smaller."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return _bytes(cv2.resize(image, size[::-1], interpolation=method))


def transform_patch(patch: Image, transform: TransformSettings, rng: np.random.Generator) -> Image:
    """Transform a patch, uint8 RGBA, alpha 0 or 255: nothing of the object is lost at its border.

    The result is cropped to the box of the alpha; it is the patch as it came if a crop missed it.
    """
    if transform.name == "none":
        return patch
    height, width = patch.shape[:2]
    margin = 0
    if transform.name in ("rotate", "elastic", "flip_rotate_elastic"):
        # Room for the corners of the box turned by any angle, and for the
        # deformation, whose displacement stays below 4 standard deviations.
        diagonal = float(np.hypot(height, width))
        reach = 4 * transform.elastic_amount * 2 * diagonal
        margin = int(np.ceil((diagonal - min(height, width)) / 2 + reach)) + 1
    padded = cv2.copyMakeBorder(patch, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    padded[..., 3] = np.pad(patch[..., 3], margin)
    moved = draw_transform(transform, (padded.shape[0], padded.shape[1]), rng)(padded)
    alpha = moved[..., 3] >= 128
    if not alpha.any():
        return patch
    moved[..., 3] = np.where(alpha, np.uint8(255), np.uint8(0))
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    box = moved[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(box)


def _crop(top: int, left: int, size: Size) -> Step:
    return lambda image: image[top : top + size[0], left : left + size[1]]


def _elastic(
    size: Size, amount: float, scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row that each pixel of a deformed image is taken from."""
    # Independent displacements on a coarse grid, joined by a smooth surface:
    # as smooth as a blurred dense field and far cheaper for large frames.
    side = min(size)
    cell = max(2.0, scale * side)
    grid = [int(np.ceil(length / cell)) + 1 for length in size]
    steps = np.clip(rng.standard_normal((2, *grid)), -3, 3).astype(np.float32)
    steps *= np.float32(amount * side)
    rise, shift = (cv2.resize(s, size[::-1], interpolation=cv2.INTER_CUBIC) for s in steps)
    rows, columns = np.indices(size, dtype=np.float32)
    return columns + shift, rows + rise
