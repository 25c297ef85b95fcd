"""Outlines lie where colours change, and where clicks say, not where a coarse logit ends."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvos.labelling.proposals import corrected, outlined, region_at

SIDE, PLACE = 60, (30, 30)


def _disc(radius: int, centre: tuple[int, int] = PLACE) -> np.ndarray:
    return cv2.circle(np.zeros((SIDE, SIDE), np.uint8), centre[::-1], radius, 1, -1) > 0


def _logit(radius: int) -> np.ndarray:
    return np.where(_disc(radius), 2.0, -2.0).astype(np.float32)


def _colours(bright: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, (SIDE, SIDE, 3))
    return (20 + noise + bright * _disc(12)[..., None]).astype(np.float32)


@pytest.mark.parametrize("radius", [8, 12, 14])
def test_a_region_too_small_or_too_large_ends_where_the_colours_change(radius: int) -> None:
    everywhere = np.ones((SIDE, SIDE), bool)
    found = outlined(_logit(radius), _colours(40), everywhere, PLACE, 10)
    assert np.count_nonzero(found ^ _disc(12)) <= 4


def test_where_colours_hardly_differ_the_logit_holds() -> None:
    found = outlined(_logit(9), _colours(1), np.ones((SIDE, SIDE), bool), PLACE, 10)
    assert np.array_equal(found, _disc(9))


def test_what_is_not_free_is_neither_taken_nor_looked_at() -> None:
    other = _disc(12, (30, 52))
    colours = _colours(40)
    colours[other] = colours[30, 30]
    free = ~other
    found = outlined(_logit(16), colours, free, PLACE, 10)
    assert not (found & other).any()
    assert np.count_nonzero(found ^ (_disc(12) & free)) <= 4


def test_logits_agree_with_every_click_and_stay_as_they_are_far_away() -> None:
    clicks = {(30, 30): True, (10, 10): False, (30, 36): False}
    logit = corrected(_logit(12), clicks, 3.0)
    assert all((logit[place] > 0) is np.bool_(take) for place, take in clicks.items())
    assert logit[55, 55] == pytest.approx(-2.0)
    assert np.abs(corrected(9 * _logit(12), {}, 3.0)).max() == 4.0


def test_a_region_has_no_holes_but_those_that_are_not_free() -> None:
    ring = _disc(12) & ~_disc(4)
    assert np.array_equal(region_at(ring, np.ones((SIDE, SIDE), bool), (30, 22)), _disc(12))
    assert np.array_equal(region_at(ring, ~_disc(4), (30, 22)), ring)
