from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.scoring.overlap import PackedMask, boundary_f, tolerance


def _square(top: int, left: int, side: int = 20, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def _unpacked(packed: PackedMask) -> np.ndarray:
    octets = packed.words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=packed.width, bitorder="little").view(bool)


def _outline(mask: np.ndarray) -> np.ndarray:
    return _unpacked(PackedMask.of(mask).outline())


def _f(prediction: np.ndarray, truth: np.ndarray, **share: float) -> float:
    return boundary_f(PackedMask.of(prediction), PackedMask.of(truth), **share)


def _reference_f(prediction: np.ndarray, truth: np.ndarray, radius: int) -> float:
    """The definition written out: distances between all outline pixels."""
    found, wanted = (np.argwhere(_outline(mask)) for mask in (prediction, truth))
    squared = ((found[:, None] - wanted[None]) ** 2).sum(-1)
    precision = (squared.min(1) <= radius**2).mean()
    recall = (squared.min(0) <= radius**2).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def test_tolerance_is_a_share_of_the_diagonal_rounded_up() -> None:
    assert tolerance((480, 854)) == 8
    assert tolerance((3, 4)) == 1


def test_outline_lies_where_right_lower_or_diagonal_neighbour_differs() -> None:
    mask = np.zeros((4, 4), bool)
    mask[2, 2] = True
    expected = np.zeros((4, 4), bool)
    expected[1:3, 1:3] = True
    assert (_outline(mask) == expected).all()
    assert not _outline(np.ones((4, 4), bool)).any()


def test_shift_within_tolerance_is_perfect_and_far_away_is_zero() -> None:
    truth = _square(20, 20)
    assert _f(truth, truth) == 1.0
    assert _f(_square(21, 21), truth) == 1.0
    assert _f(_square(70, 70), truth) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition_with_exact_distances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = _square(int(rng.integers(5, 40)), 30, 25)
    prediction = _square(int(rng.integers(5, 40)), 32, 28) | _square(70, 70, 6)
    radius = tolerance(truth.shape, 0.02)
    measured = _f(prediction, truth, share=0.02)
    assert measured == pytest.approx(_reference_f(prediction, truth, radius))


def test_empty_masks() -> None:
    nothing = np.zeros((10, 10), bool)
    assert _f(nothing, nothing) == 1.0
    assert _f(nothing, _square(2, 2, 4, 10)) == 0.0
    assert _f(_square(2, 2, 4, 10), nothing) == 0.0


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """The definition written out: distances to all pixels set."""
    y, x = np.indices(mask.shape)
    result = np.zeros(mask.shape, bool)
    for row, column in np.argwhere(mask):
        result |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return result


@settings(max_examples=50)
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
    found = _unpacked(PackedMask.of(mask).dilated(radius))
    assert (found == _dilated(mask, radius)).all()


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 12), width=st.integers(1, 140))
def test_packing_loses_nothing_and_outlines_equal_the_definition(
    seed: int, height: int, width: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    packed = PackedMask.of(mask)
    assert (_unpacked(packed) == mask).all()
    assert packed.area == mask.sum()
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    expected = np.zeros_like(mask)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        expected |= mask != padded[dy : dy + height, dx : dx + width]
    outline = packed.outline()
    assert (_unpacked(outline) == expected).all()
    assert outline.area == expected.sum()


@pytest.mark.parametrize("width", [63, 64, 65])
def test_nothing_wraps_round_the_end_of_a_row(width: int) -> None:
    mask = np.zeros((3, width), bool)
    mask[1, -1] = True
    found = _unpacked(PackedMask.of(mask).dilated(1))
    assert found.sum() == 4
    assert not found[:, : width - 2].any()
