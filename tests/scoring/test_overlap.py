from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.scoring.overlap import PackedMask, PixelCounts, count_pixels, dice, iou

# Measured with the published implementation, smooth 1; the masks come from one
# generator, rng = default_rng(3), the prediction of each row before its truth.
PUBLISHED = [
    (0.3, 0.3, 0.29688002573174654, 0.17447129909365558),
    (0.05, 0.5, 0.08991627229705133, 0.04725609756097561),
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 0.2, 0.0009775171065493646, 0.0009775171065493646),
    (1.0, 1.0, 1.0, 1.0),
]


def _counts(prediction: np.ndarray, truth: np.ndarray) -> PixelCounts:
    return count_pixels(PackedMask.of(prediction), PackedMask.of(truth))


def test_smoothed_figures_equal_the_published_ones() -> None:
    rng = np.random.default_rng(3)
    for p_prediction, p_truth, published_dice, published_iou in PUBLISHED:
        prediction = rng.random((64, 80)) < p_prediction
        truth = rng.random((64, 80)) < p_truth
        counts = _counts(prediction, truth)
        assert dice(counts, smooth=1.0) == pytest.approx(published_dice, abs=1e-6)
        assert iou(counts, smooth=1.0) == pytest.approx(published_iou, abs=1e-6)


def test_unsmoothed_figures() -> None:
    counts = PixelCounts(intersection=6, predicted=8, truth=12)
    assert dice(counts) == 12 / 20
    assert iou(counts) == 6 / 14


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (PixelCounts(0, 0, 0), (1.0, 1.0)),
        (PixelCounts(0, 0, 5), (0.0, 0.0)),
        (PixelCounts(0, 5, 0), (0.0, 0.0)),
    ],
)
def test_empty_masks(counts: PixelCounts, expected: tuple[float, ...]) -> None:
    assert (dice(counts), iou(counts)) == expected


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 20), width=st.integers(1, 20))
def test_dice_and_iou_agree_and_are_symmetric(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, height, width)) < rng.random((2, 1, 1))
    counts = _counts(a, b)
    assert counts == ((a & b).sum(), a.sum(), b.sum())
    assert 0 <= iou(counts) <= dice(counts) <= 1
    assert dice(counts) == pytest.approx(2 * iou(counts) / (1 + iou(counts)))
    assert dice(counts) == dice(_counts(b, a))
