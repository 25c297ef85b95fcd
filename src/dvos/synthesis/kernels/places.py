"""Finding places for sprites on a coarse map of what is covered."""

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit
from dvos.synthesis import Bools, Bytes, Floats, Ints

CELL = 4  # side of a cell of the coarse map, px


@jit
def footprints(
    texels: Bytes,  # The atlas (P, 4)
    source: Ints,  # Per sprite (N, 3): first texel, height, width in the atlas
    inverse: Floats,  # Per sprite (N, 2, 2): cells from the centre to texels
    radius: Ints,  # Per sprite (N,): half side of the square of cells to look at
    first: Ints,  # Per sprite (N,): where its list starts in ``cells``
    cells: NDArray[np.int16],  # Receives (row, column) pairs
) -> Ints:
    """List the cells each sprite covers, from its centre's; their numbers (N,), at least 1."""
    counts = np.empty(source.shape[0], np.int64)
    for n in range(source.shape[0]):
        base, height, width = source[n]
        count = 0
        for r in range(-radius[n], radius[n] + 1):
            for c in range(-radius[n], radius[n] + 1):
                row = int(np.floor(inverse[n, 0, 0] * r + inverse[n, 0, 1] * c + height * 0.5))
                col = int(np.floor(inverse[n, 1, 0] * r + inverse[n, 1, 1] * c + width * 0.5))
                if row < 0 or col < 0 or row >= height or col >= width:
                    continue
                if texels[base + row * width + col, 3] > 128:
                    cells[first[n] + count, 0] = r
                    cells[first[n] + count, 1] = c
                    count += 1
        if count == 0:
            cells[first[n]] = 0
            count = 1
        counts[n] = count
    return counts


@jit
def stamp(covered: Bytes, cells: NDArray[np.int16], row: int, column: int, mark: bool) -> float:
    """Share of one sprite's cells that were covered; with ``mark`` all are from now on."""
    total = 0
    for i in range(cells.shape[0]):
        r = cells[i, 0] + row
        c = cells[i, 1] + column
        if 0 <= r < covered.shape[0] and 0 <= c < covered.shape[1]:
            total += covered[r, c]
            if mark:
                covered[r, c] = 1
    return float(total / cells.shape[0])


@jit
def place(
    covered: Bytes,  # Coarse map (rows, columns), 1 = covered; updated
    origin: Floats,  # Frame (y, x) of the map's corner
    area: Floats,  # Per sprite (N, 4): y0, y1, x0, x1 its centre may lie in
    cells: NDArray[np.int16],  # Cells of all footprints
    first: Ints,  # Per sprite (N,): start of its cells
    counts: Ints,  # Per sprite (N,): number of its cells
    marks: Bools,  # Per sprite (N,): whether it covers the map for those after it
    draws: Floats,  # Uniform numbers (N, tries, 3)
    clump: float,  # Share of sprites that are placed beside an earlier one
    radius: Floats,  # Per sprite (N,): how near, px
    overlap: float,  # A place is taken at once when less than this is covered
) -> Floats:
    """Place sprites one after another, each at the best of its tries: centres (N, 2), y and x."""
    places = np.empty((first.shape[0], 2))
    for n in range(first.shape[0]):
        mine = cells[first[n] : first[n] + counts[n]]
        best = 2.0
        clumps = n > 0 and draws[n, 0, 2] < clump
        beside = int(draws[n, 0, 2] / clump * n) if clumps else -1
        for k in range(draws.shape[1]):
            y = area[n, 0] + (area[n, 1] - area[n, 0]) * draws[n, k, 0]
            x = area[n, 2] + (area[n, 3] - area[n, 2]) * draws[n, k, 1]
            if beside >= 0:
                y = places[beside, 0] + (2 * draws[n, k, 0] - 1) * radius[n]
                x = places[beside, 1] + (2 * draws[n, k, 1] - 1) * radius[n]
                y = min(max(y, area[n, 0]), area[n, 1])
                x = min(max(x, area[n, 2]), area[n, 3])
            row = int(np.floor((y - origin[0]) / CELL))
            column = int(np.floor((x - origin[1]) / CELL))
            share = stamp(covered, mine, row, column, False)
            if share < best:
                best = share
                places[n, 0], places[n, 1] = y, x
            if best < overlap:
                break
        if marks[n]:
            row = int(np.floor((places[n, 0] - origin[0]) / CELL))
            column = int(np.floor((places[n, 1] - origin[1]) / CELL))
            stamp(covered, mine, row, column, True)
    return places
