"""The ground that a camera has seen: the union of its frames along its path."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.prediction.tracks.motion import REST, Motion

Doubles = NDArray[np.float64]

#: Cells of the map across a frame's shorter side, and most cells of the map.
_ACROSS, _MOST = 200, 4e7
#: Of the frames, how many may follow one another by an unknown motion.
_UNKNOWN = 0.1
#: Bits of a fraction in the corners that are drawn.
_SHIFT = 6


class SweptGround:
    """Follows the camera by the common motion of a clip's objects."""

    def __init__(self) -> None:
        self._to_first = np.eye(3)
        self._last: Motion = REST
        self._corners: list[Doubles] = []
        self._size = (0, 0)
        self._unknown = 0

    def add(self, motion: Motion | None, size: tuple[int, int]) -> None:
        """Add the next frame.

        Args:
            motion: Common to its objects and those of the frame before; None where they do not tell
                it: then the motion before is taken to go on.
            size: Its height and width.
        """
        if self._corners:
            self._unknown += motion is None
            self._last = motion or self._last
            step = np.eye(3)
            step[:2, :2], step[:2, 2] = self._last.matrix, self._last.shift
            self._to_first = self._to_first @ np.linalg.inv(step)
        self._size = size
        height, width = size
        edges = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
        self._corners.append(edges @ self._to_first[:2, :2].T + self._to_first[:2, 2])

    def area(self) -> float | None:
        """Of all frames together, in pixels squared of the first; None where the path is unknown.

        It is counted in cells, some 200 across a frame.
        """
        steps = len(self._corners) - 1
        if steps < 0 or self._unknown > _UNKNOWN * max(1, steps):
            return None
        corners = np.stack(self._corners)
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        cell = max(min(self._size) / _ACROSS, float(np.sqrt(np.prod(high - low) / _MOST)))
        width, height = (np.ceil((high - low) / cell).astype(int) + 2).tolist()
        seen = np.zeros((height, width), np.uint8)
        # A cell counts where its middle is inside: edges drawn by OpenCV reach half a cell further.
        for one in corners:
            middle = one.mean(axis=0)
            away = one - middle
            inner = middle + away * (1 - cell / np.abs(away).max())
            places = np.rint(((inner - low) / cell) * 2**_SHIFT).astype(np.int32)
            cv2.fillConvexPoly(seen, places, 1, lineType=cv2.LINE_8, shift=_SHIFT)
        return float(np.count_nonzero(seen)) * cell**2
