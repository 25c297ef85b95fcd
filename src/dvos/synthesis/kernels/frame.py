"""What is done to whole frames: the background, light, noise; areas and boxes of the instances."""

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import inlined, jit
from dvos.synthesis import Bytes, Floats, Ids, Ints, Ints32, Words
from dvos.synthesis.kernels.packed import LANES, ONE, exposure, mix, pack

_1, _12, _24, _27, _30, _31, _BELOW = map(np.uint64, (1, 12, 24, 27, 30, 31, 4095))
_STRIDE, _MIX1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_LEAST, _MOST, _HALF, _UNIT = map(np.int64, (0, 255, 65536, 131072))


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
                row = first_r + x * step_r
                column = first_c + x * step_c
                p = np.uint64((row >> 20) * wide + (column >> 20))
                q = p + under
                mixed = mix(pixels[p], pixels[p + _1], pixels[q], pixels[q + _1], row, column)
                canvas[y, x] = pack(mixed)
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
            # One cell of the light at a time, along which gains run straight.
            j = (start + left) >> 5
            stop = min(width, ((j + 1) << 5) - left)
            if lit:
                # Along the row from the cell's left edge to its right; 131072 = one.
                right = np.int64((start + left) & 31)
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
                box[number, 0], box[number, 2], box[number, 3] = y, start, x
            area[number] += x - start
            box[number, 1] = y + 1
            box[number, 2] = min(box[number, 2], start)
            box[number, 3] = max(box[number, 3], x)
