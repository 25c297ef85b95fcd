"""Synthetic clips: moving cutouts over backgrounds, with their complete truth.

What all share stands here: names of types, and values drawn from ranges. Every value takes its
share of the stream whatever its range, so that a narrowed range changes that value alone. Where
draws change places in the code, all clips change.
"""

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ids = NDArray[np.uint16]
Ints = NDArray[np.int64]
#: Boxes, and the number + 1 of the sprite that each pixel belongs to.
Ints32 = NDArray[np.int32]
#: Pixels and texels of four bytes each, see :mod:`dvos.synthesis.kernels.packed`.
Words = NDArray[np.uint32]
Size = tuple[int, int]  # height and width, px
Range = tuple[float, float]


def uniform(rng: Generator, bounds: Range, count: int | None = None) -> Any:
    """A number, or float64 (count,), evenly from ``bounds``."""
    return bounds[0] + (bounds[1] - bounds[0]) * rng.random(count)


def log_uniform(rng: Generator, bounds: Range, count: int | None = None) -> Any:
    """A positive number, or float64 (count,), its logarithm evenly from ``bounds``."""
    drawn = uniform(rng, (math.log(bounds[0]), math.log(bounds[1])), count)
    return math.exp(drawn) if count is None else np.exp(drawn)


def whole(rng: Generator, bounds: Range, shape: int | tuple[int, ...]) -> Ints:
    """Whole numbers, evenly from ``bounds``, both ends included."""
    low, high = math.ceil(bounds[0]), math.floor(bounds[1])
    return low + np.floor(rng.random(shape) * (high - low + 1)).astype(np.int64)


def signs(rng: Generator, shape: int | tuple[int, ...]) -> Floats:
    """-1 or 1, evenly."""
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0)
