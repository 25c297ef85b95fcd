"""The cheapest links between tracks and objects, of those within reach of one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

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

    Args:
        rows: Of each possible link, at most one link for each row and column together; (E,).
        columns: Likewise.
        costs: float64 (E,), at least 0; links that cost ``unlinked`` or more are never taken.
        unlinked: Cost of a row without a link.

    Returns:
        Rows and columns of the links taken, by rising row.
    """
    open_ = costs < unlinked
    rows, columns, costs = rows[open_], columns[open_], costs[open_]
    sure = _sure(rows, columns, costs, unlinked)
    taken = [(rows[sure], columns[sure])]
    free_rows = np.ones(rows.max(initial=-1) + 1, np.bool_)
    free_columns = np.ones(columns.max(initial=-1) + 1, np.bool_)
    free_rows[rows[sure]] = free_columns[columns[sure]] = False
    rest = free_rows[rows] & free_columns[columns]
    if rest.any():
        taken.append(_solved(rows[rest], columns[rest], costs[rest], unlinked))
    linked_rows, linked_columns = (np.concatenate(parts) for parts in zip(*taken, strict=True))
    order = np.argsort(linked_rows, kind="stable")
    return linked_rows[order], linked_columns[order]


def _sure(rows: Places, columns: Places, costs: Doubles, unlinked: float) -> NDArray[np.intp]:
    """Places of the links that belong to a best choice whatever the others are."""
    if not len(costs):
        return np.zeros(0, np.intp)
    best_of_row, second_of_row = _two_best(rows, costs, unlinked)
    best_of_column, second_of_column = _two_best(columns, costs, unlinked)
    links = np.flatnonzero(best_of_row[rows] == np.arange(len(rows)))
    links = links[best_of_column[columns[links]] == links]
    alternative = second_of_row[rows[links]] + second_of_column[columns[links]]
    best: Places = links[costs[links] + unlinked <= alternative]
    return best


def _two_best(groups: Places, costs: Doubles, unlinked: float) -> tuple[Places, Doubles]:
    """Of each group the place of its cheapest link (-1: none) and the cost of the next one."""
    order = np.lexsort((np.arange(len(costs)), costs, groups))
    sorted_groups = groups[order]
    first = np.flatnonzero(np.append(True, sorted_groups[1:] != sorted_groups[:-1]))
    count = int(groups.max()) + 1
    best = np.full(count, -1, np.intp)
    best[sorted_groups[first]] = order[first]
    second = np.full(count, unlinked)
    after = first + 1
    has = after < len(order)
    has[has] = sorted_groups[after[has]] == sorted_groups[first[has]]
    second[sorted_groups[first[has]]] = costs[order[after[has]]]
    return best, second


def _solved(
    rows: Places, columns: Places, costs: Doubles, unlinked: float
) -> tuple[Places, Places]:
    own_rows, row_of = np.unique(rows, return_inverse=True)
    own_columns, column_of = np.unique(columns, return_inverse=True)
    count = len(own_rows)
    dummies = np.arange(count)
    graph = csr_array(
        (
            np.concatenate([costs, np.full(count, unlinked)]) + _ABOVE,
            (
                np.concatenate([row_of, dummies]),
                np.concatenate([column_of, len(own_columns) + dummies]),
            ),
        ),
        shape=(count, len(own_columns) + count),
    )
    found_rows, found_columns = min_weight_full_bipartite_matching(graph)
    real = found_columns < len(own_columns)
    return own_rows[found_rows[real]], own_columns[found_columns[real]]
