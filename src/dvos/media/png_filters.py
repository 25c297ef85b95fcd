"""The filters of a PNG's rows (specification, third edition, section 9), undone; compiled.

A byte is stored less a prediction from those of the same sample to the left, above, and above to
the left, so that a row alone goes byte by byte. Here some rows go side by side, each one pixel
behind the row above it: a step of all of them is a loop without order, which becomes vector
instructions.
"""

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]

#: Rows side by side, and steps of theirs that stay in the processor's first cache.
_ROWS, _STEPS = 16, 128


@jit
def undo_filters(raw: Bytes, step: int, top: int, left: int, out: Bytes) -> bool:
    """Fill a window of the pixels of a PNG and say whether all filters are known.

    ``raw`` holds the inflated rows (rows, 1 + bytes of a row) down to the window's last, each
    behind its filter; a pixel has ``step`` bytes, ``left`` is the window's first byte of a row. A
    whole picture may be filled into where ``raw`` begins: its rows come before those yet to read.
    """
    end = left + out.shape[1]
    first = _first_row(raw, top)
    if raw[first:, 0].max() > 4:
        return False
    width, lanes = -(-end // step), _ROWS * step
    # What is found by step, behind the pixels of the row above all; what is stored there.
    found = np.zeros((2 + _STEPS, step + lanes), np.int32)
    stored = np.zeros((_STEPS, lanes), np.int32)
    above, line = np.zeros(width * step, np.uint8), np.zeros(width * step, np.uint8)
    for begin in range(first, raw.shape[0], _ROWS):
        # What is filled in may lie over the ends of these rows.
        rows = raw[begin : begin + _ROWS].copy()
        filters = np.zeros((5, lanes), np.int32)
        for k in range(len(rows)):
            filters[rows[k, 0], k * step : (k + 1) * step] = -1
        # Before a row's first pixel all is zero.
        found[:2], stored[:_ROWS] = 0, 0
        for start in range(0, width + _ROWS - 1, _STEPS):
            stop = min(start + _STEPS, width + _ROWS - 1)
            _lay_out(rows, above, step, start, stop, stored, found)
            for t in range(stop - start):
                before, last, now = found[t], found[t + 1], found[t + 2, step:]
                _undo(last[step:], last[:lanes], before[:lanes], stored[t], filters, now)
            for k in range(len(rows)):
                low, high = max(start, k), min(stop, width + k)
                for sample in range(step):
                    for t in range(low, high):
                        value = found[t - start + 2, (k + 1) * step + sample]
                        line[(t - k) * step + sample] = value
                low, high = max(left, (low - k) * step), min(end, (high - k) * step)
                if begin + k >= top and low < high:
                    out[begin + k - top, low - left : high - left] = line[low:high]
            found[0], found[1] = found[stop - start], found[stop - start + 1]
        above, line = line, above
    return True


@jit
def _first_row(raw: Bytes, top: int) -> int:
    """Where to begin: a row that is predicted from nothing above."""
    while top > 0 and raw[top, 0] > 1:
        top -= 1
    return top


@jit
def _lay_out(
    rows: Bytes, above: Bytes, step: int, start: int, stop: int, stored: Ints, found: Ints
) -> None:
    """What steps from ``start`` to ``stop`` are to take of rows and of the row above all."""
    width = len(above) // step
    for sample in range(step):
        for t in range(start, min(stop, width)):
            found[t - start + 1, sample] = above[t * step + sample]
        for k in range(len(rows)):
            for t in range(max(start, k), min(stop, width + k)):
                stored[t - start, k * step + sample] = rows[k, 1 + (t - k) * step + sample]


@jit
def _undo(left: Ints, above: Ints, corner: Ints, stored: Ints, filters: Ints, out: Ints) -> None:
    """A step; ``filters`` (5, N) has all bits set where a byte has filter 0, 1, 2, 3, 4."""
    for i in range(out.shape[0]):
        a, b, c = left[i], above[i], corner[i]
        to_a, to_b = np.int32(b - c), np.int32(a - c)
        to_c = np.int32(abs(np.int32(to_a + to_b)))
        to_a, to_b = np.int32(abs(to_a)), np.int32(abs(to_b))
        # Whichever of the three is closest to a + b - c.
        nearest = b if to_b <= to_c else c
        nearest = a if (to_a <= to_b) & (to_a <= to_c) else nearest
        mean = np.int32(np.int32(a + b) >> 1)
        before = (a & filters[1, i]) | (b & filters[2, i])
        behind = (mean & filters[3, i]) | (nearest & filters[4, i])
        out[i] = np.int32((stored[i] + np.int32(before | behind)) & 255)
