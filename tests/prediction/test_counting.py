from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.errors import MediaError
from dvos.media.mask import read_mask
from dvos.prediction.counting import Border, count_frame
from dvos.prediction.object_table import OBJECT_COLUMNS, write_objects_table
from dvos.prediction.objects import Calibration, ObjectKnowledge
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.smoothing import finish_rows
from dvos.prediction.writing import FrameWriter
from dvos.tables import COUNT_COLUMNS


def _discs(values: list[float]) -> np.ndarray:
    """A row of discs of 317 pixels, each of one probability."""
    probability = np.zeros((60, 50 * len(values)), np.float32)
    for number, value in enumerate(values):
        cv2.circle(probability, (25 + 50 * number, 30), 10, value, -1)
    return probability


def test_sure_objects_are_expected_in_full() -> None:
    probability = _discs([1.0, 1.0, 1.0])
    counted = count_frame(probability >= 0.5, probability, knowledge=ObjectKnowledge())
    assert counted.objects.count == 3
    assert counted.expected == pytest.approx(3, abs=1e-4)
    assert counted.deviation == pytest.approx(0, abs=0.01)


def test_doubtful_objects_count_by_their_probability_and_missed_ones_add_doubt() -> None:
    probability = _discs([1.0, 0.6, 0.3])
    knowledge = ObjectKnowledge(width=20.0, area=317.0)
    counted = count_frame(probability >= 0.5, probability, knowledge=knowledge)
    assert counted.objects.count == 2
    assert counted.expected == pytest.approx(1.6, abs=0.01)
    # 0.6 * 0.4 for the doubtful one, 0.3 as of a Poisson process for the missed.
    assert counted.deviation == pytest.approx((0.24 + 0.3) ** 0.5, abs=0.01)


def test_what_was_learnt_widens_the_deviation_and_leaves_the_count() -> None:
    probability = _discs([1.0] * 4)
    knowledge = ObjectKnowledge(error=0.1, dispersion=0.2)
    counted = count_frame(probability >= 0.5, probability, knowledge=knowledge)
    assert counted.count == counted.objects.count == 4
    assert counted.expected == pytest.approx(4, abs=1e-3)
    assert counted.deviation == pytest.approx((0.4**2 + 0.2 * 5) ** 0.5, abs=0.01)
    unsure = ObjectKnowledge(calibration=Calibration(1.0, -13.0))
    assert count_frame(probability >= 0.5, probability, knowledge=unsure).expected < 3


def test_scraps_beside_the_usual_size_are_no_objects() -> None:
    probability = _discs([1.0] * 6)
    for column in range(3, 300, 36):
        cv2.circle(probability, (column, 5), 1, 1.0, -1)
    mask = probability >= 0.5

    def found(knowledge: ObjectKnowledge) -> int:
        return count_frame(mask, probability, knowledge=knowledge).objects.count

    assert found(ObjectKnowledge()) == 15
    assert found(ObjectKnowledge(width=20.0, area=317.0)) == 6
    # Seen from twice as far all is a quarter as large, and no object may be lost.
    assert found(ObjectKnowledge(width=40.0, area=4 * 317.0)) == 6
    assert found(ObjectKnowledge(width=160.0, area=64 * 317.0)) == 6


@pytest.mark.parametrize(("border", "count"), [("count", 3.0), ("half", 2.0), ("exclude", 1.0)])
def test_objects_that_the_edge_cuts(border: Border, count: float) -> None:
    probability = np.zeros((60, 150), np.float32)
    for column in (0, 75, 149):
        cv2.circle(probability, (column, 30), 12, 1.0, -1)
    counted = count_frame(
        probability >= 0.5, probability, knowledge=ObjectKnowledge(), border=border
    )
    assert counted.objects.count == 3
    assert counted.count == count
    assert counted.expected == pytest.approx(count, abs=1e-3)


def test_an_empty_frame_counts_nothing() -> None:
    nothing = np.zeros((40, 40), np.float32)
    counted = count_frame(nothing >= 0.5, nothing, knowledge=ObjectKnowledge())
    assert (counted.expected, counted.deviation) == (0.0, 0.0)


def _rows(counts: list[float], sd: float = 1.0, area: float | None = None) -> list[dict[str, Any]]:
    return [
        {"frame_index": k, "expected_count": c, "count_sd": sd, "ground_area": area}
        for k, c in enumerate(counts)
    ]


def test_a_line_stays_a_line_and_an_outlier_is_passed_over() -> None:
    line = [100.0 + 2 * k for k in range(20)]
    smooth = [row["count_smooth"] for row in finish_rows(_rows(line), smoothing=5)]
    assert smooth == pytest.approx(line)
    bumped = [*line[:10], 20.0, *line[11:]]
    smooth = [row["count_smooth"] for row in finish_rows(_rows(bumped), smoothing=7)]
    assert smooth == pytest.approx(line, abs=1e-3)


@settings(deadline=None, max_examples=50, derandomize=True)
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
    smooth = np.mean([row["count_smooth"] for row in finish_rows(rows, smoothing=window)])
    assert smooth == pytest.approx(counts.mean(), rel=0.01)


def test_without_smoothing_the_interval_is_the_frames_own() -> None:
    row = finish_rows(_rows([10.0, 50.0], sd=2.0, area=4.0), smoothing=1)[1]
    assert row["count_smooth"] == 50.0
    assert row["count_high"] - 50 == pytest.approx(1.96 * 2, abs=1e-2)
    assert row["density"] == 12.5
    assert finish_rows(_rows([1.0], sd=2.0), smoothing=5)[0]["count_low"] == 0.0
    assert finish_rows([], smoothing=5) == []


@pytest.mark.parametrize("smoothing", [1, 2, 5, 9, 50])
def test_any_length_of_clip_and_window(smoothing: int) -> None:
    for length in range(1, 12):
        rows = finish_rows(_rows([30.0] * length), smoothing=smoothing)
        assert [row["count_smooth"] for row in rows] == pytest.approx([30.0] * length)
        assert all(row["count_low"] <= 30 <= row["count_high"] for row in rows)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered, frames = 0, 0
    for _ in range(300):
        truth = 100 + 10 * np.sin(np.arange(20) / 12 + rng.uniform(0, 6))
        # An error that a clip's frames share, and one that is each frame's own.
        seen = truth + rng.normal(0, 4) + rng.normal(0, 3, 20)
        rows = finish_rows(_rows(seen.tolist(), sd=4.0), smoothing=7)
        low = np.array([row["count_low"] for row in rows])
        high = np.array([row["count_high"] for row in rows])
        covered += int(((low <= truth) & (truth <= high)).sum())
        frames += 20
    assert 0.93 < covered / frames < 0.98


def _prediction(values: list[float]) -> FramePrediction:
    probability = _discs(values)
    image = np.zeros((*probability.shape, 3), np.uint8)
    return FramePrediction(7, 0.28, "a,b", image, probability, probability >= 0.5)


def test_a_frame_is_written_with_its_objects(tmp_path: Path) -> None:
    writer = FrameWriter(
        folder=tmp_path / "clip",
        probabilities=False,
        instances=True,
        minimum_area=30,
        object_width=20.0,
        knowledge=ObjectKnowledge(),
        ground_sampling_distance=2.0,
        first_index=5,
    )
    row = writer(_prediction([0.9, 0.8]))
    assert row["count"] == 2
    assert row["ground_area"] == pytest.approx(60 * 100 * 4e-6)
    finished = finish_rows([row], smoothing=5)[0]
    assert set(finished) | {"clip"} == set(COUNT_COLUMNS)
    assert finished["density"] == pytest.approx(finished["count_smooth"] / 0.024, abs=1e-3)
    numbers = read_mask(tmp_path / "clip/instances/a,b.png")
    assert numbers.dtype == np.uint16
    assert set(np.unique(numbers)) == {0, 1, 2}
    table = tmp_path / "clip.objects.csv"
    write_objects_table(table, [row], tmp_path / "clip")
    with open(table, newline="") as stream:
        first, second = list(csv.DictReader(stream))
    assert tuple(first) == OBJECT_COLUMNS
    assert (first["frame_index"], first["frame"], first["object"]) == ("2", "a,b", "1")
    assert float(second["centre_x"]) == 75.0
    assert float(second["mean_probability"]) == pytest.approx(0.8, abs=1e-3)


def test_a_missing_table_of_a_frame_is_told(tmp_path: Path) -> None:
    row = {"frame_index": 0, "time_s": None, "frame": "x"}
    with pytest.raises(MediaError, match="predict again"):
        write_objects_table(tmp_path / "clip.objects.csv", [row], tmp_path / "clip")
    assert not (tmp_path / "clip.objects.csv").exists()


@pytest.mark.parametrize(("border", "count"), [("count", 2), ("half", 1.5), ("exclude", 1)])
def test_the_rule_for_cut_objects_reaches_the_table(
    tmp_path: Path, border: Border, count: float
) -> None:
    probability = np.zeros((60, 150), np.float32)
    for column in (0, 75):
        cv2.circle(probability, (column, 30), 12, 1.0, -1)
    image = np.zeros((*probability.shape, 3), np.uint8)
    writer = FrameWriter(
        folder=tmp_path / "clip", probabilities=False, minimum_area=30, border=border
    )
    row = writer(FramePrediction(0, 0.0, "a", image, probability, probability >= 0.5))
    assert row["count"] == count
    assert isinstance(row["count"], float) == (border == "half")
