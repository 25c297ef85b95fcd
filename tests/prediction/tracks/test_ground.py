"""The ground that a camera has seen."""

from __future__ import annotations

import numpy as np
import pytest

from dvos.prediction.tracks.ground import SweptGround
from dvos.prediction.tracks.motion import Motion, shifted

SIZE = (300, 400)


def _swept(motions: list[Motion | None]) -> float | None:
    ground = SweptGround()
    for motion in [None, *motions]:
        ground.add(motion, SIZE)
    return ground.area()


def _turn(degrees: float, scale: float = 1.0) -> Motion:
    """About the middle of the frame."""
    angle, middle = np.radians(degrees), np.array([199.5, 149.5])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    return Motion(matrix, middle - matrix @ middle)


def test_a_camera_at_rest_sees_one_frame() -> None:
    assert _swept([shifted(np.zeros(2))] * 5) == pytest.approx(300 * 400, rel=0.01)


def test_a_straight_pass_sees_a_strip_and_the_way_back_nothing_new() -> None:
    there, back = shifted(np.array([-10.0, 0])), shifted(np.array([10.0, 0]))
    strip = 300 * (400 + 50 * 10)
    assert _swept([there] * 50) == pytest.approx(strip, rel=0.01)
    assert _swept([there] * 50 + [shifted(np.zeros(2))] * 9 + [back] * 50) == pytest.approx(
        strip, rel=0.01
    )


def test_a_turn_on_the_spot_sees_little_more() -> None:
    found = _swept([_turn(90 / 30)] * 30)
    assert found is not None
    # Between the frame and the disc about it.
    assert 1.2 * 300 * 400 < found < np.pi * 250**2


def test_coming_nearer_sees_nothing_new_and_going_up_sees_more() -> None:
    assert _swept([_turn(0, 1.02)] * 20) == pytest.approx(300 * 400, rel=0.01)
    assert _swept([_turn(0, 1 / 1.02)] * 20) == pytest.approx(300 * 400 * 1.02**40, rel=0.01)


def test_some_unknown_steps_go_on_as_before_and_many_leave_it_unknown() -> None:
    there = shifted(np.array([0.0, 12]))
    motions: list[Motion | None] = [there] * 40
    motions[20] = None
    assert _swept(motions) == pytest.approx(400 * (300 + 40 * 12), rel=0.01)
    assert _swept([there, None, None]) is None
