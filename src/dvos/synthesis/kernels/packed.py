"""Packed RGBA in fixed point: how it is computed with, and how cutouts are baked into it.

A pixel or texel is a ``uint32``: R, G, B and A (premultiplied; unused on the canvas), in memory
order on a little-endian machine. To compute with it, it is spread over a ``uint64`` with 16 bits
for each channel, in the order R, B, G, A that takes the fewest steps. One multiplication by a
weight of at most 256 then weighs all four channels (255 * 256 fits a lane), and four of them make a
bilinear sample. Coordinates in a texture have 20 fraction bits.

Numba keeps compiled kernels by the date of their own file: after a change
here, the ``*.nbi`` files beside the kernels have to go.
"""

from typing import NamedTuple

import numpy as np

from dvos.compiling import inlined, jit
from dvos.synthesis import Bytes, Floats, Ints, Words

#: One texel in fixed point.
ONE = float(1 << 20)
#: The bits that lanes hold.
LANES = np.uint64(0x00FF00FF00FF00FF)
_HALVES = np.uint64(0x0080008000800080)
_WORD = np.uint64(0xFFFFFFFF)
_7, _8, _24, _256 = map(np.uint64, (7, 8, 24, 256))


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
def exposure(blur: Floats) -> tuple[int, int, int]:
    """Samples of a path in texels: log2 of their number, fixed-point steps."""
    length = max(abs(blur[0]), abs(blur[1]))
    shift = 0 if length < 1 else (1 if length < 2.5 else (2 if length < 6 else 3))
    return shift, int(np.floor(blur[0] * ONE)) >> shift, int(np.floor(blur[1] * ONE)) >> shift


class Textures(NamedTuple):
    """What the sprites of a clip are drawn from; N sprites."""

    texels: Words  # R, G, B, A from the lowest byte, premultiplied
    place: Ints  # (N, 3): first texel, height, width
    shadows: Bytes  # 0..255 for each cell of 4 x 4 texels
    shadow_place: Ints  # (N, 3): first cell, height, width


@jit
def _channel(matrix: Ints, r: np.int64, g: np.int64, b: np.int64) -> np.int64:
    value = (matrix[0] * r + matrix[1] * g + matrix[2] * b + matrix[3] + 512) >> 10
    return np.int64(min(max(value, np.int64(0)), np.int64(255)))


@jit
def bake_textures(
    atlas: Bytes,  # (P, 4): R, G, B and 128 + 16 * distance inside the contour, in texels
    sprites: Ints,  # which to bake; all else is of all N
    source: Ints,  # (N,): first texel in the atlas
    colour: Ints,  # (N, 3, 4): colour matrix, 1024 = one
    feather: Floats,  # (N,): width of the soft edge, texels
    shrink: Floats,  # (N,): how far the edge moves inward, texels
    textures: Textures,  # receives the texels
) -> None:
    """Turn straight colours and contour distances into premultiplied texels."""
    alphas = np.empty(256, np.int64)
    texels = textures.texels
    for n in sprites:
        for level in range(256):
            soft = 0.5 + ((level - 128) / 16.0 - shrink[n]) / feather[n]
            alphas[level] = int(min(max(soft, 0.0), 1.0) * 255 + 0.5)
        alphas[0] = 0  # the border is transparent, however wide the feather
        start, (place, height, width) = source[n], textures.place[n]
        for i in range(height * width):
            alpha = alphas[atlas[start + i, 3]]
            if alpha == 0:
                texels[place + i] = np.uint32(0)
                continue
            red = np.int64(atlas[start + i, 0])
            green = np.int64(atlas[start + i, 1])
            blue = np.int64(atlas[start + i, 2])
            r = (_channel(colour[n, 0], red, green, blue) * alpha + 127) // 255
            g = (_channel(colour[n, 1], red, green, blue) * alpha + 127) // 255
            b = (_channel(colour[n, 2], red, green, blue) * alpha + 127) // 255
            texels[place + i] = np.uint32(r | (g << 8) | (b << 16) | (alpha << 24))


@jit
def _smooth(cells: Ints, lines: int, across: int, count: int, along: int, radius: int) -> None:
    """Box means of 2 * radius + 1 cells in place, along ``lines`` lines of ``count`` cells."""
    line = np.empty(count, np.int64)
    for first in range(0, lines * across, across):
        for k in range(count):
            line[k] = cells[first + k * along]
        for k in range(count):
            total = 0
            for near in range(max(k - radius, 0), min(k + radius + 1, count)):
                total += line[near]
            cells[first + k * along] = total // (2 * radius + 1)


@jit
def bake_shadows(textures: Textures, sprites: Ints, pad: int, radius: int) -> None:
    """Make the shadow of each of ``sprites``: its alpha in cells of 4 x 4 texels, smoothed twice.

    ``pad`` is the number of empty cells round it, ``radius`` that of the smoothing in cells.
    """
    for n in sprites:
        base, height, width = textures.place[n]
        first, rows, columns = textures.shadow_place[n]
        cells = np.zeros(rows * columns, np.int64)
        for r in range(height):
            for c in range(width):
                alpha = np.int64(textures.texels[base + r * width + c] >> np.uint32(24))
                cells[((r >> 2) + pad) * columns + (c >> 2) + pad] += alpha << 4
        for _ in range(2):
            _smooth(cells, rows, columns, columns, 1, radius)
            _smooth(cells, columns, 1, rows, columns, radius)
        for i in range(rows * columns):
            textures.shadows[first + i] = min(cells[i] >> 8, 255)
