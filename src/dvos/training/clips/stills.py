"""Labelled stills as simulated pans: real appearance and an exact mask.

A window moves over the photo, and what it shows may sway as in wind. What it shows last is the
query frame, cut out unwarped, so that its mask is the labeller's own. Offsets are in pixels of the
frames made, so that a clip shows the same motion whatever scale its photo is read at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.data import MotionSettings
from dvos.errors import check_size
from dvos.media.image import read_image
from dvos.media.limits import ImageCache
from dvos.training.augment.spatial import Box, cut, place, resize_frame, resize_ids
from dvos.training.clips.clip import Clip, ClipRequest, draw_seed_point, labelled_clip
from dvos.training.clips.files import DecodedMask

DRAWN_ON_IT = "give each photo the mask that was drawn on it"


@dataclass(frozen=True)
class LabelledStill:
    """A photo and its mask; no mask says that there is no object in it."""

    image: Path  # The photo.
    mask: Path | None  # Semantic or instance, of the same size.
    void: str = "auto"  # Its values for "unknown"; see :func:`~dvos.media.mask.read_mask`.
    scale: float = 1.0  # The photo is resized by this factor when it is read.
    intensity: str = "full"  # What becomes of the photo's samples of more than 8 bit.


@dataclass(frozen=True, eq=False)
class LoadedStill:
    """A decoded still: its photo, uint8 (H, W, 3), and its mask."""

    image: NDArray[np.uint8]
    mask: DecodedMask

    @property
    def nbytes(self) -> int:
        """Memory taken, bytes."""
        return self.image.nbytes + self.mask.nbytes


def load_still(still: LabelledStill, *, as_one: bool) -> LoadedStill:
    """Decode a still; a MediaError if that fails, or photo and mask differ in size."""
    image = read_image(still.image, still.intensity)
    if still.mask is None:
        mask = DecodedMask(np.zeros(image.shape[:2], np.uint8))
    else:
        mask = DecodedMask.read(still.mask, still.void)
        check_size(still.mask, mask.ids.shape, image.shape[:2], still.image, DRAWN_ON_IT)
    if still.scale != 1:
        height, width = (max(1, round(side * still.scale)) for side in image.shape[:2])
        image = resize_frame(image, (height, width))
        ids = mask.ids.astype(np.uint16)
        mask = DecodedMask(resize_ids(ids, (height, width), as_one=as_one))
    return LoadedStill(image, mask)


def draw_path(rng: np.random.Generator, motion: MotionSettings, frames: int) -> NDArray[np.float64]:
    """Draw how a window moves over T frames, float64 (T, 2, 3).

    For each frame the map from (x, y, 1), relative to the middle of the frame, to the place in the
    query frame that is seen there. The last one is the identity: the query is where its mask is.
    """
    path = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (frames, 1, 1))
    kind = rng.random()
    if kind < motion.still_share:
        return path
    fast = kind < motion.still_share + motion.fast_share
    low, high = (motion.speed, motion.fast_speed) if fast else (0.0, motion.speed)
    speed = rng.uniform(low, max(low, high))
    heading = rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    change = rng.normal(0, motion.acceleration, 2)
    zoom, turn = rng.normal(0, motion.zoom), np.deg2rad(rng.normal(0, motion.turn))
    # Frames before the query, counted backwards in time.
    back = -np.arange(frames - 1, 0, -1, dtype=np.float64)
    offsets = back[:, None] * velocity + 0.5 * back[:, None] ** 2 * change
    offsets += rng.normal(0, motion.shake, offsets.shape)
    size, angle = np.exp(zoom * back), turn * back
    path[:-1, 0, 0] = path[:-1, 1, 1] = size * np.cos(angle)
    path[:-1, 1, 0] = size * np.sin(angle)
    path[:-1, 0, 1] = -path[:-1, 1, 0]
    path[:-1, :, 2] = offsets
    return path


def draw_sway(
    rng: np.random.Generator, motion: MotionSettings, frames: int, size: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Draw how the references of a clip of T frames sway against the query, if they do.

    Every place swings to and fro about its rest as a sine; neighbours swing alike. float32
    (T - 1, height, width, 2), the (x, y) displacement of each reference in pixels from the query's
    moment, so that its mask stays exact.
    """
    if rng.random() >= motion.sway_share or frames < 2:
        return None
    # A swing about every 64 pixels: heads that stand together sway alike.
    grid = tuple(max(3, side // 64 + 2) for side in size)
    swing = rng.normal(0, rng.uniform(0, motion.sway) / 2, (*grid, 2))
    phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5, grid)
    step = rng.uniform(0.2, 0.9)
    back = -np.arange(frames - 1, 0, -1, dtype=np.float64)
    moments = np.sin(phase + step * back[:, None, None]) - np.sin(phase)
    reach = 2 * motion.sway
    coarse = np.clip(moments[..., None] * swing, -reach, reach).astype(np.float32)
    return np.stack([cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR) for x in coarse])


def margins(
    path: NDArray[np.float64], size: tuple[int, int], extra: float = 0.0
) -> tuple[int, int, int, int]:
    """Pixels (top, left, bottom, right) that a path's frames reach beyond the query's, and more."""
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    corners = np.array([[-x, -x, x, x], [-y, y, -y, y], [1, 1, 1, 1]])
    seen = path @ corners  # (T, 2, 4)
    if extra == 0 and np.abs(seen - corners[:2]).max() < 1e-9:
        return 0, 0, 0, 0
    low, high = seen.min(axis=(0, 2)) - extra, seen.max(axis=(0, 2)) + extra
    # One pixel more, for the bilinear interpolation at the rim.
    reach = [-y - low[1], -x - low[0], high[1] - y, high[0] - x]
    top, left, bottom, right = (max(0, int(np.ceil(side)) + 1) for side in reach)
    return top, left, bottom, right


def show_pan(
    image: NDArray[Any],
    window: Box,
    path: NDArray[np.float64],
    sway: NDArray[np.float32] | None = None,
    *,
    interpolation: int = cv2.INTER_LINEAR,
) -> NDArray[Any]:
    """Show an image through a moving window; what lies outside of it is its mirror image.

    The window ends at ``window``: the last frame is this part of the image, uint8 (h, w, 3) or a
    mask, uint16 (h, w), unchanged. Path and sway are of :func:`draw_path` and :func:`draw_sway`.
    """
    height, width = window.height, window.width
    frames = np.empty((len(path), height, width, *image.shape[2:]), image.dtype)
    frames[-1] = cut(image, window)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    mirrored = cv2.BORDER_REFLECT_101
    for moment, matrix in enumerate(path[:-1]):
        # From the frame's pixels to the image's.
        there = matrix.copy()
        there[:, 2] += middle - matrix[:, :2] @ middle + (window.left, window.top)
        shown = frames[moment]
        if sway is None:
            flags = interpolation | cv2.WARP_INVERSE_MAP
            cv2.warpAffine(image, there, (width, height), shown, flags, mirrored)
            continue
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        line = there.astype(np.float32)
        columns = sway[moment, ..., 0] + (line[0, 0] * x + line[0, 2]) + line[0, 1] * y
        rows = sway[moment, ..., 1] + (line[1, 0] * x + line[1, 2]) + line[1, 1] * y
        cv2.remap(image, columns, rows, interpolation, shown, mirrored)
    return frames


def show_ids(
    ids: NDArray[np.uint16],
    window: Box,
    path: NDArray[np.float64],
    sway: NDArray[np.float32] | None = None,
    *,
    request: ClipRequest,
) -> list[NDArray[np.uint16] | None]:
    """What :func:`show_pan` shows of a mask in each frame whose ids are wanted, else None."""
    moments = range(len(path))
    first = len(moments) - len(request.labelled(moments))
    swayed = None if sway is None else sway[first:]
    shown = show_pan(ids, window, path[first:], swayed, interpolation=cv2.INTER_NEAREST)
    return [None] * first + list(shown)


@dataclass(frozen=True, eq=False)
class StillClips:
    """Simulated pans over stills, at least one, each drawn as often as any other.

    The window's path says how far frames lie apart; of ``jump`` only the direction of time is left,
    as over a long path the window would leave what the first frame showed. ``object_share`` of the
    windows are laid to hold an object, if the still has one; the others lie anywhere.
    """

    stills: Sequence[LabelledStill]
    cache: ImageCache
    motion: MotionSettings
    object_share: float = 0.7

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Draw a still, a window on it and a path to it."""
        chosen = self.stills[int(rng.integers(len(self.stills)))]
        as_one = request.as_one
        # Resized masks differ with what is asked for, others do not.
        key = (chosen, as_one) if chosen.scale != 1 else chosen
        still = self.cache.get(key, partial(load_still, chosen, as_one=as_one))
        path = draw_path(rng, self.motion, request.frames)
        sway = draw_sway(rng, self.motion, request.frames, request.size)
        point = draw_seed_point(rng, still.mask.seed_points, self.object_share)
        swing = 0.0 if sway is None else float(np.abs(sway).max())
        top, left, bottom, right = margins(path, request.size, swing)
        # Where the window ends, in the part of the photo that any frame shows.
        window = Box(top, left, *request.size)
        whole = (request.size[0] + top + bottom, request.size[1] + left + right)
        # Both in the photo's own pixels.
        corner = (round(side / request.scale) for side in (top, left))
        sides = [max(1, round(side / request.scale)) for side in (*whole, *request.size)]
        size, inner = (sides[0], sides[1]), Box(*corner, *sides[2:])
        box = place(rng, size, still.mask.ids.shape, seed_point=point, inner=inner)
        seen = resize_frame(cut(still.image, box), whole)
        ids = resize_ids(still.mask.part(box), whole, as_one=as_one)
        frames = show_pan(seen, window, path, sway)
        shown = show_ids(ids, window, path, sway, request=request)
        step = -1 if request.jump is not None and rng.random() < 0.5 else 1
        return labelled_clip(request, frames[::step], shown[::step], [still.mask.only])
