"""The one way kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

__all__ = ["inlined", "jit"]

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function``: kept on disk between runs, free of the GIL.

    Fast-math and parallel loops stay off, as either would let the bytes of a
    frame depend on the machine's load.
    """
    return cast("Callable[P, R]", njit(cache=True, nogil=True)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a step of an inner loop into its callers, where a call would cost more.

    Such a step takes numbers, not arrays: numba counts the references to an
    array argument, which costs more than the step itself.
    """
    return cast("Callable[P, R]", njit(cache=True, nogil=True, forceinline=True)(function))
