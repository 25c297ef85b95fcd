"""Optical flow, and whether neighbouring frames agree."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from dvos.prediction.predictor import FramePrediction
from dvos.selftraining.filter import (
    flow_between,
    seen_in,
    temporal_consistency,
    warp,
    with_consistency,
)

SIZE = (64, 80)


def texture(size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.GaussianBlur(noise, (0, 0), 1.5))


def grey_of(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def constant_flow(right: float, down: float) -> np.ndarray:
    return np.broadcast_to(np.array([right, down], np.float32), (*SIZE, 2)).copy()


def test_warping_fetches_from_where_a_pixel_moves_to() -> None:
    values = np.arange(SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    moved = warp(values, constant_flow(3, -2))
    np.testing.assert_allclose(moved[2:, :-3], values[:-2, 3:])
    assert np.isnan(moved[:2]).all()
    assert np.isnan(moved[:, -3:]).all()


def test_a_flow_and_its_inverse_are_seen_except_outside() -> None:
    seen = seen_in(constant_flow(4, 0), constant_flow(-4, 0))
    assert seen[:, :-4].all()
    assert not seen[:, -4:].any()
    assert not seen_in(constant_flow(4, 0), constant_flow(4, 0)).any()


def test_the_flow_of_a_shifted_texture() -> None:
    scene = texture((80, 100))
    one, other = scene[8:72, 10:90], scene[6:70, 7:87]
    flow = flow_between(grey_of(one), grey_of(other))
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [3, 2], atol=0.1)


def test_images_too_small_for_flow_are_taken_as_still() -> None:
    assert not flow_between(np.zeros((8, 40), np.uint8), np.ones((8, 40), np.uint8)).any()


def test_consistency_is_the_share_of_the_neighbours_that_see_a_pixel() -> None:
    mean = np.full(SIZE, 0.9, np.float32)
    still = constant_flow(0, 0)
    same, other = mean * 0.8, mean * 0.1
    assert (temporal_consistency(mean, [(same, still, still)]) == 1).all()
    assert (temporal_consistency(mean, [(other, still, still)]) == 0).all()
    both = [(same, still, still), (other, still, still)]
    assert (temporal_consistency(mean, both) == 0.5).all()
    # The second neighbour has moved by 5 and sees nothing of the last columns.
    both[1] = (other, constant_flow(5, 0), constant_flow(-5, 0))
    found = temporal_consistency(mean, both)
    assert (found[:, :-5] == 0.5).all()
    assert (found[:, -5:] == 1).all()
    assert np.isnan(temporal_consistency(mean, [])).all()


def viewed(index: int, image: np.ndarray, mean: np.ndarray) -> FramePrediction:
    return FramePrediction(index, math.nan, f"f{index}", image, mean, mean >= 0.5)


def test_an_object_that_moves_with_the_picture_agrees_with_itself() -> None:
    scene = texture((64, 120))
    truth = np.zeros((64, 120), np.float32)
    truth[20:44, 40:70] = 1
    frames = [
        viewed(k, np.ascontiguousarray(scene[:, 4 * k : 4 * k + 80]), truth[:, 4 * k : 4 * k + 80])
        for k in range(3)
    ]
    _, middle = list(with_consistency(frames, neighbours=[-1, 1], wanted=lambda k: True))[1]
    assert np.nanmean(middle) > 0.97
    # Without the flow the strips that it moved over would disagree.
    flickering = [
        frames[0],
        frames[1],
        viewed(2, frames[2].image, np.zeros_like(frames[2].probability)),
    ]
    _, middle = list(with_consistency(flickering, neighbours=[-1, 1], wanted=lambda k: True))[1]
    inside = middle[24:40, 42:60]
    assert np.median(inside) == 0.5


@pytest.mark.parametrize("neighbours", [[], [-1], [1], [-1, 1], [-3, 2]])
def test_every_frame_comes_once_in_order_with_the_neighbours_there_are(neighbours) -> None:
    image, mean = texture(), np.full(SIZE, 0.9, np.float32)
    indices = [0, 1, 2, 4, 5, 6]  # frame 3 could not be read
    found = list(
        with_consistency(
            [viewed(k, image, mean) for k in indices],
            neighbours=neighbours,
            wanted=lambda k: k != 5,
        )
    )
    assert [frame.frame_index for frame, _ in found] == indices
    for frame, consistency in found:
        index = frame.frame_index
        there = [index + offset for offset in neighbours if index + offset in indices]
        if index == 5:
            assert consistency is None
        elif there:
            assert np.nanmin(consistency) == 1
        else:
            assert np.isnan(consistency).all()


def test_frames_are_not_hoarded() -> None:
    given = 0

    def frames():
        nonlocal given
        for k in range(20):
            given += 1
            yield viewed(k, texture(), np.zeros(SIZE, np.float32))

    for taken, _ in enumerate(
        with_consistency(frames(), neighbours=[-1, 2], wanted=lambda k: False)
    ):
        assert given <= taken + 3
