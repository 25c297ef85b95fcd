"""One change of geometry for a whole clip and its target."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.training.clips import ClipSample
from dvos.training.geometry import Level, SharedMap

__all__ = ["SpatialDraw", "SpatialJitter"]


@dataclass(frozen=True)
class SpatialJitter:
    """What the geometry of clips is drawn from; by default nothing changes.

    Attributes:
        scale: Lowest and highest size of objects relative to their own; drawn
            evenly on a logarithmic scale.
        flip: Whether clips are mirrored, left-right and up-down, half the time
            each.
        quarter_turn: Share of the clips turned by 90 degrees to one side.
        rotation: Largest rotation to either side, degrees.
        rotation_share: Share of the clips that are rotated and stretched.
        stretch: Largest change of the aspect ratio, as a fraction.
        elastic: Largest elastic displacement, pixels of the result.
        elastic_share: Share of the clips that are deformed.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    quarter_turn: float = 0.0
    rotation: float = 0.0
    rotation_share: float = 0.0
    stretch: float = 0.0
    elastic: float = 0.0
    elastic_share: float = 0.0

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> SpatialDraw:
        """Draw the geometry of one clip.

        Args:
            rng: Source of the draw.
            size: (height, width) of the clip wanted, pixels.
        """
        low, high = np.log(self.scale)
        scale = float(np.exp(rng.uniform(low, high)))
        flips = (rng.random() < 0.5, rng.random() < 0.5) if self.flip else (False, False)
        turned = bool(rng.random() < self.quarter_turn)
        matrix, field = None, None
        if rng.random() < self.rotation_share:
            angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
            ratio = np.exp(rng.uniform(-1, 1) * np.log1p(self.stretch) / 2)
            cosine, sine = np.cos(angle), np.sin(angle)
            rotation = np.array([[cosine, -sine], [sine, cosine]])
            matrix = rotation @ np.diag([ratio, 1 / ratio])
        if rng.random() < self.elastic_share:
            field = self._elastic(rng, size)
        return SpatialDraw(size, scale, flips, turned, matrix, field)

    def _elastic(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
        # One knot about every 32 pixels, interpolated cubically: smooth, and
        # without folds as long as the amplitude stays well under that.
        grid = (max(4, size[0] // 32), max(4, size[1] // 32))
        reach = rng.uniform(0, self.elastic)
        knots = rng.uniform(-reach, reach, (*grid, 2)).astype(np.float32)
        field: NDArray[np.float32] = cv2.resize(
            knots, (size[1], size[0]), interpolation=cv2.INTER_CUBIC
        )
        return field


@dataclass(frozen=True)
class SpatialDraw:
    """The geometry of one clip.

    Attributes:
        size: (height, width) of the result, pixels.
        scale: Size of objects relative to their own.
        flips: Whether it is mirrored up-down and left-right.
        turned: Whether it is turned by 90 degrees.
        matrix: float64 (2, 2), from the result's pixels to the canvas', both
            relative to the middle; None for none.
        field: float32 (H, W, 2), elastic displacement (x, y) in pixels; None
            for none.
    """

    size: tuple[int, int]
    scale: float
    flips: tuple[bool, bool]
    turned: bool
    matrix: NDArray[np.float64] | None
    field: NDArray[np.float32] | None

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the frames :meth:`apply` needs, pixels.

        Large enough for the result to be filled without mirrored borders.
        """
        height, width = self.size
        if self.matrix is not None:
            reach = np.abs(self.matrix) @ np.array([width, height])
            width, height = int(np.ceil(reach[0])) + 2, int(np.ceil(reach[1])) + 2
        if self.field is not None:
            extra = 2 * int(np.ceil(np.abs(self.field).max())) + 2
            height, width = height + extra, width + extra
        return (width, height) if self.turned else (height, width)

    def apply(self, sample: ClipSample) -> ClipSample:
        """Bring a clip of the canvas' size to its result.

        Args:
            sample: Frames uint8 (T, h, w, 3) and target (h, w) with
                (h, w) == ``canvas``.

        Returns:
            Frames uint8 (T, H, W, 3) and target (H, W) with (H, W) == ``size``.
        """
        frames, target = sample.frames, sample.target
        if self.turned or any(self.flips):
            frames = np.stack([self._mirrored(frame) for frame in frames])
            target = np.asarray(self._mirrored(target), np.uint8)
        if self.matrix is None and self.field is None:
            return ClipSample(np.ascontiguousarray(frames), np.ascontiguousarray(target))
        shared = self._map((frames.shape[1], frames.shape[2]))
        warped = np.empty((len(frames), *self.size, 3), np.uint8)
        for number, frame in enumerate(frames):
            warped[number] = shared.frame(frame)
        return ClipSample(warped, shared.target(target))

    def apply_to_ids(self, ids: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Bring instance masks the same way, uint16 (T, h, w) to (T, H, W): nearest pixels."""
        ids = np.stack([self._mirrored(mask) for mask in ids])
        if self.matrix is None and self.field is None:
            return ids
        shared = self._map((ids.shape[1], ids.shape[2]))
        return np.stack([shared.ids(mask) for mask in ids])

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
