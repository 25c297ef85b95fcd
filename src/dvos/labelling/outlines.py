"""From logits to the outline of an object: what clicks, and the colours about it, say of it.

Arrays only; a place is a row and a column.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.labelling.features import Singles

Mask = NDArray[np.bool_]
Place = tuple[int, int]

#: Logit that a click has in the end, at least, and beyond which it does not take more to get there.
_TOLD, _SURE = 6.0, 4.0
#: Variance of the noise of a click, of what it says.
_NOISE = 0.05
#: Pixels about a click that belong to its region in any case.
_NEAR = 2
#: Deviation of the blur of logits, pixels.
_BLUR = 1.0
#: How often an outline is drawn anew by the colours on its two sides.
_ROUNDS = 3
#: Pixels to each side of an outline that tell no colours, as it may be wrong by them.
_RIM = 1
#: Pixels that tell colours, at least.
_FEW = 12
#: Least variance of a colour, and the most that colours say, a logit.
_NARROW, _MOST = 0.5, 8.0
#: Squared distance (Mahalanobis 1936) of two groups of colours below which they tell no outline:
#: one pixel in nine would be on the wrong side of it.
_APART = 6.0
_SQUARE = np.ones((3, 3), np.uint8)


def corrected(logit: Singles, clicks: dict[Place, bool], spread: float) -> Singles:
    """Logits, blurred, that agree with all clicks, each an object's or not.

    They are the mean of a Gaussian process about what the classifier tells, given the clicks that
    it gets wrong, or is not sure of (Rasmussen and Williams 2006, chapter 2.2).
    """
    smooth = np.clip(cv2.GaussianBlur(logit, (0, 0), _BLUR), -_SURE, _SURE)
    if not clicks:
        return np.asarray(smooth, np.float32)
    places, signs = np.array([*clicks]), np.where([*clicks.values()], 1.0, -1.0)
    amiss = signs * np.maximum(_TOLD - signs * smooth[tuple(places.T)], 0)
    rows, columns = (
        np.exp(-((np.arange(side) - at[:, None]) ** 2) / (2 * spread**2))
        for side, at in zip(logit.shape, places.T, strict=True)
    )
    near = rows[:, places[:, 0]] * columns[:, places[:, 1]]
    shares = np.linalg.solve(near + _NOISE * np.eye(len(places)), amiss)
    return np.asarray(smooth + (rows.T * shares) @ columns, np.float32)


def outlined(logit: Singles, colours: Singles, free: Mask, place: Place, reach: int) -> Mask:
    """The object at a place, where it is ``free``: its outline lies where the colours change.

    It begins with the connected pixels of a logit above 0; to that is added what the colours
    (H, W, 3) tell within it and, up to ``reach`` pixels, beside it.
    """
    mask = region_at(logit > 0, free, place)
    for _ in range(_ROUNDS):
        told = _by_colours(colours, mask, free, reach)
        if told is None:
            break
        mask = region_at(logit + told > 0, free, place)
    return mask


def _by_colours(colours: Singles, mask: Mask, free: Mask, reach: int) -> Singles | None:
    """The logit that each pixel's colour is the region's, not its surroundings'.

    A linear discriminant (Fisher 1936); None where the two differ too little.
    """
    own = mask.view(np.uint8)
    inside = cv2.erode(own, _SQUARE, iterations=_RIM) > 0
    rim = cv2.dilate(own, _SQUARE, iterations=_RIM + 1) > 0
    outside = (cv2.dilate(own, _SQUARE, iterations=reach) > 0) & ~rim & free
    groups = colours[inside], colours[outside]
    if min(map(len, groups)) < _FEW:
        return None
    first, second = (group.mean(0) for group in groups)
    scatter = sum(len(group) * np.cov(group.T) for group in groups)
    spread = scatter / sum(map(len, groups)) + _NARROW * np.eye(colours.shape[2])
    weights = np.linalg.solve(spread, first - second).astype(np.float32)
    if weights @ (first - second) < _APART:
        return None
    told = (colours - (first + second) / 2) @ weights
    return np.asarray(np.clip(told, -_MOST, _MOST), np.float32)


def region_at(inside: Mask, allowed: Mask, place: Place) -> Mask:
    """The connected pixels about a place, which lies where they are ``allowed``; no holes."""
    rows, columns = (slice(max(0, at - _NEAR), at + _NEAR + 1) for at in place)
    inside = inside.copy()
    inside[rows, columns] = True
    return _filled(piece_at(inside & allowed, place)) & allowed


def piece_at(mask: Mask, place: Place) -> Mask:
    """The connected piece of a mask that holds a pixel of it."""
    _, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    return np.asarray(pieces == pieces[place], np.bool_)


def _filled(mask: Mask) -> Mask:
    around = cv2.copyMakeBorder((~mask).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2, np.bool_)
