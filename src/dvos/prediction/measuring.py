"""Inner loop of :func:`dvos.prediction.objects.find_objects`: what is summed over objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit


@jit
def sum_up(
    labels: NDArray[np.int32], probability: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Sums over the pixels of each of N objects, whose labels begin at 1.

    Gives pixels and the sums of x, y, x * x, y * y, x * y and probability, (7, N); and the highest
    probability (N,).
    """
    sums = np.zeros((7, count))
    highest = np.zeros(count, np.float32)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            n = labels[i, j] - 1
            if n < 0:
                continue
            p = probability[i, j]
            sums[0, n] += 1
            sums[1, n] += j
            sums[2, n] += i
            sums[3, n] += j * j
            sums[4, n] += i * i
            sums[5, n] += i * j
            sums[6, n] += p
            highest[n] = max(highest[n], p)
    return sums, highest
