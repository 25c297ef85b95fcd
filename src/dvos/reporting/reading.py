"""The run's tables and JSON files, read so that all their faults are told at once.

The tables' own readers demand that each file named in a table exists. A
report must still be possible after bulky frames were deleted, so here only
the table itself has to be sound; a picture that is gone is noted in its place.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.errors import FaultCollector
from dvos.tables import split_address

__all__ = ["REMEDY", "Row", "as_mapping", "as_number", "read_object", "read_rows", "read_text"]

#: Ends every fault of a run's own files.
REMEDY = "restore the file or run the stage that writes it again"

#: No figure of a run is as large; such text is damage, and cannot be drawn.
_LARGEST = 1e100


@dataclass(frozen=True)
class Row:
    """One row of a CSV table.

    Attributes:
        where: The CSV file and the line as an editor shows it, the header being line 1.
        folder: The table's folder.
        cells: Text by column name.
    """

    where: str
    folder: Path
    cells: dict[str, str]

    def path(self, column: str) -> Path | None:
        """A path, relative to the table's folder or else to the current one; None where empty."""
        text = self.cells.get(column, "").strip()
        if not text:
            return None
        beside = self.folder / text
        # Published tables count from the current folder; dvos.tables looks in both as well.
        return Path(text) if not _is_there(beside) and _is_there(Path(text)) else beside

    def number(self, column: str, faults: FaultCollector) -> float:
        """A finite number; NaN where the cell is empty, absent or ``nan``."""
        text = self.cells.get(column, "").strip()
        try:
            value = float(text) if text else math.nan
        except ValueError:
            value = _LARGEST
        if _LARGEST <= abs(value) < math.inf:
            faults.add(f"{self.where} column {column}", f"{text!r}", "a number", REMEDY)
        return value if math.isfinite(value) else math.nan


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


def read_rows(path: Path, columns: Sequence[str], faults: FaultCollector) -> list[Row]:
    """The rows of a CSV file; none where it does not exist.

    Args:
        path: The file.
        columns: Columns that it must have; others are kept as well.
        faults: Takes a missing column and each row of another length.
    """
    text = read_text(path, faults)
    if text is None:
        return []
    rows: list[Row] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if any(name not in header for name in columns):
            found = f"columns {', '.join(header)}" if any(header) else "no header"
            faults.add(path, found, f"the columns {', '.join(columns)}", REMEDY)
            return []
        for cells in reader:
            where = f"{path} row {reader.line_num}"
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(header):
                faults.add(where, f"{len(cells)} cells", f"{len(header)}", REMEDY)
            else:
                rows.append(Row(where, path.parent, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        faults.add(path, f"no CSV table ({error})", remedy=REMEDY)
    return rows


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
