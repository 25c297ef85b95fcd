"""Resizing on a device as OpenCV does it on the host.

Averages over areas are two products of matrices, for rows and columns, whose weights are the shares
of each old pixel in each new one: exact, and quicker on a device than any gathering.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Levels of a probability that is kept in 16 bits.
LEVELS = 2**16 - 1


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) times a factor, in whole pixels, at least one; as ``media.image.resized``."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resized_planes(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames at another size, as :func:`dvos.media.image.resized` makes them.

    By areas to shrink, bilinearly to grow. Values (B, C, H, W), whole levels 0..255, are rounded
    again, and differ from OpenCV's by one level at most, where that rounds otherwise.
    """
    height, width = planes.shape[-2:]
    if (height, width) == size:
        return planes
    if height > size[0] or width > size[1]:
        rows = _shares(height, size[0], planes.device)
        columns = _shares(width, size[1], planes.device)
        # In full float32, also inside autocast.
        with torch.autocast(planes.device.type, enabled=False):
            found = rows @ (planes @ columns.T)
        if (height, width) == (2 * size[0], 2 * size[1]):
            # Of four pixels OpenCV takes (sum + 2) >> 2, which rounds a half up.
            found = (found + 0.5).floor()
    else:
        found = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return found.round().clamp(0, 255)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps float32 (B, h, w) at another size, bilinearly, as ``cv2.INTER_LINEAR`` does."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def to_levels(probability: Tensor) -> Tensor:
    """Probabilities in 0..1 as one of 65,536 levels: int16 whose bits are those of the uint16."""
    return (probability * LEVELS).round().to(torch.int32).to(torch.int16)


@lru_cache(maxsize=16)
def _shares(old: int, new: int, device: torch.device) -> Tensor:
    """Share of each old pixel in each new one along an axis, float32 (new, old); rows add to 1."""
    step = old / new
    edges = torch.arange(new, dtype=torch.float64)[:, None] * step
    pixels = torch.arange(old, dtype=torch.float64)
    covered = torch.minimum(edges + step, pixels + 1) - torch.maximum(edges, pixels)
    shares = covered.clamp_min(0)
    return (shares / shares.sum(1, keepdim=True)).float().to(device)
