"""The region of an object about a click, in a map of how likely each pixel is one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]
Place = tuple[int, int]

#: Levels, of the way from the surroundings' logit to the click's, at which an object may end.
_LEVELS = np.linspace(0.05, 0.9, 18)
#: Least and largest area of an error, in squares of the depth of its middle: that of a disc, and of
#: a strip.
_DISC, _STRIP = 3.0, 40.0
#: Per cent of where a region may lie that it surely does not reach.
_GROUND = 20
#: Pixels about a click that tell its logit, and that belong to the region in any case.
_NEAR = 2
#: Deviation of the blur of the map, pixels.
_BLUR = 1.0


def region_at(
    logit: Singles,
    allowed: Mask,
    place: Place,
    *,
    level: float,
    areas: tuple[float, float],
) -> Mask:
    """The connected pixels about a click that look more like it than like their surroundings.

    Args:
        logit: float32 (H, W), of a window about the click.
        allowed: bool (H, W), where the region may lie; the click does.
        place: Row and column of the click.
        level: Where it ends, of the way from the surroundings' logit to the click's.
        areas: Least and largest area to expect, pixels, for which the level may change.
    """
    row, column = place
    smooth = cv2.GaussianBlur(logit, (0, 0), _BLUR)
    near = np.s_[
        max(0, row - _NEAR) : row + _NEAR + 1,
        max(0, column - _NEAR) : column + _NEAR + 1,
    ]
    top, low = (
        float(np.median(smooth[near])),
        float(np.percentile(smooth[allowed], _GROUND)),
    )

    def piece(index: int) -> Mask:
        inside = np.asarray(smooth > low + float(_LEVELS[index]) * (top - low), np.bool_)
        inside[near] = True
        return filled(piece_at(inside & allowed, place)) & allowed

    index = int(np.abs(_LEVELS - level).argmin())
    region = piece(index)
    while index > 0 and np.count_nonzero(region) < areas[0]:
        index -= 1
        region = piece(index)
    while index < len(_LEVELS) - 1 and np.count_nonzero(region) > areas[1]:
        index += 1
        region = piece(index)
    return region


def areas_of_error(correct: Mask, place: Place) -> tuple[float, float]:
    """Least and largest area to expect of an error that somebody points at the middle of.

    The error reaches about as far as what is right is away.

    Args:
        correct: bool (H, W), what lies beyond the error: objects of a missing part, and background
            of a false one. The click is not in it.
        place: Row and column of the click.
    """
    wrong = (~correct).view(np.uint8)
    depth = cv2.distanceTransform(wrong, cv2.DIST_L2, cv2.DIST_MASK_5)
    square = float(depth[place]) ** 2
    return _DISC * square, _STRIP * square


def piece_at(mask: Mask, place: Place) -> Mask:
    """The connected piece of a mask that holds a pixel of it."""
    _, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    return np.asarray(pieces == pieces[place], np.bool_)


def filled(mask: Mask) -> Mask:
    """A mask without holes."""
    around = cv2.copyMakeBorder((~mask).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2, np.bool_)
