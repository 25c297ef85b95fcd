from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvos.errors import TableError
from dvos.scoring.instances import count_errors, object_count, read_counts


def test_errors_of_counts() -> None:
    errors = count_errors([12, 18, 33], [10, 20, 30])
    assert errors.frames == 3
    assert errors.mean_absolute_error == pytest.approx(7 / 3)
    assert errors.relative_error == pytest.approx(7 / 60)
    assert errors.bias == pytest.approx(1.0)
    assert errors.r2 == pytest.approx(1 - 17 / 200)


def test_r2_needs_counts_that_vary() -> None:
    assert count_errors([3, 4], [5, 5]).r2 is None
    assert count_errors([1], [0]).relative_error is None


def test_instances_are_ids_not_values() -> None:
    mask = np.zeros((4, 6), np.uint16)
    mask[0, 0], mask[1, 1], mask[2, :] = 7, 60000, 300
    assert object_count(mask) == 3


def test_a_table_of_another_kind_is_one_clear_fault(tmp_path: Path) -> None:
    table = tmp_path / "counts.csv"
    table.write_text("clip,frame\na,b\n")
    with pytest.raises(TableError, match=r"counts\.csv: is no table of counts.*count"):
        read_counts(table)
