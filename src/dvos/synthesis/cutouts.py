"""Preparing one cutout: a contour with a soft edge, colours that do not bleed.

A cutout's own alpha is hard: a pixel belongs or does not. What the atlas keeps
instead is the signed distance to the contour, so that each clip can draw the
edge as soft, and as far inward, as its settings say. Under the soft edge and
beyond it lie the object's own colours, carried outward from the nearest pixel
inside, so that no colour of the still it was cut from, and no black, shows.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["BORDER", "LEVELS", "prepare_cutout"]

#: Transparent pixels round a cutout on each level.
BORDER = 5

#: Sizes kept of each cutout: whole, half, quarter, eighth.
LEVELS = 4

_STEPS = 16.0  # steps of the stored distance per texel


def prepare_cutout(rgba: NDArray[np.uint8]) -> list[NDArray[np.uint8]] | None:
    """Make the levels of one cutout.

    Args:
        rgba: (H, W, 4); a pixel belongs to the object if its alpha is at
            least 128.

    Returns:
        ``LEVELS`` arrays (h, w, 4): straight R, G, B and 128 + 16 times the
        distance in texels inside the contour, clipped to 0..255; each half
        the size of the one before, with a border of ``BORDER``. None if no
        pixel belongs to the object.
    """
    padded = np.pad(rgba, [(BORDER, BORDER), (BORDER, BORDER), (0, 0)])
    inside = padded[..., 3] >= 128
    if not inside.any():
        return None
    distance = _signed_distance(inside)
    colour = _extended(padded[..., :3], inside)
    levels = [_packed(colour, distance)]
    coverage = np.clip(0.5 + distance, 0, 1)
    image = colour.astype(np.float32)
    for _ in range(LEVELS - 1):
        image, coverage, distance = _halved(image, coverage, distance)
        levels.append(_packed(np.clip(image + 0.5, 0, 255).astype(np.uint8), distance))
    return levels


def _signed_distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance to the contour in pixels, above 0 inside.

    The contour runs half-way between the outermost pixels inside and their
    neighbours; a slight smoothing takes the stairs out of it.
    """
    mask = inside.astype(np.uint8)
    within = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    without = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    signed = np.where(inside, within - 0.5, 0.5 - without).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(signed, (3, 3), 0.6), np.float32)


def _extended(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Colours carried outward: each pixel outside takes the nearest one's inside."""
    _, labels = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[inside]] = image[inside]
    carried = colours[labels]
    # Rays of single pixels would show under a wide feather: smoothed outside.
    smooth = cv2.blur(carried, (3, 3))
    return np.where(inside[..., None], image, smooth)


def _halved(
    image: NDArray[np.float32], coverage: NDArray[np.float32], distance: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The next level: 2 x 2 means, colours weighed by what they cover.

    Near the contour the distance is taken from the covered share, so that
    thin parts (awns) fade instead of vanishing at once.
    """
    height, width = coverage.shape
    core = (slice(BORDER, height - BORDER), slice(BORDER, width - BORDER))
    even = [(0, (height - 2 * BORDER) % 2), (0, (width - 2 * BORDER) % 2)]
    cover = _mean2(np.pad(coverage[core], even))
    depth = _mean2(np.pad(distance[core], even, constant_values=-8)) / 2
    weight = np.pad(coverage[core], even) + np.float32(1e-3)
    colour = np.pad(image[core], [*even, (0, 0)], mode="edge")
    colour = _mean2(colour * weight[..., None]) / _mean2(weight)[..., None]
    deep = np.where(cover > 0.5, np.maximum(depth, 0.5), np.minimum(depth, -0.5))
    depth = np.where((cover > 0) & (cover < 1), cover - np.float32(0.5), deep)
    around = [(BORDER, BORDER), (BORDER, BORDER)]
    # Beyond the core the distance falls off texel by texel.
    outside = np.pad(np.zeros_like(cover, np.uint8), around, constant_values=1)
    fall = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5)
    return (
        np.pad(colour, [*around, (0, 0)], mode="edge"),
        np.pad(cover, around),
        np.pad(depth, around, mode="edge") - fall,
    )


def _mean2(values: NDArray[np.float32]) -> NDArray[np.float32]:
    total = values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    return (total / 4).astype(np.float32)


def _packed(colour: NDArray[np.uint8], distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    depth = np.clip(np.rint(128 + _STEPS * distance), 1, 255).astype(np.uint8)
    # 0 marks the outermost texels: never drawn, however wide the feather.
    depth[0], depth[-1], depth[:, 0], depth[:, -1] = 0, 0, 0, 0
    return np.dstack([colour, depth])
