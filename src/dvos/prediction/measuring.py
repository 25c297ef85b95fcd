"""Inner loops of :func:`dvos.prediction.objects.find_objects`: what is summed over objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit

Doubles = NDArray[np.float64]


@jit
def sum_up(
    labels: NDArray[np.int32], probability: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], Doubles, Doubles, Doubles, NDArray[np.float32]]:
    """Sums over the pixels of each of ``count`` objects.

    Args:
        labels: (H, W), 0 background, objects from 1.
        probability: (H, W).
        count: N.

    Returns:
        Of each object (N,): pixels; means of column, row and probability; highest probability.
    """
    area = np.zeros(count, np.int64)
    x, y, total = np.zeros(count), np.zeros(count), np.zeros(count)
    highest = np.zeros(count, np.float32)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            n = labels[i, j] - 1
            if n < 0:
                continue
            area[n] += 1
            x[n] += j
            y[n] += i
            total[n] += probability[i, j]
            if probability[i, j] > highest[n]:
                highest[n] = probability[i, j]
    for n in range(count):
        if area[n] > 0:
            x[n] /= area[n]
            y[n] /= area[n]
            total[n] /= area[n]
    return area, x, y, total, highest


@jit
def spread_out(
    labels: NDArray[np.int32], area: NDArray[np.int64], x: Doubles, y: Doubles
) -> tuple[Doubles, Doubles, Doubles]:
    """Second central moments of the pixels' middles of each object: xx, yy and xy, (N,) each.

    Args:
        labels: (H, W), 0 background, objects from 1.
        area: (N,), pixels.
        x: (N,), mean column.
        y: (N,), mean row.
    """
    count = len(area)
    xx, yy, xy = np.zeros(count), np.zeros(count), np.zeros(count)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            n = labels[i, j] - 1
            if n < 0:
                continue
            across, down = j - x[n], i - y[n]
            xx[n] += across * across
            yy[n] += down * down
            xy[n] += across * down
    for n in range(count):
        if area[n] > 0:
            xx[n] /= area[n]
            yy[n] /= area[n]
            xy[n] /= area[n]
    return xx, yy, xy
