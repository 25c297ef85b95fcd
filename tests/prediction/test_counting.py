from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dvos.config.prediction import PredictionOptions
from dvos.errors import MediaError
from dvos.media.mask import read_mask
from dvos.prediction.calibration import CountCalibration, PlattScaling
from dvos.prediction.counting import CountedFrame, count_frame, finish_rows
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.write import OBJECT_COLUMNS, FrameWriter, write_objects_table


def _options(**options: Any) -> PredictionOptions:
    return PredictionOptions.model_validate(
        {"checkpoint": "network", "minimum_object_area": 0, **options}
    )


def _counted(
    probability: np.ndarray, calibration: CountCalibration, **options: Any
) -> CountedFrame:
    image = np.zeros((*probability.shape, 3), np.uint8)
    prediction = FramePrediction(0, 0.0, "f", image, probability, probability >= 0.5)
    return count_frame(prediction, calibration, _options(**options))


def _discs(values: list[float]) -> np.ndarray:
    """A row of discs of 317 pixels, each of one probability."""
    probability = np.zeros((60, 50 * len(values)), np.float32)
    for number, value in enumerate(values):
        cv2.circle(probability, (25 + 50 * number, 30), 10, value, -1)
    return probability


def test_sure_objects_are_expected_in_full() -> None:
    probability = _discs([1.0, 1.0, 1.0])
    counted = _counted(probability, CountCalibration())
    assert counted.objects.count == 3
    assert counted.expected == pytest.approx(3, abs=1e-4)
    assert counted.deviation == pytest.approx(0, abs=0.01)


def test_doubtful_objects_count_by_their_probability_and_missed_ones_add_doubt() -> None:
    probability = _discs([1.0, 0.6, 0.3])
    calibration = CountCalibration(width=20.0, area=317.0)
    counted = _counted(probability, calibration)
    assert counted.objects.count == 2
    assert counted.expected == pytest.approx(1.6, abs=0.01)
    # 0.6 * 0.4 for the doubtful one, 0.3 as of a Poisson process for the missed.
    assert counted.deviation == pytest.approx((0.24 + 0.3) ** 0.5, abs=0.01)


def test_what_was_learnt_widens_the_deviation_and_leaves_the_count() -> None:
    probability = _discs([1.0] * 4)
    calibration = CountCalibration(error=0.1, dispersion=0.2)
    counted = _counted(probability, calibration)
    assert counted.count == counted.objects.count == 4
    assert counted.expected == pytest.approx(4, abs=1e-3)
    assert counted.deviation == pytest.approx((0.4**2 + 0.2 * 5) ** 0.5, abs=0.01)
    unsure = CountCalibration(scaling=PlattScaling(1.0, -13.0))
    assert _counted(probability, unsure).expected < 3


def test_scraps_beside_the_usual_size_are_no_objects() -> None:
    probability = _discs([1.0] * 6)
    for column in range(3, 300, 36):
        cv2.circle(probability, (column, 5), 1, 1.0, -1)

    def found(calibration: CountCalibration) -> int:
        return _counted(probability, calibration).objects.count

    assert found(CountCalibration()) == 15
    assert found(CountCalibration(width=20.0, area=317.0)) == 6
    # Seen from twice as far all is a quarter as large, and no object may be lost.
    assert found(CountCalibration(width=40.0, area=4 * 317.0)) == 6
    assert found(CountCalibration(width=160.0, area=64 * 317.0)) == 6


@pytest.mark.parametrize(("border", "count"), [("count", 3.0), ("half", 2.0), ("exclude", 1.0)])
def test_objects_that_the_edge_cuts(border: str, count: float) -> None:
    probability = np.zeros((60, 150), np.float32)
    for column in (0, 75, 149):
        cv2.circle(probability, (column, 30), 12, 1.0, -1)
    counted = _counted(probability, CountCalibration(), border_objects=border)
    assert counted.objects.count == 3
    assert counted.count == count
    assert counted.expected == pytest.approx(count, abs=1e-3)


def test_an_empty_frame_counts_nothing() -> None:
    nothing = np.zeros((40, 40), np.float32)
    counted = _counted(nothing, CountCalibration())
    assert (counted.expected, counted.deviation) == (0.0, 0.0)


def _prediction(values: list[float]) -> FramePrediction:
    probability = _discs(values)
    image = np.zeros((*probability.shape, 3), np.uint8)
    return FramePrediction(7, 0.28, "a,b", image, probability, probability >= 0.5)


def test_a_frame_is_written_with_its_objects(tmp_path: Path) -> None:
    options = _options(
        instances=True, minimum_object_area=30, object_width=20.0, ground_sampling_distance=2.0
    )
    writer = FrameWriter(tmp_path / "clip", options, CountCalibration(), first_index=5)
    row = writer(_prediction([0.9, 0.8]))
    assert row["count"] == 2
    assert row["ground_area"] == pytest.approx(60 * 100 * 4e-6)
    (finished,) = finish_rows("clip", [row], smoothing=5)
    assert finished.count_smooth is not None
    assert finished.density == pytest.approx(finished.count_smooth / 0.024, abs=1e-3)
    numbers = read_mask(tmp_path / "clip/instances/a,b.png")
    assert numbers.dtype == np.uint16
    assert set(np.unique(numbers)) == {0, 1, 2}
    table = tmp_path / "clip.objects.csv"
    write_objects_table(table, [(row, {})], tmp_path / "clip")
    with open(table, newline="") as stream:
        first, second = list(csv.DictReader(stream))
    assert tuple(first) == OBJECT_COLUMNS
    assert (first["frame_index"], first["frame"], first["object"]) == ("2", "a,b", "1")
    assert float(second["centre_x"]) == 75.0
    assert float(second["mean_probability"]) == pytest.approx(0.8, abs=1e-3)


def test_a_missing_table_of_a_frame_is_told(tmp_path: Path) -> None:
    row = {"frame_index": 0, "time_s": None, "frame": "x"}
    with pytest.raises(MediaError, match="predict again"):
        write_objects_table(tmp_path / "clip.objects.csv", [(row, {})], tmp_path / "clip")
    assert not (tmp_path / "clip.objects.csv").exists()


@pytest.mark.parametrize(("border", "count"), [("count", 2), ("half", 1.5), ("exclude", 1)])
def test_the_rule_for_cut_objects_reaches_the_table(
    tmp_path: Path, border: str, count: float
) -> None:
    probability = np.zeros((60, 150), np.float32)
    for column in (0, 75):
        cv2.circle(probability, (column, 30), 12, 1.0, -1)
    image = np.zeros((*probability.shape, 3), np.uint8)
    options = _options(minimum_object_area=30, border_objects=border)
    writer = FrameWriter(tmp_path / "clip", options, CountCalibration())
    row = writer(FramePrediction(0, 0.0, "a", image, probability, probability >= 0.5))
    assert row["count"] == count
    assert isinstance(row["count"], float) == (border == "half")


@pytest.mark.parametrize("width", [0.01, 6.0, 15.9])
def test_a_width_far_from_what_the_mask_shows_makes_no_doubt(width: float) -> None:
    """It is gone by within a factor of 1.25 of it, where objects are told apart and counted."""
    probability = _discs([1.0, 1.0, 1.0, 0.3])
    calibration = CountCalibration(width=20.0, area=317.0)
    counted = _counted(probability, calibration, object_width=width)
    assert counted.objects.count == 3
    assert counted.deviation <= (0.3 * 1.25**2) ** 0.5 + 0.01
    own = _counted(probability, calibration, object_width=20.0)
    assert own.deviation == pytest.approx(0.3**0.5, abs=0.01)
