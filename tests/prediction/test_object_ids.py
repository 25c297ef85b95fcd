from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvos.media.grouping import ObjectMaps
from dvos.prediction.calibration import CountCalibration, PlattScaling
from dvos.prediction.objects import FrameObjects, find_objects


def _found(mask: np.ndarray, **choices: object) -> FrameObjects:
    probability = mask.astype(np.float32) * 0.9
    known = CountCalibration(scaling=PlattScaling(1.0, -1.0))
    return find_objects(mask, probability, known, **choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", [0, 30, 90, 150])
def test_geometry_of_an_ellipse(turned: int) -> None:
    mask = np.zeros((200, 240), np.uint8)
    # OpenCV turns clockwise as seen.
    cv2.ellipse(mask, (110, 90), (60, 20), -turned, 0, 360, 1, -1)
    found = _found(mask > 0)
    assert found.count == 1
    assert found.area[0] == mask.sum()
    assert found.length[0] == pytest.approx(121, abs=2)
    assert found.width[0] == pytest.approx(41, abs=2)
    apart = (found.orientation[0] - turned + 90) % 180 - 90
    assert abs(apart) < 1
    assert -90 < found.orientation[0] <= 90
    assert found.centre[0] == pytest.approx([110, 90], abs=0.2)
    assert found.probability[0] == pytest.approx(0.9)
    assert found.peak_probability[0] == pytest.approx(1 / (1 + np.e / 9), abs=1e-5)
    assert not found.touches_border[0]


def test_objects_on_the_border_are_told() -> None:
    mask = np.zeros((60, 60), bool)
    mask[0:8, 20:30] = mask[30:40, 50:60] = mask[30:40, 20:30] = True
    assert sorted(_found(mask).touches_border.tolist()) == [False, True, True]


def test_objects_lie_where_the_network_says_their_centres_are() -> None:
    mask = np.zeros((40, 80), bool)
    mask[10:30, 10:70] = True
    # Two halves of a bar, which its shape would not tell apart.
    x = 2 * np.arange(40) + 0.5
    offset = np.zeros((2, 20, 40), np.float32)
    offset[0] = np.where(x < 40, 24.5, 54.5) - x
    offset[1] = 19.5 - (2 * np.arange(20)[:, None] + 0.5)
    moved = np.full((2, 20, 40), 3, np.float32)
    maps = ObjectMaps(offset / 2, moved / 2)
    assert _found(mask).motion is None
    found = _found(mask, maps=maps)
    assert found.area.tolist() == [600, 600]
    assert found.centre.tolist() == [[24.5, 19.5], [54.5, 19.5]]
    assert found.motion is not None
    assert found.motion.tolist() == [[3, 3], [3, 3]]


def test_a_single_pixel_and_nothing() -> None:
    mask = np.zeros((20, 30), bool)
    assert _found(mask).rows() == []
    mask[5, 7] = True
    found = _found(mask)
    assert found.length[0] == found.width[0] == pytest.approx(4 / 12**0.5)
    assert found.rows() == [[1, 1, 1.15, 1.15, 0.0, 7.0, 5.0, 0.9, 0]]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_an_object_reaches_to_half_of_what_it_shows_in_the_mask(threshold: float) -> None:
    """One seen well ends at the mask or little below, one seen weakly further out; rims and rows
    below 0.6 of the threshold belong to none, nor does what has no part in the mask."""
    scale = threshold / 0.5
    probability = np.zeros((40, 120), np.float32)
    for left, core, rim in ((5, 0.96, 0.46), (25, 0.62, 0.46), (45, 0.62, 0.32), (65, 0.62, 0.29)):
        probability[10:22, left : left + 12] = rim * scale
        probability[13:19, left + 3 : left + 9] = core * scale
    probability[10:22, 85:97] = 0.46 * scale
    x, y = np.meshgrid(2 * np.arange(60) + 0.5, 2 * np.arange(20) + 0.5)
    centres = np.array([10.5, 30.5, 50.5, 70.5, 90.5])
    nearest = centres[np.abs(x[..., None] - centres).argmin(-1)]
    maps = ObjectMaps(np.stack([nearest - x, 15.5 - y]).astype(np.float32) / 2, None)
    mask = probability >= threshold

    def areas(**choices: object) -> list[int]:
        known, given = CountCalibration(), {"threshold": threshold, **choices}
        return find_objects(mask, probability, known, **given).area.tolist()  # type: ignore[arg-type]

    assert areas(maps=maps) == [36, 144, 144, 36]
    assert areas() == [36, 36, 36, 36]
    # Of its fewest pixels the mask must have half.
    assert areas(maps=maps, minimum_area=73) == []
    assert areas(maps=maps, minimum_area=72) == [144, 144]
