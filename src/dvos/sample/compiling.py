"""Compilation of the inner loops, typed so that the type checker keeps its sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile ``function`` on its first call and keep the result on disk.

    Strict arithmetic (no fast-math): the same scene gives the same pixels.
    """
    return cast("Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
