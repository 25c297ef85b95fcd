"""Telling the objects of a semantic mask apart where they touch or overlap."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.media.mask import cut_by_edge

#: Two centres are at least this share of an object's width apart.
_APART = 0.5
#: Of the width, deviation of the blur that takes the steps out of a drawn edge.
_BLUR = 0.1
_SMALLEST_BLUR = 0.3
#: Most that the width taken departs from what the mask shows, as a factor: crops filmed from afar.
DEPARTURE = 1.25
#: The smallest components, which together hold this share of a mask, do not tell a width.
_SPECKS = 0.05
#: Of the usual area of an object; a component below that is a scrap.
_SCRAP = 0.1

_SQUARE = np.ones((3, 3), np.uint8)


def split_mask(
    mask: NDArray[np.bool_],
    *,
    minimum_area: int = 0,
    width: float | None = None,
    area: float | None = None,
) -> NDArray[np.int32]:
    """Number the objects of a mask, bool (H, W), from 1, touching ones apart; 0 is background.

    An object is a maximum of the distance to the background, blurred a little, that no higher one
    lies near; a pixel belongs to the maximum that the steepest way up leads to (watershed by
    ascent, as Meyer 1994 defines it). How near is near is told by the usual width of an object in
    pixels: that given, as of :func:`inner_width`, as far as it does not depart much from the median
    of the mask's components. Of these are left out those of fewer pixels than ``minimum_area``, and
    those that the frame's edge does not cut below a tenth of the usual area for that width.
    """
    count, components = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    # Several times as fast as having OpenCV measure the components.
    areas = np.bincount(components.ravel()[np.flatnonzero(mask)], minlength=count)
    kept = _without(mask, components, areas < minimum_area)
    distance = _distance(kept)
    if not kept.any():
        return np.zeros(mask.shape, np.int32)
    highest = np.zeros(count, np.float32)
    peaks = _peaks(distance, kept)
    np.maximum.at(highest, components.ravel()[peaks], distance.ravel()[peaks])
    order = np.argsort(areas, kind="stable")
    order = order[highest[order] > 0]
    below = np.cumsum(areas[order])
    seen = 2 * float(np.median(highest[order][below > _SPECKS * below[-1]]))
    taken = seen if width is None else min(max(width, seen / DEPARTURE), seen * DEPARTURE)
    if width is not None and area is not None:
        scraps = areas < _SCRAP * area * (taken / width) ** 2
        # Of what the frame's edge cuts any part may be seen.
        kept = _without(kept, components, scraps & ~cut_by_edge(components, count - 1))
        distance *= kept
    sigma = max(_SMALLEST_BLUR, _BLUR * taken)
    surface = cv2.GaussianBlur(distance, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    surface *= kept
    return _divide(surface, kept, components, taken)


def inner_width(mask: NDArray[np.bool_]) -> float:
    """Width of one object: the diameter of the largest disc in it, pixels."""
    return 2 * float(_distance(mask).max(initial=0.0))


def _without(
    mask: NDArray[np.bool_], components: NDArray[np.int32], left_out: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The mask without some of its components."""
    return np.asarray(mask & ~left_out[components]) if left_out[1:].any() else mask


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    # The frame's edge is background: a cut object is as wide as what is seen.
    bordered = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    found = cv2.distanceTransform(bordered, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    return np.ascontiguousarray(found, np.float32)


def _peaks(surface: NDArray[np.float32], kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Pixels that no neighbour exceeds, as places in the flat image."""
    return np.flatnonzero(kept & (surface >= cv2.dilate(surface, _SQUARE)))


def _divide(
    surface: NDArray[np.float32],
    kept: NDArray[np.bool_],
    components: NDArray[np.int32],
    width: float,
) -> NDArray[np.int32]:
    """Give each pixel the number of the centre that the steepest way up leads to."""
    places = np.flatnonzero(kept)
    component = components.ravel()[places]
    peaks = np.bincount(components.ravel()[_peaks(surface, kept)])
    # A component with one peak is one object, without a climb.
    single = np.flatnonzero(peaks == 1)
    numbers = np.zeros(len(peaks), np.int32)
    numbers[single] = np.arange(1, len(single) + 1)
    labels = np.zeros(kept.shape, np.int32)
    labels.ravel()[places] = numbers[component]
    places = places[numbers[component] == 0]
    if not places.size:
        return labels
    above = _steepest(surface, places)
    tops = places[above[places] == places]
    # A square window, as it is taken apart into rows and columns.
    reach = max(1, round(_APART * width))
    highest = cv2.dilate(surface, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    for top in tops[surface.ravel()[tops] < highest.ravel()[tops]].tolist():
        row, column = divmod(top, surface.shape[1])
        first, left = max(0, row - reach), max(0, column - reach)
        part = np.s_[first : row + reach + 1, left : column + reach + 1]
        near = np.where(components[part] == components[row, column], surface[part], 0)
        if near.max() > surface[row, column]:
            down, right = divmod(int(near.argmax()), near.shape[1])
            above[top] = (first + down) * surface.shape[1] + left + right
    reached = above[places]
    while not np.array_equal(higher := above[reached], reached):
        above[places] = reached = higher
    centres = tops[above[tops] == tops]
    # What led up there is no longer needed: the room is taken for the numbers.
    above[centres] = len(single) + np.arange(1, len(centres) + 1, dtype=np.int32)
    labels.ravel()[places] = above[reached]
    return labels


def _steepest(surface: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.int32]:
    """For each pixel (H * W,) of an object its highest neighbour or itself, the first of equals."""
    height, width = surface.shape
    above: NDArray[np.int32] = np.arange(height * width, dtype=np.int32)
    bordered = cv2.copyMakeBorder(surface, 1, 1, 1, 1, cv2.BORDER_CONSTANT).ravel()
    # Two more columns a row, and a row above, come with the border.
    inside = (places + 2 * (places // width) + width + 3).astype(np.int32)
    best, step = bordered[inside], np.zeros(len(places), np.int32)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            value = bordered[inside + (row * (width + 2) + column)]
            earlier = row < 0 or (row == 0 and column < 0)
            higher = value >= best if earlier else value > best
            np.copyto(best, value, where=higher)
            step[higher] = row * width + column
    above[places] += step
    return above
