"""The cheapest links between tracks and objects, of those within reach of one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dvos.compiling import jit

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

#: Costs stand above zero in a sparse matrix, where zero is "no link".
_ABOVE = 1.0


def assign(
    rows: Places, columns: Places, costs: Doubles, unlinked: float = 1.0
) -> tuple[Places, Places]:
    """Choose links of the least total cost; a row without a link costs ``unlinked``.

    Links that no better choice could do without are taken first: row i and column j, each the
    other's best, where the cost of their link and of one row without any is at most that of the
    second best links of both. The rest, usually little, is solved exactly as a sparse assignment
    (LAPJVsp, Jonker and Volgenant 1987), in which each row has a column of its own for "none".

    Rows and columns of possible links, no pair twice, and of the links taken, by rising row, are
    (E,); costs are at least 0, and links that cost ``unlinked`` or more are never taken.
    """
    open_ = costs < unlinked
    rows, columns, costs = rows[open_], columns[open_], costs[open_]
    if not len(costs):
        return rows, columns
    best_of_row, second_of_row = _two_best(rows, costs, unlinked)
    best_of_column, second_of_column = _two_best(columns, costs, unlinked)
    links = best_of_row[best_of_row >= 0]
    links = links[best_of_column[columns[links]] == links]
    alternative = second_of_row[rows[links]] + second_of_column[columns[links]]
    links = links[costs[links] + unlinked <= alternative]
    taken_rows, taken_columns = (
        np.zeros(len(one), np.bool_) for one in (best_of_row, best_of_column)
    )
    taken_rows[rows[links]] = taken_columns[columns[links]] = True
    rest = ~(taken_rows[rows] | taken_columns[columns])
    rows_left, columns_left = _solved(rows[rest], columns[rest], costs[rest], unlinked)
    linked = np.concatenate([rows[links], rows_left])
    order = np.argsort(linked, kind="stable")
    return linked[order], np.concatenate([columns[links], columns_left])[order]


@jit
def _two_best(groups: Places, costs: Doubles, unlinked: float) -> tuple[Places, Doubles]:
    """Of each group the place of its cheapest link (-1: none) and the cost of the next one."""
    count = groups.max() + 1
    best, lowest, second = np.full(count, -1), np.full(count, unlinked), np.full(count, unlinked)
    for link in range(len(costs)):
        group, cost = groups[link], costs[link]
        if cost < lowest[group]:
            best[group], lowest[group], second[group] = link, cost, lowest[group]
        elif cost < second[group]:
            second[group] = cost
    return best, second


def _solved(
    rows: Places, columns: Places, costs: Doubles, unlinked: float
) -> tuple[Places, Places]:
    if not len(costs):
        return rows, columns
    own_rows, row_of = np.unique(rows, return_inverse=True)
    own_columns, column_of = np.unique(columns, return_inverse=True)
    count, dummies = len(own_columns), np.arange(len(own_rows))
    ends = np.append(row_of, dummies), np.append(column_of, count + dummies)
    weights = np.append(costs, np.full(len(dummies), unlinked)) + _ABOVE
    graph = csr_array((weights, ends), shape=(len(dummies), count + len(dummies)))
    found_rows, found_columns = min_weight_full_bipartite_matching(graph)
    real = found_columns < count
    return own_rows[found_rows[real]], own_columns[found_columns[real]]
