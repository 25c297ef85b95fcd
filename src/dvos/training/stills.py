"""Labelled stills as pan clips: real appearance and an exact mask.

A window moves over the photo; what it shows last is the query frame, cut out
unwarped, so that its mask is the labeller's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.image import read_image
from dvos.media.mask import read_mask
from dvos.training.clips import OBJECT, ClipSample, target_of
from dvos.training.geometry import Box, cut, resize_frame, resize_target
from dvos.training.motion import PanMotion, Wind
from dvos.training.pans import PanDraw
from dvos.training.store import DecodedFiles

__all__ = [
    "LabelledStill",
    "LoadedStill",
    "StillClips",
    "aims_of",
    "load_still",
    "pan_clip",
    "read_labelled",
    "scaled",
]

Mask = TypeVar("Mask", np.uint8, np.uint16)

# As many object pixels are kept for aiming; more would only cost memory.
_AIMS = 4096
# Pixels of a photo from which on they are looked for in steps.
_LARGE = 1_000_000


@dataclass(frozen=True)
class LabelledStill:
    """A photo and its mask; no mask says that there is no object in it.

    Attributes:
        image: The photo.
        mask: Its mask, semantic or instance, of the same size.
        ignore_value: The mask's value for "unknown", if it has one.
        scale: The photo is resized by this factor when it is read.
    """

    image: Path
    mask: Path | None
    ignore_value: int | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class LoadedStill:
    """A decoded still.

    Attributes:
        image: uint8 (H, W, 3).
        target: uint8 (H, W) of 0, 1, 255.
        aims: int64 (N, 2), (row, column) of pixels spread evenly over the
            objects; empty if there are none.
    """

    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    aims: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory taken, bytes."""
        return self.image.nbytes + self.target.nbytes + self.aims.nbytes


def load_still(still: LabelledStill) -> LoadedStill:
    """Decode a still.

    Raises:
        MediaError: If a file cannot be read or photo and mask differ in size.
    """
    image, target = read_labelled(
        still, lambda path: target_of(read_mask(path), still.ignore_value), np.uint8
    )
    if still.scale != 1:
        size = scaled(image, still.scale)
        image, target = resize_frame(image, size), resize_target(target, size)
    return LoadedStill(image, target, aims_of(target))


def read_labelled(
    still: LabelledStill, read: Callable[[Path], NDArray[Mask]], kind: type[Mask]
) -> tuple[NDArray[np.uint8], NDArray[Mask]]:
    """The photo of a still, and what ``read`` makes of its mask, zeros if it has none.

    Raises:
        MediaError: If a file cannot be read or photo and mask differ in size.
    """
    image = read_image(still.image)
    if still.mask is None:
        return image, np.zeros(image.shape[:2], kind)
    mask = read(still.mask)
    if mask.shape != image.shape[:2]:
        raise MediaError.at(
            still.mask,
            f"is {mask.shape[1]} x {mask.shape[0]} pixels",
            f"{image.shape[1]} x {image.shape[0]} as {still.image}",
            "give each photo the mask that was drawn on it",
        )
    return image, mask


def scaled(image: NDArray[np.uint8], scale: float) -> tuple[int, int]:
    """Height and width of an image resized by a factor, at least a pixel."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return height, width


def aims_of(target: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pick pixels spread evenly over the objects of a target, int64 (N, 2)."""
    # Of a large photo every few rows and columns do, at a fraction of the memory.
    step = max(1, int((target.size / _LARGE) ** 0.5))
    objects = target[::step, ::step] == OBJECT
    if step > 1 and not objects.any():
        step, objects = 1, target == OBJECT
    flat = np.flatnonzero(objects)
    flat = flat[:: max(1, len(flat) // _AIMS)]
    return step * np.stack(np.divmod(flat, objects.shape[1]), axis=1)


class StillClips:
    """Pan clips over stills, a :class:`~dvos.training.clips.ClipSource`.

    Args:
        stills: The stills; each is drawn as often as any other.
        decoded: Where decoded stills are kept.
        motion: How the window moves.
        wind: How the references sway.
        object_share: Share of the clips whose window is laid so that it holds
            an object, if the still has one; the others lie anywhere.
    """

    def __init__(
        self,
        stills: Sequence[LabelledStill],
        decoded: DecodedFiles,
        *,
        motion: PanMotion,
        wind: Wind,
        object_share: float = 0.7,
    ) -> None:
        if not stills:
            raise ValueError("there are no stills")
        self._stills = tuple(stills)
        self._decoded = decoded
        self._pans = PanDraw(motion, wind, object_share)

    def sample(
        self, rng: np.random.Generator, *, frames: int, size: tuple[int, int], scale: float
    ) -> ClipSample:
        """Draw a still, a window on it and a path to it."""
        chosen = self._stills[int(rng.integers(len(self._stills)))]
        still = self._decoded.get(chosen, partial(load_still, chosen))
        photo = (still.target.shape[0], still.target.shape[1])
        pan = self._pans.draw(
            rng, photo=photo, aims=still.aims, frames=frames, size=size, scale=scale
        )
        seen = resize_frame(cut(still.image, pan.box), pan.whole)
        target = resize_target(cut(still.target, pan.box), pan.whole)
        return ClipSample(
            pan_clip(seen, pan.window, pan.path, pan.sway),
            np.ascontiguousarray(cut(target, pan.window)),
        )


def pan_clip(
    image: NDArray[Any],
    window: Box,
    path: NDArray[np.float64],
    sway: NDArray[np.float32] | None = None,
    *,
    interpolation: int = cv2.INTER_LINEAR,
) -> NDArray[Any]:
    """Show an image through a moving window.

    Args:
        image: uint8 (h, w, 3), or a mask, uint8 or uint16 (h, w).
        window: Where the window ends, in the image; the last frame is this
            part of the image unchanged.
        path: float64 (T, 2, 3) of :meth:`~dvos.training.motion.PanMotion.draw`.
        sway: float32 (T - 1, H, W, 2) of :meth:`~dvos.training.motion.Wind.draw`.
        interpolation: OpenCV's; the nearest pixel's for masks.

    Returns:
        (T, H, W) or (T, H, W, 3) of the image's type. What lies outside the
        image is its mirror image.
    """
    height, width = window.height, window.width
    frames = np.empty((len(path), height, width, *image.shape[2:]), image.dtype)
    frames[-1] = cut(image, window)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    for moment, matrix in enumerate(path[:-1]):
        # From the frame's pixels to the image's.
        there = matrix.copy()
        there[:, 2] += middle - matrix[:, :2] @ middle + (window.left, window.top)
        if sway is None:
            cv2.warpAffine(
                image,
                there,
                (width, height),
                dst=frames[moment],
                flags=interpolation | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            )
            continue
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        line = there.astype(np.float32)
        columns = sway[moment, ..., 0] + (line[0, 0] * x + line[0, 2]) + line[0, 1] * y
        rows = sway[moment, ..., 1] + (line[1, 0] * x + line[1, 2]) + line[1, 1] * y
        cv2.remap(
            image,
            columns,
            rows,
            interpolation,
            dst=frames[moment],
            borderMode=cv2.BORDER_REFLECT_101,
        )
    return frames
