"""Four colour lanes of 16 bits in one 64-bit word, and fixed-point coordinates.

A pixel or texel is a ``uint32``: R, G, B and A (premultiplied; unused on the
canvas), in memory order on a little-endian machine. To compute with it, it is
spread over a ``uint64`` with 16 bits for each channel, in the order R, B, G, A
that takes the fewest steps. One multiplication by a weight of at most 256 then
weighs all four channels (255 * 256 fits a lane), and four of them make a
bilinear sample. Coordinates in a texture have 20 fraction bits.

Numba keeps compiled kernels by the date of their own file: after a change
here, the ``*.nbi`` files beside the kernels have to go.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import inlined, jit

__all__ = ["LANES", "ONE", "blend", "exposure", "mix", "pack", "span", "spread", "within"]

#: One texel in fixed point.
ONE = float(1 << 20)
#: The bits that lanes hold.
LANES = np.uint64(0x00FF00FF00FF00FF)
_HALVES = np.uint64(0x0080008000800080)
_WORD = np.uint64(0xFFFFFFFF)
_7 = np.uint64(7)
_8 = np.uint64(8)
_24 = np.uint64(24)
_256 = np.uint64(256)


@inlined
def spread(word: np.uint32) -> np.uint64:
    """Four bytes to four 16-bit lanes."""
    lanes = np.uint64(word)
    return (lanes | (lanes << _24)) & LANES


@inlined
def pack(lanes: np.uint64) -> np.uint32:
    """Four 16-bit lanes, each at most 255, to four bytes."""
    return np.uint32((lanes | (lanes >> _24)) & _WORD)


@inlined
def mix(
    upper_near: np.uint32,
    upper_far: np.uint32,
    lower_near: np.uint32,
    lower_far: np.uint32,
    row: int,
    column: int,
) -> np.uint64:
    """Bilinear mean of four words by the fractions of (row, column)."""
    wr = (row >> 12) & 255
    wc = (column >> 12) & 255
    both = (wr * wc) >> 8
    mixed = (
        spread(upper_near) * np.uint64(256 - wr - wc + both)
        + spread(upper_far) * np.uint64(wc - both)
        + spread(lower_near) * np.uint64(wr - both)
        + spread(lower_far) * np.uint64(both)
    )
    return ((mixed + _HALVES) >> _8) & LANES


@inlined
def within(height: int, width: int, row: int, column: int) -> bool:
    """Whether a bilinear sample at (row, column) lies in the texture."""
    # One comparison for both ends: a negative number is a huge unsigned one.
    return bool(
        (np.uint64(row >> 20) < np.uint64(height - 1))
        & (np.uint64(column >> 20) < np.uint64(width - 1))
    )


@inlined
def blend(under: np.uint32, over: np.uint64, alpha: np.uint64) -> np.uint32:
    """Premultiplied ``over`` on ``under``; alpha 255 hides wholly."""
    keep = _256 - (alpha + (alpha >> _7))
    return pack(over + (((spread(under) * keep + _HALVES) >> _8) & LANES))


@inlined
def span(
    slope: float, start: float, low: float, high: float, first: int, last: int
) -> tuple[int, int]:
    """Whole x of [first, last) with low < slope * x + start < high."""
    if abs(slope) < 1e-9:
        if low < start < high:
            return first, last
        return first, first
    near = (low - start) / slope
    far = (high - start) / slope
    if near > far:
        near, far = far, near
    if far < first or near > last:
        return first, first
    return max(first, int(np.ceil(max(near, -1e6)))), min(last, int(np.floor(min(far, 1e6))) + 1)


@jit
def exposure(blur: NDArray[np.float64]) -> tuple[int, int, int]:
    """Samples of a path in texels: log2 of their number, fixed-point steps."""
    length = max(abs(blur[0]), abs(blur[1]))
    shift = 0 if length < 1 else (1 if length < 2.5 else (2 if length < 6 else 3))
    return shift, int(np.floor(blur[0] * ONE)) >> shift, int(np.floor(blur[1] * ONE)) >> shift
