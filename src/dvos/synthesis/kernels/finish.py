"""Last steps of a frame: light, noise, areas and boxes of the instances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import inlined, jit

_30 = np.uint64(30)
_27 = np.uint64(27)
_31 = np.uint64(31)
_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_12 = np.uint64(12)
_24 = np.uint64(24)
_BELOW = np.uint64(4095)
_LEAST = np.int64(0)
_MOST = np.int64(255)
_HALF = np.int64(65536)
_UNIT = np.int64(131072)


@inlined
def _gain(
    near: np.int64, far: np.int64, near2: np.int64, far2: np.int64, down: np.int64, right: np.int64
) -> tuple[np.int64, np.int64]:
    """Gain ``right`` px into a cell of light and its slope per px; 131072 = one."""
    start = near * (32 - down) + near2 * down
    slope = (far * (32 - down) + far2 * down - start) >> 5
    return start + slope * right, slope


@inlined
def _noisy(value: np.int64, normal: np.int16, deviation: np.int32) -> np.int64:
    """A grey level with noise."""
    added = (np.int64(normal) * np.int64(deviation) + np.int64(1 << 19)) >> 20
    return min(max(value + added, _LEAST), _MOST)


@jit
def finish_frame(
    canvas: NDArray[np.uint32],
    top: int,
    left: int,
    light: NDArray[np.int64],
    lit: bool,
    normal: NDArray[np.int16],
    spread_of: NDArray[np.int32],
    key: np.uint64,
    noisy: bool,
    image: NDArray[np.uint8],
) -> None:
    """Multiply by the light, add noise, write RGB bytes.

    The noise of a pixel is a function of ``key`` and the pixel's place in the
    frame (splitmix64; Steele, Lea and Flood 2014), so that a window holds the
    noise of the whole frame.

    Args:
        canvas: Window (h, w) of RGBX words.
        top: Frame row of the window's first row.
        left: Frame column of the window's first column.
        light: Gains on the corners of 32 px cells of the whole frame,
            (rows, columns, 3), 4096 = one.
        lit: Whether to apply them.
        normal: 4096 quantiles of a normal variable, 1024 = one.
        spread_of: Standard deviation for each grey level, 1024 = one level.
        key: Key of this frame's noise.
        noisy: Whether to add it.
        image: Receives (h, w, 3).
    """
    height, width = canvas.shape
    r_slope = g_slope = b_slope = np.int64(0)
    r_gain = g_gain = b_gain = _UNIT
    for y in range(height):
        i = (y + top) >> 5
        down = np.int64((y + top) & 31)
        start = 0
        while start < width:
            # One cell of the light at a time, along which gains run straight.
            j = (start + left) >> 5
            stop = min(width, ((j + 1) << 5) - left)
            if lit:
                right = np.int64((start + left) & 31)
                r_gain, r_slope = _gain(
                    light[i, j, 0],
                    light[i, j + 1, 0],
                    light[i + 1, j, 0],
                    light[i + 1, j + 1, 0],
                    down,
                    right,
                )
                g_gain, g_slope = _gain(
                    light[i, j, 1],
                    light[i, j + 1, 1],
                    light[i + 1, j, 1],
                    light[i + 1, j + 1, 1],
                    down,
                    right,
                )
                b_gain, b_slope = _gain(
                    light[i, j, 2],
                    light[i, j + 1, 2],
                    light[i + 1, j, 2],
                    light[i + 1, j + 1, 2],
                    down,
                    right,
                )
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
                image[y, x, 0] = r
                image[y, x, 1] = g
                image[y, x, 2] = b
            start = stop


@jit
def measure_owners(
    owner: NDArray[np.int32],
    identity: NDArray[np.uint16],
    instances: NDArray[np.uint16],
    area: NDArray[np.int64],
    box: NDArray[np.int32],
) -> None:
    """Look up the instance of each pixel's owner; measure what is visible.

    Args:
        owner: (h, w), sprite number + 1, 0 = background.
        identity: Per sprite (N,): its instance id, 0 = distractor.
        instances: Receives (h, w) ids.
        area: Per sprite (N,), receives visible pixels; zero on entry.
        box: Per sprite (N, 4), receives y0, y1, x0, x1 (ends excluded) of the
            visible pixels; zeros where there are none.
    """
    height, width = owner.shape
    for y in range(height):
        x = 0
        while x < width:
            # Pixels of one owner lie in runs, which are measured as one.
            number = owner[y, x] - 1
            start = x
            value = np.uint16(0) if number < 0 else identity[number]
            while x < width and owner[y, x] - 1 == number:
                instances[y, x] = value
                x += 1
            if number < 0:
                continue
            if area[number] == 0:
                box[number, 0] = y
                box[number, 2] = start
                box[number, 3] = x
            area[number] += x - start
            box[number, 1] = y + 1
            box[number, 2] = min(box[number, 2], start)
            box[number, 3] = max(box[number, 3], x)
