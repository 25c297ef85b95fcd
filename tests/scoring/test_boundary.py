from __future__ import annotations

import numpy as np
import pytest

from dvos.scoring.overlap import PackedMask, boundary_f, tolerance


def _square(top: int, left: int, side: int = 20, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def _outline(mask: np.ndarray) -> np.ndarray:
    return PackedMask.of(mask).outline().unpacked()


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
    assert boundary_f(truth, truth) == 1.0
    assert boundary_f(_square(21, 21), truth) == 1.0
    assert boundary_f(_square(70, 70), truth) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition_with_exact_distances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = _square(int(rng.integers(5, 40)), 30, 25)
    prediction = _square(int(rng.integers(5, 40)), 32, 28) | _square(70, 70, 6)
    radius = tolerance(truth.shape, 0.02)
    measured = boundary_f(prediction, truth, share=0.02)
    assert measured == pytest.approx(_reference_f(prediction, truth, radius))


def test_empty_masks() -> None:
    nothing = np.zeros((10, 10), bool)
    assert boundary_f(nothing, nothing) == 1.0
    assert boundary_f(nothing, _square(2, 2, 4, 10)) == 0.0
    assert boundary_f(_square(2, 2, 4, 10), nothing) == 0.0
