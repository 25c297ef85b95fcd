from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.media.colour import hsv_to_rgb, hue_swap, in_hue_range, rgb_to_hsv

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3)))
HUES = st.tuples(st.integers(0, 179), st.integers(0, 179))
QUICK = settings(max_examples=50)


def value_and_chroma(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high, low = image.max(axis=-1).astype(int), image.min(axis=-1).astype(int)
    return high, high - low


def test_green_becomes_yellow():
    # Hue 60 is pure green; middles 60 and 30: half way round to red, yellow.
    green = np.full((1, 1, 3), (0, 200, 0), np.uint8)
    assert hue_swap(green, (41, 79), (21, 39)).tolist() == [[[200, 200, 0]]]


def test_the_shift_wraps_round_the_circle():
    red, blue = np.array([[[255, 0, 0]]], np.uint8), np.array([[[0, 0, 255]]], np.uint8)
    # From the middle 0 of a range over the seam to 120: blue.
    assert hue_swap(red, (170, 10), (110, 130)).tolist() == blue.tolist()
    assert hue_swap(blue, (110, 130), (170, 10)).tolist() == red.tolist()


@QUICK
@given(IMAGES, HUES, HUES)
def test_pixels_outside_the_source_stay(image, source, destin):
    outside = ~in_hue_range(rgb_to_hsv(image)[..., 0], source)
    np.testing.assert_array_equal(hue_swap(image, source, destin)[outside], image[outside])


@QUICK
@given(IMAGES, HUES, HUES)
def test_value_and_saturation_stay(image, source, destin):
    swapped = hue_swap(image, source, destin)
    value, chroma = value_and_chroma(image)
    new_value, new_chroma = value_and_chroma(swapped)
    assert np.abs(value - new_value).max() <= 1
    assert np.abs(chroma - new_chroma).max() <= 1


@QUICK
@given(IMAGES, HUES)
def test_a_range_onto_itself_changes_nothing(image, hues):
    np.testing.assert_array_equal(hue_swap(image, hues, hues), image)


@QUICK
@given(IMAGES, st.integers(0, 179), st.integers(0, 179))
def test_there_and_back_over_the_whole_circle(image, a, b):
    whole = (0, 179)
    there = hue_swap(image, whole, (a, a))
    back = hue_swap(there, whole, (179 - a, 179 - a))
    # Two roundings in each channel, no more.
    assert np.abs(back.astype(int) - image).max() <= 2


@QUICK
@given(IMAGES, HUES, HUES)
def test_the_given_image_is_not_changed(image, source, destin):
    before = image.copy()
    hue_swap(image, source, destin)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("bounds", "inside"), [((10, 20), [10, 15, 20]), ((170, 5), [170, 179, 0, 5])]
)
def test_ranges_include_their_ends(bounds, inside):
    hues = np.arange(180, dtype=np.uint8)
    chosen = set(hues[in_hue_range(hues, bounds)].tolist())
    assert chosen.issuperset(inside)
    assert len(chosen) == (bounds[1] - bounds[0]) % 180 + 1


def test_hsv_of_pure_colours():
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]]], np.uint8)
    hsv = rgb_to_hsv(rgb)
    assert hsv.tolist() == [[[0, 255, 255], [60, 255, 255], [120, 255, 255], [0, 0, 128]]]
    np.testing.assert_array_equal(hsv_to_rgb(hsv), rgb)
