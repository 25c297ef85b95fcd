"""Distractors: patches of an object's shape, taken where there is no object.

They teach a network that shape and paste marks alone do not make an object.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["DistractorFinder"]


class DistractorFinder:
    """Finds places of an image for shapes, away from its labelled objects.

    The labelled area of any box comes from an integral image; only a place
    that this leaves open costs a look at the pixels of its box.

    Args:
        image: uint8 RGB (H, W, 3).
        labelled: bool (H, W), true on every labelled object.
        max_iou: The IoU of a shape with the labelled pixels of its box must
            stay below this.
        tries: Places tried for each patch.
    """

    def __init__(
        self,
        image: npt.NDArray[np.uint8],
        labelled: npt.NDArray[np.bool_],
        *,
        max_iou: float,
        tries: int,
    ) -> None:
        self._image = image
        self._labelled = labelled
        self._max_iou = max_iou
        self._tries = tries
        # One row and column of zeros on top and at the left; int32 holds
        # images of up to two thousand million pixels.
        self._integral = cv2.integral(labelled.view(np.uint8), sdepth=cv2.CV_32S)

    def find(
        self, shape: npt.NDArray[np.bool_], count: int, rng: np.random.Generator
    ) -> list[npt.NDArray[np.uint8]]:
        """Find up to ``count`` patches of one shape.

        Args:
            shape: bool (h, w), no larger than the image.
            count: Patches wanted.
            rng: Source of the places.

        Returns:
            uint8 RGBA (h, w, 4) patches, alpha 255 on the shape; fewer than
            ``count`` where the tries ran out.
        """
        height, width = shape.shape
        area = int(np.count_nonzero(shape))
        patches = []
        for _ in range(count):
            place = self._place(shape, area, rng)
            if place is not None:
                top, left = place
                pixels = self._image[top : top + height, left : left + width]
                patches.append(np.dstack([pixels, shape * np.uint8(255)]))
        return patches

    def _place(
        self, shape: npt.NDArray[np.bool_], area: int, rng: np.random.Generator
    ) -> tuple[int, int] | None:
        height, width = shape.shape
        tops = rng.integers(0, self._image.shape[0] - height + 1, self._tries)
        lefts = rng.integers(0, self._image.shape[1] - width + 1, self._tries)
        sums = self._integral
        inside = (
            sums[tops + height, lefts + width]
            - sums[tops, lefts + width]
            - sums[tops + height, lefts]
            + sums[tops, lefts]
        )
        # What of the shape must lie on labelled pixels for lack of others.
        overlap = np.maximum(0, inside + area - height * width)
        open_places = np.flatnonzero(self._below(overlap, inside, area))
        for k in open_places:
            top, left = int(tops[k]), int(lefts[k])
            if inside[k]:
                window = self._labelled[top : top + height, left : left + width]
                overlap_here = int(np.count_nonzero(window & shape))
                if not self._below(overlap_here, int(inside[k]), area):
                    continue
            return top, left
        return None

    def _below(
        self,
        overlap: npt.NDArray[np.int64] | int,
        inside: npt.NDArray[np.int64] | int,
        area: int,
    ) -> npt.NDArray[np.bool_]:
        return np.asarray(overlap < self._max_iou * (area + inside - overlap))
