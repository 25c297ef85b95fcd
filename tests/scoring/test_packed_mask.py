from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.scoring.overlap import PackedMask


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """The definition written out: distances to all pixels set."""
    y, x = np.indices(mask.shape)
    result = np.zeros(mask.shape, bool)
    for row, column in np.argwhere(mask):
        result |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return result


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 12),
    width=st.integers(1, 140),
    radius=st.integers(0, 20),
    density=st.floats(0, 0.05),
)
def test_dilation_equals_the_definition(
    seed: int, height: int, width: int, radius: int, density: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    found = PackedMask.of(mask).dilated(radius).unpacked()
    assert (found == _dilated(mask, radius)).all()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 12), width=st.integers(1, 140))
def test_packing_loses_nothing_and_outlines_equal_the_definition(
    seed: int, height: int, width: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    packed = PackedMask.of(mask)
    assert (packed.unpacked() == mask).all()
    assert packed.count() == mask.sum()
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    expected = np.zeros_like(mask)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        expected |= mask != padded[dy : dy + height, dx : dx + width]
    outline = packed.outline()
    assert (outline.unpacked() == expected).all()
    assert outline.count() == expected.sum()


@pytest.mark.parametrize("width", [63, 64, 65])
def test_nothing_wraps_round_the_end_of_a_row(width: int) -> None:
    mask = np.zeros((3, width), bool)
    mask[1, -1] = True
    found = PackedMask.of(mask).dilated(1).unpacked()
    assert found.sum() == 4
    assert not found[:, : width - 2].any()
