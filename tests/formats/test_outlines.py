"""Outlines and run lengths come back as the very same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from dvos.formats.labels import Region, cropped, joined
from dvos.formats.raster import (
    box,
    bridged,
    decode_region,
    ellipse,
    encode_region,
    fill,
    outlines,
    ring,
)

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@settings(max_examples=150)
@given(MASKS)
def test_any_mask_comes_back_from_outlines_bridges_and_runs(mask: np.ndarray) -> None:
    inner = cropped(mask)
    size = (mask.shape[0] + 3, mask.shape[1] + 2)
    region = Region(inner.top + 1, inner.left + 2, inner.mask)
    if not mask.any():
        assert outlines(region) == []
        assert (
            encode_region(region, size)
            == coco.encode(np.zeros(size, np.uint8, "F"))["counts"].decode()
        )
        return
    whole = region.whole(size)
    parts = outlines(region)
    assert len(parts) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    back = joined(fill([ring(one) for one in part], size) for part in parts)
    assert (back.whole(size) == whole).all()
    for one in (each for part in parts for each in part):
        assert len({tuple(corner) for corner in one.tolist()}) == len(one)
    scale = np.array(size[::-1])
    shares = np.array([[float(f"{x:.9g}") for x in row] for row in bridged(region)[0] / scale])
    assert (fill([ring(shares * scale)], size).whole(size) == whole).all()
    text = encode_region(region, size)
    assert text == coco.encode(np.asfortranarray(whole, np.uint8))["counts"].decode()
    for coded in (text, text.encode()):
        assert (decode_region(coded, size).whole(size) == whole).all()


@settings(max_examples=50)
@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=12), st.booleans())
def test_long_runs_come_back(runs: list[int], first: bool) -> None:
    mask = np.repeat((np.arange(len(runs)) % 2 == 1) ^ first, runs)[None]
    region = decode_region(encode_region(cropped(mask), mask.shape), mask.shape)
    assert (region.whole(mask.shape) == mask).all()


def test_the_text_is_that_of_the_coco_tools() -> None:
    # Worked out by hand after maskApi.c: the runs 2, 3, 1, 4, 90 as 2, 3, 1, 1, 89.
    column = np.repeat([False, True, False, True, False], [2, 3, 1, 4, 90])[:, None]
    assert encode_region(cropped(column), column.shape) == "2311i2"
    # Masks are read column by column and begin with the run of zeros.
    mask = np.array([[True, False], [True, False]])
    assert encode_region(cropped(mask), mask.shape) == "022"
    assert decode_region([0, 2, 2], (2, 2)).whole((2, 2)).tolist() == mask.tolist()


@pytest.mark.parametrize("coded", ["", "2", "9", "P", "\x10", "oooooooooo0", [5, 2], [-1, 7], 3])
def test_what_is_no_mask_of_the_size_is_refused(coded: object) -> None:
    with pytest.raises(ValueError, match=r"runs|run length"):
        decode_region(coded, (2, 3))


def test_a_pixel_belongs_to_a_polygon_that_holds_its_centre() -> None:
    square = ring([[1.4, 1.4], [3.6, 1.4], [3.6, 3.6], [1.4, 3.6]])
    assert np.argwhere(fill([square], (6, 6)).whole((6, 6))).tolist() == [
        [row, column] for row in (1, 2, 3) for column in (1, 2, 3)
    ]
    hole = box(2, 2, 1, 1)
    assert fill([square, hole], (6, 6)).area == 8
    # Of several parts that overlap nothing is lost.
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]]
    assert joined(fill([ring(part)], (4, 4)) for part in parts).area == 7


def test_areas_are_those_of_geometry() -> None:
    assert fill([ellipse(100, 80, 60, 40, 30)], (200, 200)).area == pytest.approx(
        np.pi * 60 * 40, rel=2e-3
    )
    # Turned by a right angle about the upper left corner.
    turned = fill([box(200, 100, 100, 50, 90)], (500, 1000))
    assert (turned.top, turned.left, turned.mask.shape) == (100, 150, (100, 50))
    assert turned.mask.all()


def test_what_is_thinner_than_a_pixel_is_kept_and_what_lies_outside_is_not() -> None:
    sliver = fill([ring([[2.1, 2.1], [2.2, 2.1], [2.2, 5.9]])], (8, 8))
    assert np.argwhere(sliver.whole((8, 8))).tolist() == [[2, 2], [5, 2]]
    assert fill([box(-20, -20, 10, 10)], (8, 8)).area == 0
    assert fill([box(-20, -20, 100, 100)], (8, 8)).area == 64


@pytest.mark.parametrize(
    "points",
    [[1, 2, 3], [[0, 0], [1, 1]], [[0, 0], [1, "x"], [2, 2]], [0, 0, 1, 0, float("nan"), 1]],
)
def test_what_is_no_polygon_is_told(points: list) -> None:
    with pytest.raises(ValueError, match="polygon"):
        ring(points)
    with pytest.raises(ValueError, match="far out"):
        ring([[0, 0], [1e9, 0], [0, 1]])
