"""How far counts are to be expected from the truth, learnt from few examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvos.media.splitting import split_mask

__all__ = ["FEWEST", "learn_dispersion", "mask_counts", "widened"]

#: Examples that it takes to tell a spread.
FEWEST = 3
#: Smaller objects, in pixels, are scraps that others leave free.
_SMALLEST = 30
#: Of a standard normal variable: the 97.5 % point.
_NORMAL = 1.959964
#: Beyond so many deviations an example does not pull further: one failed
#: scene of eight must not stand for all.
_CAP = 2.0
# Mean of the squares of a standard normal variable that are cut off there.
_CAPPED_SQUARE = 0.92053
_HALVINGS = 50


def mask_counts(
    found: NDArray[np.bool_], true: NDArray[np.bool_], *, width: float, area: float
) -> tuple[int, int]:
    """Numbers of objects told apart in a network's mask and in the true one, bool (H, W).

    Args:
        found: The network's.
        true: Of the same frame.
        width: Usual width of an object, pixels.
        area: Usual area likewise. What is small beside it is left out of the
            network's mask, as when counting; the truth is taken whole.
    """
    counted = split_mask(found, minimum_area=_SMALLEST, width=width, area=area).count
    return counted, split_mask(true, minimum_area=_SMALLEST, width=width).count


def learn_dispersion(counts: Sequence[tuple[int, int]]) -> float | None:
    """Variance of counts by a network's masks about the truth, for each object counted.

    Objects made up or missed here and there add up as events do, so that the
    variance grows with the count. ``(found - true)**2 / (found + 1)`` has the
    dispersion as its mean; it is estimated with squares cut off at two
    deviations (Huber's proposal 2, 1964).

    Args:
        counts: Found and true number of objects of each frame.

    Returns:
        None for fewer than three frames.
    """
    if len(counts) < FEWEST:
        return None
    found, true = np.array(counts, np.float64).T
    squares = (found - true) ** 2 / (found + 1)
    low, high = 0.0, float(squares.max()) / _CAPPED_SQUARE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.minimum(squares, _CAP**2 * middle).mean() > _CAPPED_SQUARE * middle:
            low = middle
        else:
            high = middle
    return widened(high**0.5, len(counts)) ** 2


def widened(deviation: float, examples: int) -> float:
    """A deviation learnt from few examples, such that 1.96 of it hold 95 %.

    It is multiplied by Student's 97.5 % point over the normal one, the former
    by its expansion (Abramowitz and Stegun 1964, 26.7.5).
    """
    z, n = _NORMAL, examples
    student = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    return deviation * student / z
