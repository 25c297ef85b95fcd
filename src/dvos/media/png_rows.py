"""Undoing the row filters of a PNG, compiled by numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit

__all__ = ["unfilter"]

Bytes = NDArray[np.uint8]


@jit
def _sub(stored: Bytes, line: Bytes, step: int) -> None:
    """Predicted from the left; ``stored`` and ``line`` begin with the row."""
    line[:step] = stored[:step]
    for i in range(step, line.shape[0]):
        line[i] = stored[i] + line[i - step]


@jit
def _up(stored: Bytes, above: Bytes, line: Bytes, start: int) -> None:
    """Predicted from above, from byte ``start`` on."""
    for i in range(start, line.shape[0]):
        line[i] = stored[i] + above[i]


@jit
def _average(stored: Bytes, above: Bytes, line: Bytes, step: int) -> None:
    """Predicted from the mean of left and above, rounded down."""
    for i in range(step):
        line[i] = stored[i] + above[i] // 2
    for i in range(step, line.shape[0]):
        line[i] = stored[i] + (np.int32(line[i - step]) + np.int32(above[i])) // 2


@jit
def _paeth(stored: Bytes, above: Bytes, line: Bytes, step: int) -> None:
    """Predicted from whichever of left, above and above left is closest to a + b - c."""
    for i in range(step):
        line[i] = stored[i] + above[i]
    for i in range(step, line.shape[0]):
        a, b, c = np.int32(line[i - step]), np.int32(above[i]), np.int32(above[i - step])
        to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        nearest = a
        if to_a > to_b or to_a > to_c:
            nearest = b if to_b <= to_c else c
        line[i] = stored[i] + nearest


@jit
def _row(kind: int, stored: Bytes, above: Bytes, line: Bytes, step: int, start: int) -> None:
    """Undo one row; ``kind`` is 0 to 4."""
    if kind == 0:
        line[start:] = stored[start : line.shape[0]]
    elif kind == 1:
        _sub(stored, line, step)
    elif kind == 2:
        _up(stored, above, line, start)
    elif kind == 3:
        _average(stored, above, line, step)
    else:
        _paeth(stored, above, line, step)


@jit
def unfilter(raw: Bytes, step: int, top: int, left: int, out: Bytes) -> bool:
    """Fill a window of the pixels of a PNG.

    Filters 0 to 4 of the PNG specification (third edition, section 9): a byte
    is stored less a prediction from the byte of the same sample to the left
    (a), above (b) and above to the left (c).

    Args:
        raw: uint8 (rows, 1 + bytes of a row), inflated; each row begins with
            its filter. The last row is the window's last.
        step: Bytes of a pixel.
        top: First row of the window.
        left: First byte of the window in a row.
        out: uint8 (height, bytes of the window's rows), filled.

    Returns:
        Whether all filters were known.
    """
    end = left + out.shape[1]
    # A row that is predicted from nothing above is where to begin.
    first = top
    while first > 0 and raw[first, 0] > 1:
        first -= 1
    if raw[first:, 0].max() > 4:
        return False
    # Where no byte is predicted from the left, what lies there does not matter.
    start = left
    for row in range(first, raw.shape[0]):
        if raw[row, 0] != 0 and raw[row, 0] != 2:
            start = 0
    above = np.zeros(end, np.uint8)
    line = np.zeros(end, np.uint8)
    for row in range(first, raw.shape[0]):
        _row(raw[row, 0], raw[row, 1:], above, line, step, start)
        if row >= top:
            out[row - top] = line[left:end]
        above, line = line, above
    return True
