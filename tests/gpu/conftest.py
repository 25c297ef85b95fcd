"""The device that these tests are for, and the very same tests on the CPU where they are cheap.

``pytest tests/gpu -m gpu`` runs them on a GPU; they are skipped where torch sees none. With
``DVOS_TEST_DEVICE=cpu`` all of them run on the CPU, against itself. Nothing is installed: with
``PYTHONPATH=src`` they run from a source tree.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
# Tiny networks and clips that the tests of other rooms have.
sys.path += [str(TESTS / room) for room in ("training", "prediction")]

_GPU = pytest.param(os.environ.get("DVOS_TEST_DEVICE", "cuda"), marks=pytest.mark.gpu, id="gpu")


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    return torch.device(name)


@pytest.fixture(params=["cpu", _GPU])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU; and the CPU, which shows that the test itself is right."""
    return _device(request.param)


@pytest.fixture(scope="module", params=[_GPU])
def gpu(request: pytest.FixtureRequest) -> torch.device:
    """The GPU alone, for what takes long."""
    return _device(request.param)


@pytest.fixture(autouse=True)
def _float32_is_float32() -> Iterator[None]:
    """Products of float32 are not rounded to TF32."""
    cudnn, before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.allow_tf32 = cudnn
    torch.set_float32_matmul_precision(before)
