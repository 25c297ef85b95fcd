"""Cutting, resizing and warping frames and targets, so that both stay aligned.

Frames are averaged over areas when they shrink and interpolated bilinearly
when they grow or are warped. Targets go the same way as the share of a pixel
that is object and that is unknown, and are then decided at one half: an edge
stays where it is in the frame, and no value arises that was not there.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.training.clips import IGNORE, OBJECT

__all__ = [
    "Box",
    "Level",
    "SharedMap",
    "cut",
    "looked_at",
    "place",
    "resize_frame",
    "resize_target",
]

Level = TypeVar("Level", np.uint8, np.uint16)

# Object pixels of a target as a share of 0..255, and unknown ones.
_OBJECT_SHARE = np.zeros(256, np.uint8)
_OBJECT_SHARE[OBJECT] = 255
_IGNORE_SHARE = np.zeros(256, np.uint8)
_IGNORE_SHARE[IGNORE] = 255


class Box(NamedTuple):
    """A box of whole pixels; it may reach beyond the image it is laid on."""

    top: int
    left: int
    height: int
    width: int

    def relative_to(self, other: Box) -> Box:
        """This box as seen from the corner of another."""
        return Box(self.top - other.top, self.left - other.left, self.height, self.width)


def place(
    rng: np.random.Generator,
    size: tuple[int, int],
    image_size: tuple[int, int],
    *,
    aim: tuple[int, int] | None = None,
    inner: Box | None = None,
) -> Box:
    """Lay a box on an image at random, inside it where it fits.

    Args:
        rng: Source of the place.
        size: (height, width) of the box.
        image_size: (height, width) of the image.
        aim: (row, column) of a pixel that ``inner`` shall hold, if it can.
        inner: The part of the box, relative to it, that ``aim`` refers to;
            the whole box by default.

    Returns:
        The box. Along an axis on which it is larger than the image it covers
        the image wholly.
    """
    inner = inner or Box(0, 0, *size)
    corner = []
    for axis in range(2):
        slack = image_size[axis] - size[axis]
        low, high = min(slack, 0), max(slack, 0)
        if aim is None:
            corner.append(int(rng.integers(low, high + 1)))
            continue
        within = inner[axis] + int(rng.integers(0, inner[2 + axis]))
        corner.append(min(max(aim[axis] - within, low), high))
    return Box(corner[0], corner[1], *size)


def cut(image: NDArray[Level], box: Box) -> NDArray[Level]:
    """Cut a box out of an image, mirrored where it reaches beyond the border.

    Args:
        image: uint8 or uint16 (H, W) or (H, W, 3).
        box: What to cut.

    Returns:
        (height, width[, 3]) of the same type; a view where the box lies inside.
    """
    height, width = image.shape[:2]
    near = looked_at(box, (height, width))
    part = image[near.top : near.top + near.height, near.left : near.left + near.width]
    if near == box:
        return part
    above, below, before, after = _beyond(box, (height, width))
    padded = cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_REFLECT_101)
    row, column = box.top - near.top + above, box.left - near.left + before
    result: NDArray[Level] = padded[row : row + box.height, column : column + box.width]
    return result


def looked_at(box: Box, size: tuple[int, int]) -> Box:
    """The part of an image that cutting a box out of it looks at.

    Cutting the same box out of that part alone gives the same pixels.

    Args:
        box: What is cut; it meets the image.
        size: (height, width) of the image.

    Returns:
        A box inside the image; ``box`` itself if that lies inside.
    """
    # Mirroring must see as much of the image as it shows: a part only just
    # touched by the box would be mirrored about the wrong line.
    reach = max(_beyond(box, size))
    top, left = max(box.top - reach, 0), max(box.left - reach, 0)
    bottom = min(box.top + box.height + reach, size[0])
    right = min(box.left + box.width + reach, size[1])
    return Box(top, left, bottom - top, right - left)


def _beyond(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rows above and below, columns before and after, by which a box exceeds an image."""
    bottom, right = box.top + box.height, box.left + box.width
    return max(-box.top, 0), max(bottom - size[0], 0), max(-box.left, 0), max(right - size[1], 0)


def resize_frame(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a frame: by areas when it shrinks, bilinearly when it grows.

    Args:
        frame: uint8 (H, W, 3).
        size: (height, width) wanted.

    Returns:
        uint8 (height, width, 3).
    """
    if frame.shape[:2] == size:
        return frame
    resized: NDArray[np.uint8] = cv2.resize(
        frame, (size[1], size[0]), interpolation=_interpolation(frame.shape, size)
    )
    return resized


def resize_target(target: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a target without new values.

    Args:
        target: uint8 (H, W) of 0, 1, 255.
        size: (height, width) wanted.

    Returns:
        uint8 (height, width) of the values that ``target`` holds.
    """
    if target.shape == size:
        return target
    flag = _interpolation(target.shape, size)
    dsize = (size[1], size[0])
    objects = cv2.resize(cv2.LUT(target, _OBJECT_SHARE), dsize, interpolation=flag)
    if not (target == IGNORE).any():
        return _decide(objects, None)
    return _decide(objects, cv2.resize(cv2.LUT(target, _IGNORE_SHARE), dsize, interpolation=flag))


class SharedMap:
    """One map for all frames of a clip and its target.

    Args:
        columns: float32 (H, W), for each pixel of the result the column it is
            read from.
        rows: float32 (H, W), the row it is read from. Places outside are
            mirrored.
    """

    def __init__(self, columns: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
        # The fixed-point form is what remap works with; converting once pays
        # from the second frame on.
        self._maps = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
        self._exact = (columns, rows)

    def frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Warp a frame, uint8 (h, w, 3) to (H, W, 3)."""
        return self._remap(frame)

    def target(self, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Warp a target, uint8 (h, w) to (H, W), without new values."""
        objects = self._remap(cv2.LUT(target, _OBJECT_SHARE))
        if not (target == IGNORE).any():
            return _decide(objects, None)
        return _decide(objects, self._remap(cv2.LUT(target, _IGNORE_SHARE)))

    def ids(self, ids: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Warp an instance mask, uint16 (h, w) to (H, W): the nearest pixel's id."""
        warped: NDArray[np.uint16] = cv2.remap(
            ids, *self._exact, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
        )
        return warped

    def _remap(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        result: NDArray[np.uint8] = cv2.remap(
            image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return result


def _interpolation(shape: tuple[int, ...], size: tuple[int, int]) -> int:
    shrinks = shape[0] > size[0] or shape[1] > size[1]
    return int(cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _decide(objects: NDArray[np.uint8], unknown: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if unknown is None:
        return (objects >= 128).astype(np.uint8)
    # Of the part that is known, is at least half object?
    known = 255 - unknown.astype(np.int16)
    target = (2 * objects.astype(np.int16) > known).astype(np.uint8)
    target[unknown >= 128] = IGNORE
    return target
