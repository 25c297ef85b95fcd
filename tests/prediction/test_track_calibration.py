"""Distinct objects of a clip by its tracks."""

from __future__ import annotations

import numpy as np
import pytest

from dvos.prediction.calibration import TrackCalibration, read_calibration


def test_tracks_that_all_come_from_the_edge_are_counted_as_they_are() -> None:
    found = TrackCalibration(error=0.05).estimate(100, 0)
    assert found.distinct == 100
    assert (found.low, found.high) == pytest.approx((90.2, 109.8), abs=0.01)


def test_tracks_that_begin_inside_count_by_a_quarter_where_nothing_is_known() -> None:
    found = TrackCalibration(error=1e-9).estimate(100, 20)
    assert found.distinct == 85
    assert found.high - found.distinct == pytest.approx(1.96 * np.sqrt(3.75), abs=0.01)


def test_no_tracks_are_no_objects() -> None:
    found = TrackCalibration().estimate(0, 0)
    assert (found.distinct, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(
    "part",
    [
        None,
        {},
        {"fragments": 0.5, "missed": 0.0},
        {"fragments": 2, "missed": 0, "error": 0.1},
        {"fragments": 0.5, "missed": 0, "error": "much"},
    ],
)
def test_a_calibration_that_makes_no_sense_is_none(part: object) -> None:
    assert read_calibration({} if part is None else {"tracks": part}).tracks is None


def test_a_calibration_is_read_from_a_checkpoint() -> None:
    part = {"fragments": 0.3, "missed": -0.02, "error": 0.04}
    assert read_calibration({"tracks": part}).tracks == TrackCalibration(0.3, -0.02, 0.04)
