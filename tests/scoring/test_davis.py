from __future__ import annotations

import pytest

from dvos.scoring.aggregate import over_clips


def _of(values: list[float]) -> dict[str, float | None]:
    """The statistics of one clip, whose frames have these values."""
    return over_clips({"a": values}, {"a": values})


def test_mean_recall_and_decay_by_hand() -> None:
    # Quarters of 8 frames in the benchmark's code: frames 1-3, 3-5, 5-6 (2.75,
    # 4.5 and 6.25 rounded), 6-8.
    found = _of([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert found["j_mean"] == pytest.approx(0.55)
    assert found["f_recall"] == 4 / 8
    assert found["j_decay"] == pytest.approx(0.8 - 0.3)


def test_exactly_half_is_no_hit_and_a_steady_clip_does_not_decay() -> None:
    found = _of([0.5] * 6)
    assert found["j_recall"] == 0.0
    assert found["f_decay"] == pytest.approx(0.0)


def test_three_frames_have_no_quarters() -> None:
    assert _of([0.9, 0.5, 0.1])["f_decay"] is None


def test_clips_weigh_the_same_however_long() -> None:
    found = over_clips({"a": [1.0], "b": [0.0] * 4}, {"a": [0.8], "b": [0.4] * 4})
    assert found["j_mean"] == 0.5
    assert found["j_recall"] == 0.5
    assert found["j_decay"] == 0.0
    assert found["f_mean"] == pytest.approx(0.6)
    assert found["jf_mean"] == pytest.approx(0.55)
    assert over_clips({"a": [1.0]}, {"a": [1.0]})["j_decay"] is None
