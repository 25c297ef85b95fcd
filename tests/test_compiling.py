"""Inner loops are compiled, whether or not the result can be kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from dvos.compiling import jit, jit_like_numpy

CODE = """
from dvos.compiling import jit

@jit
def double(number):
    return 2 * number

print(double(21))
"""


def test_a_loop_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    # Code without a file has no place for a cache; a read-only package without a home is alike.
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False
    )
    assert (result.returncode, result.stdout) == (0, "42\n"), result.stderr


def test_a_cache_that_numba_refuses_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    import dvos.compiling

    asked = []
    njit = dvos.compiling.njit

    def refuse(**options):
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available for file")
        return njit(**options)

    monkeypatch.setattr(dvos.compiling, "njit", refuse)
    assert jit(lambda number: number + 1)(1) == 2
    assert [options.get("cache", False) for options in asked] == [True, False]


def test_division_by_zero() -> None:
    assert jit_like_numpy(lambda a, b: a / b)(1.0, 0.0) == np.inf
    with pytest.raises(ZeroDivisionError):
        jit(lambda a, b: a / b)(1.0, 0.0)
