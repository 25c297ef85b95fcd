"""Nearest points of the plane, by a grid with cells of about one point each.

Centres of alike objects lie evenly: a grid over 2,000 of them is made in a fifth of the time that a
k-d tree takes, and searched in a third, with the same results.
"""

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import inlined, jit

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

#: Of a cell: how far outside it rounding may leave one of its points, at most.
_SLACK = 1e-9
#: The lowest x and y, the side of a cell, columns and rows of cells, where each cell starts among
#: the points in order of their cells, and that order.
_Cells = tuple[Doubles, float, tuple[int, int], Places, Places]


class Grid:
    """Points, float64 (N, 2), sorted into cells; all of them are finite."""

    def __init__(self, points: Doubles) -> None:
        self._points = np.ascontiguousarray(points, np.float64)
        self._cells = _sorted(self._points)

    def nearest(
        self, places: Doubles, count: int, within: float = np.inf
    ) -> tuple[Doubles, Places]:
        """Of each of the ``places`` (M, 2), finite, the nearest points, nearer than ``within``.

        Given are their distances and which they are, (M, count) each, by rising distance; infinity
        and N stand where there are fewer.
        """
        places = np.ascontiguousarray(places, np.float64)
        return _nearest(self._points, self._cells, places, count, within)


@jit
def _sorted(points: Doubles) -> _Cells:
    low, high = np.zeros(2), np.zeros(2)
    for axis in range(2 if len(points) else 0):
        low[axis] = high[axis] = points[0, axis]
        for n in range(1, len(points)):
            low[axis] = min(low[axis], points[n, axis])
            high[axis] = max(high[axis], points[n, axis])
    width, height = high - low
    # No more cells than some three times the points, though all may lie on a line.
    count = max(len(points), 1)
    cell = max(np.sqrt(width * height / count), max(width, height) / count)
    cell = cell if cell > 0 else 1.0
    columns, rows = int(width / cell) + 1, int(height / cell) + 1
    of_point = np.empty(len(points), np.intp)
    starts = np.zeros(rows * columns + 1, np.intp)
    for n in range(len(points)):
        column = min(int((points[n, 0] - low[0]) / cell), columns - 1)
        row = min(int((points[n, 1] - low[1]) / cell), rows - 1)
        of_point[n] = row * columns + column
        starts[of_point[n] + 1] += 1
    starts = np.cumsum(starts)
    order, filled = np.empty(len(points), np.intp), starts[:-1].copy()
    for n in range(len(points)):
        order[filled[of_point[n]]] = n
        filled[of_point[n]] += 1
    return low, cell, (columns, rows), starts, order


@jit
def _nearest(
    points: Doubles,
    cells: _Cells,
    places: Doubles,
    count: int,
    within: float,
) -> tuple[Doubles, Places]:
    corner, cell, (columns, rows), starts, order = cells
    away = np.full((len(places), count), np.inf)
    found = np.full((len(places), count), len(points))
    for m in range(len(places)):
        x, y = places[m, 0] - corner[0], places[m, 1] - corner[1]
        column = int(min(max(0.0, x / cell), columns - 1.0))
        row = int(min(max(0.0, y / cell), rows - 1.0))
        # Cells around the place, ring after ring, until what lies beyond is too far.
        ring, beyond, most = 0, 0.0, within * within
        while beyond * beyond < most:
            left, right, top, below = column - ring, column + ring, row - ring, row + ring
            for i in range(max(top, 0), min(below + 1, rows)):
                # Of the rows between, the first and the last cell alone are new.
                step = 1 if i in (top, below) else max(right - left, 1)
                for j in range(left, right + 1, step):
                    if 0 <= j < columns:
                        start, end = starts[i * columns + j], starts[i * columns + j + 1]
                        most = _look(points, order[start:end], places[m], away[m], found[m], most)
            beyond = min(_beyond(x, left, right, columns, cell), _beyond(y, top, below, rows, cell))
            ring += 1
    return np.sqrt(away), found


@inlined
def _look(
    points: Doubles, cell: Places, place: Doubles, near: Doubles, which: Places, most: float
) -> float:
    """Put the points of a cell among the nearest; the square distance that others must be below."""
    for n in cell:
        dx, dy = points[n, 0] - place[0], points[n, 1] - place[1]
        distance = dx * dx + dy * dy
        if distance >= most:
            continue
        last = len(near) - 1
        while last > 0 and near[last - 1] > distance:
            near[last], which[last] = near[last - 1], which[last - 1]
            last -= 1
        near[last], which[last] = distance, n
        most = min(most, near[-1])
    return most


@inlined
def _beyond(x: float, first: int, last: int, count: int, cell: float) -> float:
    """How far at least what lies before the first cell or after the last is, along an axis."""
    before = x - first * cell if first > 0 else np.inf
    after = (last + 1) * cell - x if last < count - 1 else np.inf
    return max(0.0, min(before, after) - _SLACK * cell)
