from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.prediction.instances import count_objects, split_objects


def _heads(centres: list[tuple[int, int]], axes: tuple[int, int] = (24, 10)) -> np.ndarray:
    mask = np.zeros((160, 200), np.uint8)
    for x, y in centres:
        cv2.ellipse(mask, (x, y), axes, 20.0, 0, 360, 1, -1)
    return mask > 0


def test_separate_objects_and_their_areas() -> None:
    mask = np.zeros((50, 60), bool)
    mask[5:15, 5:15] = True
    mask[30:40, 20:50] = True
    found = count_objects(mask)
    assert found.count == 2
    assert found.mean_area == found.median_area == 200.0


def test_touching_heads_are_told_apart_and_a_long_one_stays_whole() -> None:
    assert count_objects(_heads([(60, 60)])).count == 1
    assert count_objects(_heads([(60, 60), (102, 72)])).count == 2
    assert count_objects(_heads([(60, 60)], axes=(55, 9))).count == 1


def test_specks_are_not_counted() -> None:
    mask = _heads([(60, 60)])
    mask[150:153, 150:153] = True
    assert count_objects(mask).count == 2
    assert count_objects(mask, minimum_area=10).count == 1


def test_nothing_and_everything() -> None:
    assert count_objects(np.zeros((20, 30), bool)).count == 0
    full = split_objects(np.ones((20, 30), bool))
    assert (full == 1).all()


@pytest.mark.parametrize("edge", [np.s_[0, :], np.s_[:, -1], np.s_[0, 0]])
def test_objects_on_the_edge_of_the_frame(edge: object) -> None:
    mask = np.zeros((20, 30), bool)
    mask[edge] = True
    assert (split_objects(mask) == mask).all()


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.floats(0.05, 0.95),
)
def test_every_object_pixel_has_one_number_and_components_only_split(
    seed: int, height: int, width: int, share: float
) -> None:
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    mask = cv2.blur(noise, (3, 3)) < np.quantile(cv2.blur(noise, (3, 3)), share)
    labels = split_objects(mask)
    assert ((labels > 0) == mask).all()
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1))
    components = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[1]
    for number in range(1, labels.max() + 1):
        assert len(np.unique(components[labels == number])) == 1
