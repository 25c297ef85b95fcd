"""The grid of points finds what comparing all with all finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvos.prediction.tracks.nearest import Grid

NUMBER = st.floats(-300, 300, allow_nan=False, width=32)
POINTS = st.lists(st.tuples(NUMBER, NUMBER), max_size=40)
WITHIN = st.one_of(st.just(np.inf), st.floats(0, 500))


def _expected(
    points: NDArray[np.float64], places: NDArray[np.float64], count: int, within: float
) -> NDArray[np.float64]:
    """Distances of the nearest points of each place, infinite where there are fewer."""
    difference = places[:, None] - points[None]
    squares = (difference**2).sum(axis=2)
    squares = np.sort(np.where(squares < within * within, squares, np.inf), axis=1)
    missing = np.full((len(places), count), np.inf)
    return np.sqrt(np.concatenate([squares, missing], axis=1)[:, :count])


def _checked(
    points: NDArray[np.float64], places: NDArray[np.float64], count: int, within: float
) -> None:
    away, which = Grid(points).nearest(places, count, within)
    np.testing.assert_array_equal(away, _expected(points, places, count, within))
    there = np.isfinite(away)
    assert (which[~there] == len(points)).all()
    row, rank = np.nonzero(there)
    difference = points[which[row, rank]] - places[row]
    np.testing.assert_array_equal(np.sqrt((difference**2).sum(axis=1)), away[row, rank])
    for found, of_place in zip(which, there, strict=True):
        assert len(set(found[of_place].tolist())) == of_place.sum()


@given(POINTS, POINTS, st.integers(1, 9), WITHIN)
def test_nearest_points_are_those_of_comparing_all_with_all(
    points: list[tuple[float, float]],
    places: list[tuple[float, float]],
    count: int,
    within: float,
) -> None:
    _checked(
        *(np.reshape(one, (-1, 2)).astype(np.float64) for one in (points, places)), count, within
    )


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 2)),
        np.full((7, 2), 3.5),
        np.stack([np.linspace(0, 90, 31), np.full(31, 4.0)], axis=1),
        np.stack([np.full(31, 4.0), np.linspace(0, 90, 31)], axis=1),
        np.concatenate([np.random.default_rng(1).uniform(0, 5, (200, 2)), [[9000.0, -4000.0]]]),
        np.stack(np.meshgrid(np.arange(12.0), np.arange(9.0)), axis=-1).reshape(-1, 2) * 10,
    ],
    ids=["none", "one place", "a row", "a column", "a crowd and one far off", "a lattice"],
)
@pytest.mark.parametrize("within", [np.inf, 12.0, 0.0])
def test_points_may_lie_anyhow(points: NDArray[np.float64], within: float) -> None:
    places = np.random.default_rng(2).uniform(-50, 150, (40, 2))
    places = np.concatenate([places, points[:20], [[1e6, -1e6]]])
    for count in (1, 2, 8):
        _checked(points, places, count, within)


def test_of_points_as_near_the_same_ones_are_found_each_time() -> None:
    points = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    found = [Grid(points).nearest(np.zeros((1, 2)), 2)[1].tolist() for _ in range(5)]
    assert found == [found[0]] * 5
