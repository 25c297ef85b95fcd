"""The run's tables and JSON files, read so that all their faults are told at once.

The tables' own readers demand that each file named in a table exists. A
report must still be possible after bulky frames were deleted, so here only
the table itself has to be sound; a picture that is gone is noted in its place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvos.errors import FaultCollector
from dvos.tables import split_address
from dvos.tables.cells import Cells, read_cells

#: Ends every fault of a run's own files.
REMEDY = "restore the file or run the stage that writes it again"


def read_table(path: Path, columns: Sequence[str], faults: FaultCollector) -> list[Cells]:
    """The rows of a CSV file; none where it does not exist or (a fault) is no such table.

    Args:
        path: The file.
        columns: Columns that it must have; others are kept as well.
        faults: Takes what is wrong with it.
    """

    def read() -> list[Cells]:
        return list(read_cells(path, columns, faults, allow_empty=True, whole=True))

    return (faults.collect(read) if path.is_file() else None) or []


def place(table: Path, cells: Cells, column: str) -> Path | None:
    """A path in a table, whether or not it is there; None where the cell is empty.

    It is relative to the table's folder or else, as in published tables, to the current one.
    """
    text = cells.text(column, required=False)
    beside, here = table.parent / text, Path(text)
    if not text:
        return None
    return here if not _is_there(beside) and _is_there(here) else beside


def _is_there(path: Path) -> bool:
    address = split_address(path)
    return (address[0] if address else path).exists()


def read_text(path: Path, faults: FaultCollector) -> str | None:
    """The text of a UTF-8 file; None where it does not exist or (a fault) cannot be read."""
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        faults.add(path, f"cannot be read ({reason})", remedy=REMEDY)
        return None


def read_object(path: Path, faults: FaultCollector) -> dict[str, Any]:
    """A JSON file that holds one object; empty where it does not exist or (a fault) does not."""
    text = read_text(path, faults)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        faults.add(f"{path} line {error.lineno}", f"no JSON ({error.msg})", remedy=REMEDY)
        return {}
    if not isinstance(value, dict):
        faults.add(path, f"a JSON {type(value).__name__}", "a JSON object", REMEDY)
    return as_mapping(value)


def as_mapping(value: object) -> dict[str, Any]:
    """An object of a JSON file; empty for anything else."""
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}


def as_number(value: object) -> float | None:
    """A finite number of a JSON file; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
