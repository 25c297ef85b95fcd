"""The table ``counts.csv`` of a prediction: a row for each frame of each clip.

What each column means is told in docs/reference/counts.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from dvos.errors import FaultCollector, TableError
from dvos.tables.cells import Cells, read_cells
from dvos.tables.rows import write_rows


@dataclass(frozen=True)
class CountRow:
    """One frame; its fields are the columns, in order.

    Attributes:
        clip: Name of the clip.
        frame_index: From 0; -1 where a table does not tell it.
        time_s: Seconds since the first frame; None where there are no time stamps.
        coverage: Share of the frame that is object, 0..1.
        count: Objects found.
        frame: Name of the frame, the stem of its mask's file.
        mean_area: Of an object, pixels.
        median_area: Likewise.
        mean_probability: Over the pixels of the mask.
        soft_coverage: Mean probability over all pixels.
        mean_length: Of an object, pixels.
        mean_width: Likewise.
        expected_count: Number of true objects to be expected.
        count_sd: Its standard deviation, from this frame alone.
        count_smooth: ``expected_count`` evened out over time.
        count_low: Lower end of the 95 % interval about ``count_smooth``.
        count_high: Upper end.
        ground_area: Square metres that the frame shows; None where unknown.
        density: Objects per square metre; None where unknown.

    Numbers are also None where a table's cell is empty, or the table is of an
    earlier version and lacks the column.
    """

    clip: str
    frame_index: int
    time_s: float | None = None
    coverage: float | None = None
    count: float | None = None
    frame: str = ""
    mean_area: float | None = None
    median_area: float | None = None
    mean_probability: float | None = None
    soft_coverage: float | None = None
    mean_length: float | None = None
    mean_width: float | None = None
    expected_count: float | None = None
    count_sd: float | None = None
    count_smooth: float | None = None
    count_low: float | None = None
    count_high: float | None = None
    ground_area: float | None = None
    density: float | None = None


#: The header.
COUNT_COLUMNS = tuple(field.name for field in fields(CountRow))
_TEXTS = frozenset({"clip", "frame"})
_NUMBERS = tuple(name for name in COUNT_COLUMNS if name not in {*_TEXTS, "frame_index"})


def read_counts(
    path: Path, needed: Sequence[str] = ("clip", "frame_index", "coverage", "count")
) -> list[CountRow]:
    """Read ``counts.csv``, of this version or an earlier one.

    Args:
        path: The table; it may have no rows.
        needed: Columns that it must have. Of these ``frame_index`` may not be
            empty in any row; other columns may lack.

    Raises:
        TableError: If it cannot be read, with a fault for each thing wrong.
    """
    with FaultCollector(TableError) as faults:
        return [
            _row(cells, indexed="frame_index" in needed)
            for cells in read_cells(path, needed, faults, allow_empty=True)
        ]


def write_counts(path: Path, rows: Iterable[CountRow]) -> None:
    """Write ``counts.csv``.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_rows(path, COUNT_COLUMNS, (astuple(row) for row in rows))


def _row(cells: Cells, *, indexed: bool) -> CountRow:
    index = cells.real("frame_index")
    if index is None and indexed and "frame_index" not in cells.bad:
        cells.fault("frame_index", "empty", "a number")
    return CountRow(
        clip=cells.raw("clip"),
        frame_index=-1 if index is None else int(index),
        frame=cells.raw("frame"),
        **{name: cells.real(name) for name in _NUMBERS},
    )
