from __future__ import annotations

import numpy as np
import pytest

from dvos.scoring.aggregate import group_figures, pooled_dice_interval
from dvos.scoring.overlap import PixelCounts, dice, total


def _counts(seed: int, number: int) -> list[PixelCounts]:
    rng = np.random.default_rng(seed)
    return [PixelCounts(int(80 * share), 100, 100) for share in rng.uniform(0.7, 1.0, number)]


def test_interval_holds_the_pooled_dice_and_repeats_with_its_seed() -> None:
    counts = _counts(0, 12)
    clips = [f"clip{index // 3}" for index in range(12)]
    first = pooled_dice_interval(clips, counts, rng=np.random.default_rng(1))
    again = pooled_dice_interval(clips, counts, rng=np.random.default_rng(1))
    assert first is not None
    assert first == again
    assert (first.unit, first.units) == ("clip", 4)
    assert first.low <= dice(total(counts)) <= first.high


def test_one_clip_is_resampled_by_image_and_one_mask_not_at_all() -> None:
    counts = _counts(1, 5)
    interval = pooled_dice_interval(["a"] * 5, counts, rng=np.random.default_rng(1))
    assert interval is not None
    assert (interval.unit, interval.units) == ("image", 5)
    assert pooled_dice_interval(["a"], counts[:1], rng=np.random.default_rng(1)) is None


def test_equal_clips_leave_no_spread_and_more_clips_narrow_the_interval() -> None:
    same = [PixelCounts(50, 60, 70)] * 4
    flat = pooled_dice_interval(list("abcd"), same, rng=np.random.default_rng(0))
    assert flat is not None
    assert flat.low == pytest.approx(flat.high) == pytest.approx(dice(same[0]))
    widths = []
    for number in (8, 200):
        names = [str(index) for index in range(number)]
        found = pooled_dice_interval(names, _counts(2, number), rng=np.random.default_rng(0))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_figures_of_each_clip() -> None:
    counts = [PixelCounts(10, 10, 10), PixelCounts(0, 10, 10), PixelCounts(10, 20, 10)]
    figures = group_figures(["a", "b", "a"], counts)
    assert list(figures) == ["a", "b"]
    assert figures["a"]["masks"] == 2
    assert figures["a"]["pooled_dice"] == pytest.approx(40 / 50)
    assert figures["a"]["pooled_iou"] == pytest.approx(20 / 30)
    assert figures["a"]["mean_dice"] == pytest.approx((21 / 21 + 21 / 31) / 2)
