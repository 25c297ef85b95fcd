"""Drawing the background on the canvas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import inlined, jit
from dvos.synthesis.kernels.packed import LANES, ONE, exposure, mix, pack

_1 = np.uint64(1)


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
    canvas: NDArray[np.uint32],
    top: int,
    left: int,
    background: NDArray[np.uint32],
    matrix: NDArray[np.float64],
    blur: NDArray[np.float64],
) -> None:
    """Fill a window of a frame from a background, mirrored beyond its borders.

    Args:
        canvas: Window (h, w) of RGBX words.
        top: Frame row of the window's first row.
        left: Frame column of the window's first column.
        background: Background frame (H, W) of RGBX words.
        matrix: (2, 3), frame (y, x, 1) to background (row, column).
        blur: (2,), path of the background during the exposure, in background pixels.
    """
    height, width = canvas.shape
    high, wide = background.shape
    pixels = background.reshape(-1)
    under = np.uint64(wide)
    step_r = int(np.floor(matrix[0, 1] * ONE + 0.5))
    step_c = int(np.floor(matrix[1, 1] * ONE + 0.5))
    shift, path_r, path_c = exposure(blur)
    samples = 1 << shift
    lead_r = (path_r * (samples - 1)) // 2
    lead_c = (path_c * (samples - 1)) // 2
    round_up = np.uint64((samples >> 1) * 0x0001000100010001)
    shift_by = np.uint64(shift)
    reach = 1 + int(max(abs(blur[0]), abs(blur[1])))
    for y in range(height):
        at_r = int(np.floor((matrix[0, 0] * (y + top) + matrix[0, 2]) * ONE))
        at_c = int(np.floor((matrix[1, 0] * (y + top) + matrix[1, 2]) * ONE))
        first_r = at_r + left * step_r
        last_r = at_r + (left + width - 1) * step_r
        first_c = at_c + left * step_c
        last_c = at_c + (left + width - 1) * step_c
        inside = (
            (min(first_r, last_r) >> 20) >= reach
            and (min(first_c, last_c) >> 20) >= reach
            and (max(first_r, last_r) >> 20) < high - 1 - reach
            and (max(first_c, last_c) >> 20) < wide - 1 - reach
        )
        if inside and samples == 1:
            for x in range(width):
                row = first_r + x * step_r
                column = first_c + x * step_c
                p = np.uint64((row >> 20) * wide + (column >> 20))
                q = p + under
                canvas[y, x] = pack(
                    mix(
                        pixels[p],
                        pixels[p + _1],
                        pixels[q],
                        pixels[q + _1],
                        row,
                        column,
                    )
                )
            continue
        for x in range(width):
            row = first_r + x * step_r - lead_r
            column = first_c + x * step_c - lead_c
            total = round_up
            for _ in range(samples):
                r = row >> 20
                c = column >> 20
                upper, lower, near, far = r, r + 1, c, c + 1
                if not inside:
                    upper, lower = _reflect(r, high), _reflect(r + 1, high)
                    near, far = _reflect(c, wide), _reflect(c + 1, wide)
                total += mix(
                    pixels[np.uint64(upper * wide + near)],
                    pixels[np.uint64(upper * wide + far)],
                    pixels[np.uint64(lower * wide + near)],
                    pixels[np.uint64(lower * wide + far)],
                    row,
                    column,
                )
                row += path_r
                column += path_c
            canvas[y, x] = pack((total >> shift_by) & LANES)


@jit
def draw_labels(
    owner: NDArray[np.int32],
    top: int,
    left: int,
    labels: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    first: int,
) -> None:
    """Fill a window of a frame with the numbers of the background's objects, nearest pixel.

    Args:
        owner: Receives (h, w): 0, or ``first`` plus the object's number.
        top: Frame row of the window's first row.
        left: Frame column of the window's first column.
        labels: Numbers (H, W) of the background's objects, 0 = none.
        matrix: (2, 3), frame (y, x, 1) to label (row, column).
        first: What is added to a number that is not 0.
    """
    height, width = owner.shape
    high, wide = labels.shape
    for y in range(height):
        for x in range(width):
            # Worked out for each pixel by itself: a window is the whole's, bit for bit.
            row = matrix[0, 0] * (y + top) + matrix[0, 1] * (x + left) + matrix[0, 2]
            column = matrix[1, 0] * (y + top) + matrix[1, 1] * (x + left) + matrix[1, 2]
            r = _reflect(int(np.floor(row + 0.5)), high)
            c = _reflect(int(np.floor(column + 0.5)), wide)
            value = np.int32(labels[r, c])
            owner[y, x] = 0 if value == 0 else value + first
