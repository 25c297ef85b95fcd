"""Packed RGBA in fixed point: how it is computed with, cutouts are baked into it, frames finished.

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
from numpy.typing import NDArray

from dvos.compiling import inlined, jit
from dvos.synthesis import Bytes, Floats, Ids, Ints, Ints32, Words

ONE = float(1 << 20)  # one texel in fixed point
LANES = np.uint64(0x00FF00FF00FF00FF)  # the bits that lanes hold
_HALVES = np.uint64(0x0080008000800080)
_WORD = np.uint64(0xFFFFFFFF)
_7, _8, _24, _256 = map(np.uint64, (7, 8, 24, 256))
_1, _12, _27, _30, _31, _BELOW = map(np.uint64, (1, 12, 27, 30, 31, 4095))
_STRIDE, _MIX1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_LEAST, _MOST, _HALF, _UNIT = map(np.int64, (0, 255, 65536, 131072))


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


Exposure = tuple[int, int, int, int, int, np.uint64, np.uint64]


@jit
def exposure(blur: Floats) -> Exposure:
    """Samples of a path in texels: their number, and fixed-point steps and lead of the first.

    Then what is added to the sum of all, and by how many bits it is shifted.
    """
    length = max(abs(blur[0]), abs(blur[1]))
    shift = 0 if length < 1 else (1 if length < 2.5 else (2 if length < 6 else 3))
    more = (1 << shift) - 1
    row, column = int(np.floor(blur[0] * ONE)) >> shift, int(np.floor(blur[1] * ONE)) >> shift
    half = np.uint64(((more + 1) >> 1) * 0x0001000100010001)
    return more + 1, row, column, row * more // 2, column * more // 2, half, np.uint64(shift)


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


@inlined
def _reflect(index: int, size: int) -> int:
    """Index of a row of ``size`` pixels that mirrors at its ends (edge not doubled)."""
    if size == 1:
        return 0
    period = 2 * (size - 1)
    index %= period
    return index if index < size else period - index


@jit
def draw_background(
    canvas: Words,  # Window (h, w) of RGBX words
    corner: tuple[int, int],  # row and column of the frame at which it begins
    background: Words,  # Background frame (H, W) of RGBX words
    matrix: Floats,  # (2, 3), frame (y, x, 1) to background (row, column)
    blur: Floats,  # (2,), path during the exposure, in background pixels
) -> None:
    """Fill a window of a frame from a background, mirrored beyond its borders."""
    (height, width), (high, wide), (top, left) = canvas.shape, background.shape, corner
    pixels, under = background.reshape(-1), np.uint64(wide)
    step_r = int(np.floor(matrix[0, 1] * ONE + 0.5))
    step_c = int(np.floor(matrix[1, 1] * ONE + 0.5))
    samples, path_r, path_c, lead_r, lead_c, half, by = exposure(blur)
    reach = 1 + int(max(abs(blur[0]), abs(blur[1])))
    for y in range(height):
        at_r = int(np.floor((matrix[0, 0] * (y + top) + matrix[0, 2]) * ONE))
        at_c = int(np.floor((matrix[1, 0] * (y + top) + matrix[1, 2]) * ONE))
        first_r, last_r = at_r + left * step_r, at_r + (left + width - 1) * step_r
        first_c, last_c = at_c + left * step_c, at_c + (left + width - 1) * step_c
        inside = (
            (min(first_r, last_r) >> 20) >= reach
            and (min(first_c, last_c) >> 20) >= reach
            and (max(first_r, last_r) >> 20) < high - 1 - reach
            and (max(first_c, last_c) >> 20) < wide - 1 - reach
        )
        if inside and samples == 1:
            for x in range(width):
                row, column = first_r + x * step_r, first_c + x * step_c
                p = np.uint64((row >> 20) * wide + (column >> 20))
                q = p + under
                mixed = mix(pixels[p], pixels[p + _1], pixels[q], pixels[q + _1], row, column)
                canvas[y, x] = pack(mixed)
            continue
        for x in range(width):
            row = first_r + x * step_r - lead_r
            column = first_c + x * step_c - lead_c
            total = half
            for _ in range(samples):
                r = row >> 20
                c = column >> 20
                upper, lower, near, far = r, r + 1, c, c + 1
                if not inside:
                    upper, lower = _reflect(r, high), _reflect(r + 1, high)
                    near, far = _reflect(c, wide), _reflect(c + 1, wide)
                n, f = np.uint64(near), np.uint64(far)
                a, b = np.uint64(upper * wide), np.uint64(lower * wide)
                words = pixels[a + n], pixels[a + f], pixels[b + n], pixels[b + f]
                total += mix(*words, row, column)
                row += path_r
                column += path_c
            canvas[y, x] = pack((total >> by) & LANES)


@jit
def draw_labels(
    owner: Ints32,  # Receives (h, w): 0, or ``first`` plus the object's number
    corner: tuple[int, int],  # row and column of the frame at which it begins
    labels: Ids,  # Numbers (H, W) of the background's objects, 0 = none
    matrix: Floats,  # (2, 3), frame (y, x, 1) to label (row, column)
    first: int,  # What is added to a number that is not 0
) -> None:
    """Fill a window of a frame with the numbers of the background's objects, nearest pixel."""
    (height, width), (high, wide), (top, left) = owner.shape, labels.shape, corner
    for y in range(height):
        for x in range(width):
            # Worked out for each pixel by itself: a window is the whole's, bit for bit.
            row = matrix[0, 0] * (y + top) + matrix[0, 1] * (x + left) + matrix[0, 2]
            column = matrix[1, 0] * (y + top) + matrix[1, 1] * (x + left) + matrix[1, 2]
            r = _reflect(int(np.floor(row + 0.5)), high)
            c = _reflect(int(np.floor(column + 0.5)), wide)
            value = np.int32(labels[r, c])
            owner[y, x] = 0 if value == 0 else value + first


@inlined
def _noisy(value: np.int64, normal: np.int16, deviation: np.int32) -> np.int64:
    """A grey level with noise."""
    added = (np.int64(normal) * np.int64(deviation) + np.int64(1 << 19)) >> 20
    return min(max(value + added, _LEAST), _MOST)


@jit
def finish_frame(
    canvas: Words,  # Window (h, w) of RGBX words
    corner: tuple[int, int],  # row and column of the frame at which it begins
    light: Ints,  # (rows, columns, 3) gains on the corners of 32 px cells of the frame, 4096 = one
    lit: bool,  # Whether to apply them
    normal: NDArray[np.int16],  # 4096 quantiles of a normal variable, 1024 = one
    spread_of: Ints32,  # Standard deviation for each grey level, 1024 = one level
    key: np.uint64,  # Key of this frame's noise
    noisy: bool,  # Whether to add it
    image: Bytes,  # Receives (h, w, 3)
) -> None:
    """Multiply by the light, add noise, write RGB bytes.

    The noise of a pixel is a function of ``key`` and the pixel's place in the frame (splitmix64;
    Steele, Lea and Flood 2014), so that a window holds the noise of the whole frame.
    """
    (height, width), (top, left) = canvas.shape, corner
    r_slope = g_slope = b_slope = np.int64(0)
    r_gain = g_gain = b_gain = _UNIT
    edge = np.empty((light.shape[1], 3), np.int64)
    for y in range(height):
        i = (y + top) >> 5
        down = np.int64((y + top) & 31)
        for j in range(left >> 5, ((left + width - 1) >> 5) + 2 if lit else 0):
            for k in range(3):
                edge[j, k] = light[i, j, k] * (32 - down) + light[i + 1, j, k] * down
        start = 0
        while start < width:
            j = (start + left) >> 5  # a cell of the light at a time, along which gains run straight
            stop = min(width, ((j + 1) << 5) - left)
            if lit:
                right = np.int64((start + left) & 31)  # from the cell's left edge; 131072 = one
                r_slope = (edge[j + 1, 0] - edge[j, 0]) >> 5
                g_slope = (edge[j + 1, 1] - edge[j, 1]) >> 5
                b_slope = (edge[j + 1, 2] - edge[j, 2]) >> 5
                r_gain = edge[j, 0] + r_slope * right
                g_gain = edge[j, 1] + g_slope * right
                b_gain = edge[j, 2] + b_slope * right
            for x in range(start, stop):
                word = np.int64(canvas[y, x])
                r, g, b = word & 255, (word >> 8) & 255, (word >> 16) & 255
                if lit:
                    r = min((r * r_gain + _HALF) >> 17, _MOST)
                    g = min((g * g_gain + _HALF) >> 17, _MOST)
                    b = min((b * b_gain + _HALF) >> 17, _MOST)
                    r_gain += r_slope
                    g_gain += g_slope
                    b_gain += b_slope
                if noisy:
                    z = key + np.uint64(((y + top) << 20) + x + left) * _STRIDE
                    z = (z ^ (z >> _30)) * _MIX1
                    z = (z ^ (z >> _27)) * _MIX2
                    z ^= z >> _31
                    r = _noisy(r, normal[z & _BELOW], spread_of[r])
                    g = _noisy(g, normal[(z >> _12) & _BELOW], spread_of[g])
                    b = _noisy(b, normal[(z >> _24) & _BELOW], spread_of[b])
                image[y, x, 0], image[y, x, 1], image[y, x, 2] = r, g, b
            start = stop


@jit
def measure_owners(
    owner: Ints32,  # (h, w), sprite number + 1, 0 = background
    identity: Ids,  # Per sprite (N,): its instance id, 0 = distractor
    instances: Ids,  # Receives (h, w) ids
    area: Ints,  # Per sprite (N,), receives visible pixels; zero on entry
    box: Ints32,  # (N, 4), receives y0, y1, x0, x1, ends excluded, of the visible pixels, or zeros
) -> None:
    """Look up the instance of each pixel's owner; measure what is visible."""
    height, width = owner.shape
    for y in range(height):
        x = 0
        while x < width:
            number = owner[y, x] - 1  # runs of pixels of one owner are measured as one
            start = x
            value = np.uint16(0) if number < 0 else identity[number]
            while x < width and owner[y, x] - 1 == number:
                instances[y, x] = value
                x += 1
            if number < 0:
                continue
            if area[number] == 0:
                box[number, 0], box[number, 2], box[number, 3] = y, start, x
            area[number] += x - start
            box[number, 1] = y + 1
            box[number, 2] = min(box[number, 2], start)
            box[number, 3] = max(box[number, 3], x)
