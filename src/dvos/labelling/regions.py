"""The region of an object about a click, in a map of how likely each pixel is one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Of the way from the surroundings' logit to the click's: where an object ends.
_LEVEL = 0.4
#: Share of a window that is surely background.
_GROUND = 20
#: Pixels about a click that tell its logit, and that belong to the region in any case.
_NEAR = 2
#: Deviation of the blur of the map, pixels.
_BLUR = 1.0


def region_at(logit: Singles, allowed: Mask, row: int, column: int) -> Mask:
    """The connected pixels about a click that look more like it than like their surroundings.

    Args:
        logit: float32 (H, W), of a window about the click.
        allowed: bool (H, W), where the region may lie; the click does.
        row: Of the click.
        column: Likewise.
    """
    smooth = cv2.GaussianBlur(logit, (0, 0), _BLUR)
    near = np.s_[max(0, row - _NEAR) : row + _NEAR + 1, max(0, column - _NEAR) : column + _NEAR + 1]
    top, low = float(np.median(smooth[near])), float(np.percentile(smooth, _GROUND))
    inside = smooth > low + _LEVEL * (top - low)
    inside[near] = True
    return filled(piece_at(inside & allowed, row, column)) & allowed


def piece_at(mask: Mask, row: int, column: int) -> Mask:
    """The connected piece of a mask that holds a pixel of it."""
    _, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    return np.asarray(pieces == pieces[row, column], np.bool_)


def filled(mask: Mask) -> Mask:
    """A mask without holes."""
    around = cv2.copyMakeBorder((~mask).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2, np.bool_)
