"""Distinct objects of a clip by its tracks."""

from __future__ import annotations

import numpy as np
import pytest

from dvos.prediction.calibration import (
    TrackCalibration,
    fit_track_calibration,
    read_track_calibration,
)


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


def test_the_fit_finds_what_clips_were_made_with_and_its_interval_holds() -> None:
    rng = np.random.default_rng(0)

    def clips(number: int) -> tuple[list[int], list[int], list[int]]:
        true = rng.integers(60, 200, number)
        seen = np.round(true * 0.97)
        inside = rng.poisson(30, number)
        tracks = seen + rng.binomial(inside, 0.8)
        return tracks.astype(int).tolist(), inside.tolist(), true.tolist()

    fitted = fit_track_calibration(*clips(40))
    assert fitted.fragments == pytest.approx(0.8, abs=0.1)
    assert fitted.missed == pytest.approx(0.03, abs=0.03)
    held = [
        (one := fitted.estimate(k, i)).low <= d <= one.high
        for k, i, d in zip(*clips(200), strict=True)
    ]
    assert np.mean(held) > 0.9


def test_few_clips_fit_the_number_alone() -> None:
    fitted = fit_track_calibration([110, 90], [0, 0], [100, 100])
    assert fitted.fragments == 0.75
    assert fitted.estimate(100, 0).distinct == pytest.approx(100, abs=3)
    assert fitted.error == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="at least one"):
        fit_track_calibration([], [], [])


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
    assert read_track_calibration({} if part is None else {"tracks": part}) is None


def test_a_calibration_is_read_from_a_checkpoint() -> None:
    part = {"fragments": 0.3, "missed": -0.02, "error": 0.04}
    assert read_track_calibration({"tracks": part}) == TrackCalibration(0.3, -0.02, 0.04)
