from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.prediction.tiles import Tile, tile_grid, tile_weight


@settings(max_examples=50)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    tile=st.integers(2, 5),
    overlap=st.integers(0, 1),
)
def test_tiles_cover_the_frame_and_lie_inside_it(
    height: int, width: int, tile: int, overlap: int
) -> None:
    side, shared = 32 * tile, 32 * overlap
    cover = np.zeros((height, width), int)
    weights = np.zeros((height, width))
    for one in tile_grid((height, width), side, shared):
        assert one.top % 32 == one.left % 32 == 0
        assert 0 < one.height <= side
        assert 0 < one.width <= side
        place = np.s_[one.top : one.top + one.height, one.left : one.left + one.width]
        cover[place] += 1
        weights[place] += tile_weight(one, (height, width), shared)
    assert cover.min() >= 1
    assert weights.min() > 0


def test_a_frame_that_fits_is_one_tile() -> None:
    assert tile_grid((60, 64), 64, 32) == [Tile(0, 0, 60, 64)]
    assert tile_grid((600, 640), 0, 0) == [Tile(0, 0, 600, 640)]


def test_weights_fall_smoothly_inside_and_not_at_the_frame_edge() -> None:
    size = (128, 224)
    first = tile_weight(Tile(0, 0, 128, 128), size, 32)
    assert (first[:, :96] == 1).all()
    steps = np.abs(np.diff(first[0, 96:]))
    assert steps.max() < 0.08
    assert first[0, -1] < 1e-6
    assert (tile_weight(Tile(0, 96, 128, 128), size, 32)[:, 32:] == 1).all()


def test_sides_that_do_not_fit_the_network() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        tile_grid((100, 100), 50, 0)
