"""Counts evened out over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.prediction.counting import finish_rows
from dvos.tables import CountRow


def finished(rows: Sequence[Mapping[str, Any]], *, smoothing: int) -> list[CountRow]:
    return finish_rows("clip", rows, smoothing=smoothing)


def _rows(counts: list[float], sd: float = 1.0, area: float | None = None) -> list[dict[str, Any]]:
    return [
        {"frame_index": k, "expected_count": c, "count_sd": sd, "ground_area": area}
        for k, c in enumerate(counts)
    ]


def test_a_line_stays_a_line_and_an_outlier_is_passed_over() -> None:
    line = [100.0 + 2 * k for k in range(20)]
    smooth = [row.count_smooth for row in finished(_rows(line), smoothing=5)]
    assert smooth == pytest.approx(line)
    bumped = [*line[:10], 20.0, *line[11:]]
    smooth = [row.count_smooth for row in finished(_rows(bumped), smoothing=7)]
    assert smooth == pytest.approx(line, abs=1e-3)


@settings(max_examples=50, derandomize=True)
@given(
    level=st.floats(20, 400),
    scatter=st.floats(0, 0.06),
    lopsided=st.booleans(),
    length=st.integers(20, 60),
    window=st.sampled_from([1, 3, 5, 7, 15]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_steady_sequence_keeps_its_mean(
    level: float, scatter: float, lopsided: bool, length: int, window: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.exponential(1, length) if lopsided else rng.normal(0, 1, length)
    counts = level * (1 + scatter * noise)
    rows = [
        {"frame_index": k, "expected_count": c, "count_sd": 0.05 * level, "ground_area": None}
        for k, c in enumerate(counts.tolist())
    ]
    smooth = np.mean([row.count_smooth for row in finished(rows, smoothing=window)])
    assert smooth == pytest.approx(counts.mean(), rel=0.01)


def test_without_smoothing_the_interval_is_the_frames_own() -> None:
    row = finished(_rows([10.0, 50.0], sd=2.0, area=4.0), smoothing=1)[1]
    assert row.count_smooth == 50.0
    assert row.count_high - 50 == pytest.approx(1.96 * 2, abs=1e-2)
    assert row.density == 12.5
    assert finished(_rows([1.0], sd=2.0), smoothing=5)[0].count_low == 0.0
    assert finished([], smoothing=5) == []


@pytest.mark.parametrize("smoothing", [1, 2, 5, 9, 50])
def test_any_length_of_clip_and_window(smoothing: int) -> None:
    for length in range(1, 12):
        rows = finished(_rows([30.0] * length), smoothing=smoothing)
        assert [row.count_smooth for row in rows] == pytest.approx([30.0] * length)
        assert all(row.count_low <= 30 <= row.count_high for row in rows)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered, frames = 0, 0
    for _ in range(300):
        truth = 100 + 10 * np.sin(np.arange(20) / 12 + rng.uniform(0, 6))
        # An error that a clip's frames share, and one that is each frame's own.
        seen = truth + rng.normal(0, 4) + rng.normal(0, 3, 20)
        rows = finished(_rows(seen.tolist(), sd=4.0), smoothing=7)
        low = np.array([row.count_low for row in rows])
        high = np.array([row.count_high for row in rows])
        covered += int(((low <= truth) & (truth <= high)).sum())
        frames += 20
    assert 0.93 < covered / frames < 0.98
