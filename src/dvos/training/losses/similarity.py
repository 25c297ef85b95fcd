"""Structural similarity of images at several scales (MS-SSIM).

Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality
assessment" (Asilomar 2003, doi:10.1109/ACSSC.2003.1292216). With local means
m, variances v and the covariance c of two images under a Gaussian window of
11 x 11 pixels and deviation 1.5,

    luminance l = (2 m1 m2 + C1) / (m1^2 + m2^2 + C1)
    structure s = (2 c + C2) / (v1 + v2 + C2)

(contrast and structure of the paper in one) with C1 = 0.01^2 and C2 = 0.03^2
for colours 0..1. The images are halved by averaging 2 x 2 pixels from scale to
scale. MS-SSIM is the product over the scales of the mean of s, at the coarsest
one the mean of l s, over the places where the window fits, each to the power
of the scale's weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ms_ssim", "scales_of"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
_DEVIATION = 1.5
_C1 = 0.01**2
_C2 = 0.03**2

#: A mean may be negative, of which there is no real power. Below this it is
#: taken for this, so that one scale cannot take the gradient from the others.
_LEAST = 1e-4


def scales_of(height: int, width: int) -> int:
    """How many scales images of a size have: as many as the window fits into, at most 5.

    Five need sides of 176 pixels and more. Images under 11 pixels have one
    scale, with a window as large as their shorter side.
    """
    scales = 1
    while scales < len(_WEIGHTS) and min(height, width) >> scales >= _WINDOW:
        scales += 1
    return scales


def ms_ssim(one: Tensor, other: Tensor) -> Tensor:
    """MS-SSIM of each pair of images.

    Where images are too small for five scales the weights of those they have
    are scaled to the sum of all five (1.0001 as published).

    Args:
        one: float32 (B, C, H, W), colours 0..1; values beyond are allowed.
        other: Likewise.

    Returns:
        (B,), the mean over channels: 1 for equal images, else less.
    """
    scales = scales_of(one.shape[-2], one.shape[-1])
    scale_up = sum(_WEIGHTS) / sum(_WEIGHTS[:scales])
    product = one.new_ones(one.shape[:2])
    for scale in range(scales):
        if scale:
            one, other = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2)
        similarity = _similarity(one, other, luminance=scale == scales - 1)
        product = product * similarity.clamp_min(_LEAST) ** (_WEIGHTS[scale] * scale_up)
    return product.mean(1)


def _similarity(one: Tensor, other: Tensor, *, luminance: bool) -> Tensor:
    """Mean structure, or structure times luminance, of (B, C, H, W) images: (B, C)."""
    moments = torch.cat([one, other, one * one, other * other, one * other])
    m1, m2, square1, square2, both = _blurred(moments).chunk(5)
    variances = (square1 - m1**2) + (square2 - m2**2)
    places = (2 * (both - m1 * m2) + _C2) / (variances + _C2)
    if luminance:
        places = places * (2 * m1 * m2 + _C1) / (m1**2 + m2**2 + _C1)
    return places.mean((-2, -1))


def _blurred(images: Tensor) -> Tensor:
    """(N, C, H, W) under the window, only where it fits."""
    count, channels, height, width = images.shape
    side = min(_WINDOW, height, width)
    places = torch.arange(side, dtype=torch.float32, device=images.device) - (side - 1) / 2
    line = torch.exp(-(places**2) / (2 * _DEVIATION**2))
    line = line / line.sum()
    planes = images.reshape(count * channels, 1, height, width)
    planes = F.conv2d(F.conv2d(planes, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))
    return planes.view(count, channels, *planes.shape[-2:])
