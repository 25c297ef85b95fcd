from __future__ import annotations

import math

import numpy as np
import pytest

from dvos.scoring.aggregate import FIGURES, Resampled, Tally, figures, resampled, total
from dvos.scoring.overlap import PixelCounts, dice, iou


def _tally(intersection: int, predicted: int, truth: int, **more: float) -> Tally:
    counts = PixelCounts(intersection, predicted, truth)
    values = {
        "dice": dice(counts, smooth=1.0),
        "iou": iou(counts, smooth=1.0),
        "region_j": iou(counts),
        "boundary_f": 0.5,
        **more,
    }
    return Tally(intersection, predicted, truth, **values)


def _tallies(seed: int, number: int) -> list[Tally]:
    rng = np.random.default_rng(seed)
    return [_tally(int(80 * share), 100, 100) for share in rng.uniform(0.7, 1.0, number)]


def _drawn(clips: list[str], tallies: list[Tally], seed: int = 0) -> Resampled:
    drawn = resampled(clips, tallies, rng=np.random.default_rng(seed))
    assert drawn is not None
    return drawn


def _ends(drawn: Resampled, name: str) -> tuple[float, float]:
    found = drawn.interval(name, 0.95)
    assert found is not None
    return found.low, found.high


def test_pooled_figures_weigh_pixels_not_masks() -> None:
    tallies = [_tally(90, 100, 100), _tally(0, 1, 1)]
    assert figures(total(tallies))["pooled_dice"] == 180 / 202


def test_figures_of_two_masks_by_hand() -> None:
    found = figures(
        total(
            [
                _tally(6, 8, 12, kept=0.5, kept_truth=0.8, hits=2, objects=5),
                _tally(10, 10, 10, followed=0.9, follows=1, kept=0.3, kept_truth=0.2),
            ]
        )
    )
    assert list(found) == list(FIGURES)
    assert found["pooled_dice"] == pytest.approx(32 / 40)
    assert found["pooled_iou"] == pytest.approx(16 / 24)
    assert found["precision"] == pytest.approx(16 / 18)
    assert found["recall"] == pytest.approx(16 / 22)
    assert found["mean_dice"] == pytest.approx((13 / 21 + 1) / 2)
    assert found["mean_iou"] == pytest.approx((7 / 15 + 1) / 2)
    assert found["region_j"] == pytest.approx((6 / 14 + 1) / 2)
    assert found["j_and_f"] == pytest.approx(((6 / 14 + 1) / 2 + 0.5) / 2)
    assert found["temporal_stability"] == pytest.approx(0.9)
    assert found["relative_stability"] == pytest.approx(0.8)
    assert found["instance_f1"] == pytest.approx(4 / 5)
    assert math.isnan(found["count_mae"])


@pytest.mark.parametrize(("predicted", "truth", "value"), [(0, 0, 1), (0, 5, 0), (5, 0, 0)])
def test_pooled_figures_of_empty_masks(predicted: int, truth: int, value: float) -> None:
    found = figures(total([_tally(0, predicted, truth)]))
    names = ("pooled_dice", "pooled_iou", "precision", "recall")
    assert [float(found[name]) for name in names] == [value] * 4


def test_a_mask_steadier_than_the_truth_is_no_better_than_steady() -> None:
    found = figures(total([_tally(1, 1, 1, kept=0.9, kept_truth=0.5)]))
    assert found["relative_stability"] == 1.0


def test_interval_holds_the_figure_and_repeats_with_its_seed() -> None:
    tallies, clips = _tallies(0, 12), [f"clip{index // 3}" for index in range(12)]
    first, again = _drawn(clips, tallies, 1), _drawn(clips, tallies, 1)
    assert (first.unit, first.units) == ("clip", 4)
    whole = figures(total(tallies))
    for name in ("pooled_dice", "pooled_iou", "mean_dice", "precision", "recall", "region_j"):
        assert _ends(first, name) == _ends(again, name)
        low, high = _ends(first, name)
        assert low <= whole[name] <= high


def test_one_clip_is_resampled_by_image_and_one_mask_not_at_all() -> None:
    tallies = _tallies(1, 5)
    drawn = _drawn(["a"] * 5, tallies)
    assert (drawn.unit, drawn.units) == ("image", 5)
    assert resampled(["a"], tallies[:1], rng=np.random.default_rng(1)) is None


def test_equal_clips_leave_no_spread_and_more_clips_narrow_the_interval() -> None:
    same = _drawn(list("abcd"), [_tally(50, 60, 70)] * 4)
    low, high = _ends(same, "pooled_dice")
    assert low == pytest.approx(high) == pytest.approx(100 / 130)
    widths = []
    for number in (8, 200):
        low, high = _ends(_drawn([str(k) for k in range(number)], _tallies(2, number)), "recall")
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_draws_without_a_figure_are_left_out_of_its_interval() -> None:
    some = [_tally(1, 1, 1, followed=0.7, follows=1.0), *[_tally(1, 1, 1)] * 3]
    drawn = _drawn(list("abcd"), some)
    assert np.isnan(drawn.samples["temporal_stability"]).any()
    assert _ends(drawn, "temporal_stability") == (pytest.approx(0.7), pytest.approx(0.7))
    assert drawn.interval("count_mae", 0.95) is None
