"""Geometry of frames and masks: cutting, resizing and warping, and one draw of it for a clip.

Masks go the same way as frames, as the share of a pixel that is object and that is unknown, and are
then decided at one half: an edge stays where it is in the frame. Where objects are told apart, each
of the pixels decided for has the id of the nearest object. No value arises that was not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.data import SpatialSettings
from dvos.media.mask import IGNORE
from dvos.training.clips.clip import Clip, known_objects, merge_objects

Level = TypeVar("Level", np.uint8, np.uint16)

_AROUND, _MIRRORED = np.ones((3, 3), np.uint8), cv2.BORDER_REFLECT_101


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
    seed_point: tuple[int, int] | None = None,
    inner: Box | None = None,
) -> Box:
    """Lay a box of a (height, width) on an image at random, inside it where it fits.

    Along an axis on which it is larger than the image it covers it wholly. If it can, ``inner``, a
    part of the box (all of it by default), holds the pixel (row, column) ``seed_point``.
    """
    inner = inner or Box(0, 0, *size)
    corner = []
    for axis in range(2):
        slack = image_size[axis] - size[axis]
        low, high = min(slack, 0), max(slack, 0)
        if seed_point is None:
            corner.append(int(rng.integers(low, high + 1)))
            continue
        within = inner[axis] + int(rng.integers(0, inner[2 + axis]))
        corner.append(min(max(seed_point[axis] - within, low), high))
    return Box(corner[0], corner[1], *size)


def cut(image: NDArray[Level], box: Box) -> NDArray[Level]:
    """Cut a box out of an image (H, W[, 3]), mirrored beyond its border; a view if it is inside."""
    height, width = image.shape[:2]
    near = looked_at(box, (height, width))
    part = image[near.top : near.top + near.height, near.left : near.left + near.width]
    if near == box:
        return part
    above, below, before, after = _beyond(box, (height, width))
    padded = cv2.copyMakeBorder(part, above, below, before, after, _MIRRORED)
    row, column = box.top - near.top + above, box.left - near.left + before
    result: NDArray[Level] = padded[row : row + box.height, column : column + box.width]
    return result


def looked_at(box: Box, size: tuple[int, int]) -> Box:
    """The part of an image of this (height, width) that :func:`cut` looks at for a box."""
    # Mirroring must see as much as it shows: a part just touched is mirrored about a wrong line.
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
    """Resize a frame (H, W, 3) to (height, width): by areas to shrink, bilinearly to grow."""
    if frame.shape[:2] == size:
        return frame
    how = _interpolation(frame.shape, size)
    return np.asarray(cv2.resize(frame, (size[1], size[0]), interpolation=how), np.uint8)


def resize_ids(
    ids: NDArray[np.uint16], size: tuple[int, int], *, as_one: bool
) -> NDArray[np.uint16]:
    """Resize a mask of ids (H, W) to (height, width); ``as_one`` makes all objects one, of id 1."""
    if ids.shape == size:
        return merge_objects(ids) if as_one else ids
    wanted = (size[1], size[0])
    flag = _interpolation(ids.shape, size)
    merged = _resampled(ids, lambda share: cv2.resize(share, wanted, interpolation=flag))
    if as_one:
        return merged
    return _told_apart(merged, cv2.resize(ids, wanted, interpolation=cv2.INTER_NEAREST_EXACT))


def _interpolation(shape: tuple[int, ...], size: tuple[int, int]) -> int:
    shrinks = shape[0] > size[0] or shape[1] > size[1]
    return int(cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resampled(ids: NDArray[np.uint16], resample: Callable[..., object]) -> NDArray[np.uint16]:
    """Objects as one, resampled as shares of a pixel, 0..255, and decided at one half."""

    def share(there: NDArray[np.bool_]) -> NDArray[np.uint8]:
        return np.asarray(resample(there.view(np.uint8) * np.uint8(255)), np.uint8)

    unknown = ids == IGNORE
    if not unknown.any():
        return (share(ids != 0) >= 128).astype(np.uint16)
    objects, unknown_share = share(known_objects(ids)), share(unknown)
    # Of the part that is known, is at least half object?
    known = 255 - unknown_share.astype(np.int16)
    result = (2 * objects.astype(np.int16) > known).astype(np.uint16)
    result[unknown_share >= 128] = IGNORE
    return result


def _told_apart(merged: NDArray[np.uint16], nearest: Any) -> NDArray[np.uint16]:
    """Give objects that were resampled as one, 1 in ``merged``, their ids again."""
    own = np.where(known_objects(nearest), nearest, np.uint16(0))
    beside: Any = cv2.dilate(own, _AROUND)
    result = np.where(merged == 1, np.where(own > 0, own, beside), merged)
    # Of two objects thinner than a pixel neither is nearest: an object, but which?
    result[(merged == 1) & (result == 0)] = IGNORE
    return np.asarray(result, np.uint16)


class SharedMap:
    """One map of frames and masks: from which columns and rows, float32 (H, W), pixels are read."""

    def __init__(self, columns: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
        # The fixed-point form is what remap works with; converting pays from the second frame on.
        self._maps = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
        self._exact = (columns, rows)

    def frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Warp a frame, uint8 (h, w, 3) to (H, W, 3)."""
        warped = cv2.remap(frame, *self._maps, cv2.INTER_LINEAR, borderMode=_MIRRORED)
        return np.asarray(warped, np.uint8)

    def ids(self, ids: NDArray[np.uint16], *, as_one: bool) -> NDArray[np.uint16]:
        """Warp a mask of ids, uint16 (h, w) to (H, W); ``as_one`` as in :func:`resize_ids`."""
        merged = _resampled(ids, self.frame)
        if as_one:
            return merged
        nearest = cv2.remap(ids, *self._exact, cv2.INTER_NEAREST, borderMode=_MIRRORED)
        return _told_apart(merged, nearest)


def draw_geometry(
    rng: np.random.Generator, chosen: SpatialSettings, size: tuple[int, int]
) -> SpatialDraw:
    """Draw the geometry of one clip whose result has this (height, width)."""
    low, high = np.log(chosen.scale)
    scale = float(np.exp(rng.uniform(low, high)))
    flips = (rng.random() < 0.5, rng.random() < 0.5) if chosen.flip else (False, False)
    turned = bool(rng.random() < chosen.quarter_turn)
    matrix, field = None, None
    if rng.random() < chosen.rotation_share:
        angle = np.deg2rad(rng.uniform(-chosen.rotation, chosen.rotation))
        ratio = np.exp(rng.uniform(-1, 1) * np.log1p(chosen.stretch) / 2)
        cosine, sine = np.cos(angle), np.sin(angle)
        matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([ratio, 1 / ratio])
    if rng.random() < chosen.elastic_share:
        # A knot about every 32 pixels: smooth, without folds as long as amplitudes stay under that.
        grid = (max(4, size[0] // 32), max(4, size[1] // 32))
        reach = rng.uniform(0, chosen.elastic)
        knots = rng.uniform(-reach, reach, (*grid, 2)).astype(np.float32)
        field = np.asarray(cv2.resize(knots, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
    return SpatialDraw(size, scale, flips, turned, matrix, field)


@dataclass(frozen=True, eq=False)
class SpatialDraw:
    """The geometry of one clip."""

    size: tuple[int, int]  # (height, width) of the result, pixels.
    scale: float  # Size of objects relative to their own.
    flips: tuple[bool, bool]  # Whether it is mirrored up-down and left-right.
    turned: bool  # Whether it is turned by 90 degrees.
    #: float64 (2, 2), from the result's pixels to the canvas', both relative to the middle.
    matrix: NDArray[np.float64] | None
    field: NDArray[np.float32] | None  # float32 (H, W, 2), elastic displacement (x, y) in pixels.

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the frames with which :meth:`apply` fills the result unmirrored."""
        height, width = self.size
        if self.matrix is not None:
            reach = np.abs(self.matrix) @ np.array([width, height])
            width, height = int(np.ceil(reach[0])) + 2, int(np.ceil(reach[1])) + 2
        if self.field is not None:
            extra = 2 * int(np.ceil(np.abs(self.field).max())) + 2
            height, width = height + extra, width + extra
        return (width, height) if self.turned else (height, width)

    def apply(self, clip: Clip, *, as_one: bool) -> Clip:
        """Bring a clip of the size of ``canvas`` to ``size``; ``as_one`` as for ids."""
        shared = None
        if self.matrix is not None or self.field is not None:
            height, width = clip.frames.shape[1:3]
            shared = self._map((width, height) if self.turned else (height, width))
        elif not (self.turned or any(self.flips)):
            return clip
        frames = np.empty((len(clip.frames), *self.size, 3), np.uint8)
        ids = np.full((len(clip.frames), *self.size), IGNORE, np.uint16)
        for number, frame in enumerate(clip.frames):
            turned = self._mirrored(frame)
            frames[number] = turned if shared is None else shared.frame(turned)
            if clip.labelled[number]:
                mask = self._mirrored(clip.ids[number])
                ids[number] = mask if shared is None else shared.ids(mask, as_one=as_one)
        return Clip(frames, ids, clip.labelled, clip.tells_apart)

    def _mirrored(self, image: NDArray[Level]) -> NDArray[Level]:
        """Turn and flip one image; OpenCV does it several times as fast as strided views."""
        if self.turned:
            image = np.asarray(cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE), image.dtype)
        if any(self.flips):
            axis = -1 if all(self.flips) else int(self.flips[1])
            image = np.asarray(cv2.flip(image, axis), image.dtype)
        return image

    def _map(self, canvas: tuple[int, int]) -> SharedMap:
        height, width = self.size
        x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
        y = (np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2))[:, None]
        line = (np.eye(2) if self.matrix is None else self.matrix).astype(np.float32)
        columns = line[0, 0] * x + line[0, 1] * y + np.float32((canvas[1] - 1) / 2)
        rows = line[1, 0] * x + line[1, 1] * y + np.float32((canvas[0] - 1) / 2)
        if self.field is not None:
            columns, rows = columns + self.field[..., 0], rows + self.field[..., 1]
        return SharedMap(columns, rows)
