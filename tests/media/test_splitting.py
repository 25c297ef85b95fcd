from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.media.splitting import inner_width, split_mask


def _heads(centres: list[tuple[int, int]], axes: tuple[int, int] = (24, 10)) -> np.ndarray:
    mask = np.zeros((160, 200), np.uint8)
    for x, y in centres:
        cv2.ellipse(mask, (x, y), axes, 20.0, 0, 360, 1, -1)
    return mask > 0


def test_touching_heads_are_told_apart_and_a_long_one_stays_whole() -> None:
    assert split_mask(_heads([(60, 60)])).max() == 1
    assert split_mask(_heads([(60, 60), (102, 72)])).max() == 2
    assert split_mask(_heads([(60, 60)], axes=(55, 9))).max() == 1


def test_the_border_between_touching_heads_is_where_they_touch() -> None:
    alone = _heads([(60, 60)])
    labels = split_mask(_heads([(60, 60), (102, 72)]))
    first = labels == labels[60, 60]
    assert (first & alone).sum() / (first | alone).sum() > 0.95


def test_many_discs_in_a_chain_are_counted() -> None:
    mask = np.zeros((60, 320), np.uint8)
    for x in range(20, 300, 28):
        cv2.circle(mask, (x, 30), 15, 1, -1)
    assert split_mask(mask > 0).max() == 10
    # A width of another scale is corrected by what the mask shows.
    assert split_mask(mask > 0, width=300.0).max() == 10


def test_a_thin_object_beside_a_thick_one_is_not_lost() -> None:
    mask = np.zeros((80, 80), bool)
    mask[10:70, 10:60] = True
    mask[30:40, 62:65] = True
    assert split_mask(mask, width=40.0).max() == 2


def test_specks_are_not_counted() -> None:
    mask = _heads([(60, 60)])
    mask[150:153, 150:153] = True
    assert split_mask(mask).max() == 2
    assert split_mask(mask, minimum_area=10).max() == 1


@pytest.mark.parametrize(("row", "count"), [(157, 2), (150, 1)])
def test_of_what_the_edge_cuts_any_part_counts(row: int, count: int) -> None:
    mask = _heads([(60, 60)])
    mask[row : row + 3, 150:160] = True
    usual = {"width": 20.0, "area": 750.0}
    assert split_mask(mask, minimum_area=30, **usual).max() == count
    assert split_mask(mask, minimum_area=31, **usual).max() == 1


def test_specks_do_not_tell_how_wide_an_object_is() -> None:
    mask = _heads([(60, 60), (102, 72), (60, 110), (140, 120)])
    alone = split_mask(mask)
    for row in range(4, 40, 6):
        mask[row, 4:196:24] = True
    specked = split_mask(mask, minimum_area=1)
    assert specked.max() == alone.max() + 48
    known = split_mask(mask, width=inner_width(_heads([(60, 60)])), area=700.0)
    assert known.max() == alone.max()


def test_nothing_and_everything() -> None:
    assert split_mask(np.zeros((20, 30), bool)).max() == 0
    assert (split_mask(np.ones((20, 30), bool)) == 1).all()


def test_inner_width_is_that_of_the_largest_disc() -> None:
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (30, 30), 12, 1, -1)
    mask[28:33, 5:55] = 1
    assert inner_width(mask > 0) == pytest.approx(25, abs=1.5)


@pytest.mark.parametrize("edge", [np.s_[0, :], np.s_[:, -1], np.s_[0, 0]])
def test_objects_on_the_edge_of_the_frame(edge: object) -> None:
    mask = np.zeros((20, 30), bool)
    mask[edge] = True  # type: ignore[index]
    assert ((split_mask(mask) > 0) == mask).all()


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.floats(0.05, 0.95),
    usual=st.none() | st.floats(0.5, 60),
)
def test_every_object_pixel_has_one_number_and_components_only_split(
    seed: int, height: int, width: int, share: float, usual: float | None
) -> None:
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    mask = cv2.blur(noise, (3, 3)) < np.quantile(cv2.blur(noise, (3, 3)), share)
    labels = split_mask(mask, width=usual)
    assert ((labels > 0) == mask).all()
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1))
    components = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[1]
    for number in range(1, labels.max() + 1):
        assert len(np.unique(components[labels == number])) == 1
