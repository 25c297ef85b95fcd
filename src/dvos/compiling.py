"""The one way inner loops are compiled.

Compiled loops are kept on disk beside their module or in the user's cache, so that only the first
run on a machine compiles them; they run free of the GIL. Fast-math and parallel loops stay off, as
either would let the bytes of a result depend on the machine's load.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """Compile ``function`` on its first call."""
    try:
        compiled = njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:
        # Neither the package's folder nor a home can be written, as in a container: the loops are
        # then compiled anew by each process.
        compiled = njit(nogil=True, **options)(function)
    return cast("Callable[P, R]", compiled)


#: Compiles a step of an inner loop, of numbers and not arrays, into its callers.
inlined = partial(jit, forceinline=True)
#: Compiles so that a division by zero gives infinity, as numpy has it.
jit_like_numpy = partial(jit, error_model="numpy")
