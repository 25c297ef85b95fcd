"""Drawing values from ranges.

Every value takes its share of the stream whatever its range, so that a narrowed
range changes that value alone. Where draws change places in the code, all clips change.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from dvos.synthesis import Floats, Ints

Range = tuple[float, float]


def uniform(rng: Generator, bounds: Range) -> float:
    """One number, evenly from ``bounds``."""
    return bounds[0] + (bounds[1] - bounds[0]) * float(rng.random())


def uniforms(rng: Generator, bounds: Range, count: int) -> Floats:
    """``count`` numbers, evenly from ``bounds``."""
    return bounds[0] + (bounds[1] - bounds[0]) * rng.random(count)


def log_uniform(rng: Generator, bounds: Range) -> float:
    """One positive number, its logarithm evenly from ``bounds``."""
    return math.exp(uniform(rng, (math.log(bounds[0]), math.log(bounds[1]))))


def log_uniforms(rng: Generator, bounds: Range, count: int) -> Floats:
    """``count`` positive numbers, their logarithms evenly from ``bounds``."""
    return np.exp(uniforms(rng, (math.log(bounds[0]), math.log(bounds[1])), count))


def whole(rng: Generator, bounds: Range, shape: int | tuple[int, ...]) -> Ints:
    """Whole numbers, evenly from ``bounds``, both ends included."""
    low, high = math.ceil(bounds[0]), math.floor(bounds[1])
    return low + np.floor(rng.random(shape) * (high - low + 1)).astype(np.int64)


def signs(rng: Generator, shape: int | tuple[int, ...]) -> Floats:
    """-1 or 1, evenly."""
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0)
