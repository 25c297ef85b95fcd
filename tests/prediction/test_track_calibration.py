"""Distinct objects of a clip by its tracks."""

from __future__ import annotations

import numpy as np
import pytest

from dvos.prediction.calibration import TrackCalibration, read_calibration


def test_tracks_that_all_come_from_the_edge_are_counted_as_they_are() -> None:
    found = TrackCalibration(error=0.05).estimate(100, 0)
    assert found.distinct == 100
    assert (found.low, found.high) == pytest.approx((90.2, 109.8), abs=0.01)


def test_loose_ends_are_no_objects_but_for_one_in_twenty_where_nothing_is_known() -> None:
    found = TrackCalibration(error=1e-9).estimate(100, 20)
    assert found.distinct == 81
    assert found.high - found.distinct == pytest.approx(1.96 * np.sqrt(0.95), abs=0.01)


def test_no_tracks_are_no_objects() -> None:
    found = TrackCalibration().estimate(0, 0)
    assert (found.distinct, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(
    "part",
    [
        None,
        {},
        {"broken": 0.5, "missed": 0.0},
        {"broken": 2, "missed": 0, "error": 0.1},
        {"broken": 0.5, "missed": 0, "error": "much"},
    ],
)
def test_a_calibration_that_makes_no_sense_is_none(part: object) -> None:
    assert read_calibration({} if part is None else {"tracks": part}).tracks is None


def test_a_calibration_is_read_from_a_checkpoint() -> None:
    part = {"broken": 0.3, "missed": -0.02, "error": 0.04}
    assert read_calibration({"tracks": part}).tracks == TrackCalibration(0.3, -0.02, 0.04)
