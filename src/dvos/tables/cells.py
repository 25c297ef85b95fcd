"""The cells of a CSV table, read with a fault for each that is bad; addresses of stored frames."""

import csv
import math
import os
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from dvos.errors import FaultCollector, TableError
from dvos.files import find_path, stem_of

#: Ending of a clip store.
STORE_SUFFIX = ".dvclip"

_ADDRESS = re.compile(r"(.+\.dvclip)#([0-9]{1,10})", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
#: No figure is as large; such text is damage.
_LARGEST = 1e100
# A store, or what is meant as a frame of one.
_STORE = re.compile(rf".*{re.escape(STORE_SUFFIX)}(#[^/.]*)?", re.DOTALL)


def frame_address(path: Path, frame_index: int) -> Path:
    """How a table of clips names one frame of a store: ``clip.dvclip#000012``."""
    return path.with_name(f"{path.name}#{frame_index:06d}")


def split_address(path: Path) -> tuple[Path, int] | None:
    """File and frame index that a path of a clip table names; None if it is no store's."""
    text = str(path)
    match = _ADDRESS.fullmatch(text) if STORE_SUFFIX in text else None
    return (Path(match[1]), int(match[2])) if match else None


def frame_stem(path: Path) -> str:
    """Name of the frame at a path of a clip table: an image's stem, a store's as a video's."""
    address = split_address(path)
    return f"{stem_of(address[0])}_{address[1]:06d}" if address else stem_of(path)


@dataclass
class Cells:
    """One row's cells by column, read with a fault for each that is bad, which reads as empty."""

    path: Path
    folder_of_table: str
    number: int
    cells: dict[str, str]
    faults: FaultCollector
    missing: set[str]  # clip stores, told by the first row that finds them so
    bad: set[str] = field(default_factory=set)  # columns
    base: str = ""  # where the row's input was found; its output folders follow it

    def fault(self, column: str, found: str, expected: str = "", remedy: str = "") -> None:
        """Note what is wrong with a cell."""
        self.bad.add(column)
        self.faults.add(f"{self.path} row {self.number} column {column}", found, expected, remedy)

    def text(self, column: str, *, required: bool = True) -> str:
        """A cell without the spaces around it."""
        value = self.cells.get(column, "").strip()
        if required and not value and column not in self.bad:
            self.fault(column, "empty", "a value")
        return value

    def raw(self, column: str) -> str:
        """A cell as it stands, empty where it is absent: names of files may end with spaces."""
        return self.cells.get(column, "")

    def integer(self, column: str, *, minimum: int, maximum: int | None = None) -> int:
        """A whole number within limits."""
        value = self.text(column, required=False)
        number = int(value) if _INTEGER.fullmatch(value) else None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            limits = f"from {minimum} to {maximum}"
            if maximum is None:
                limits = f"of at least {minimum}" + ", at most 18 digits" * value.isdecimal()
            self.fault(column, repr(value) if value else "empty", f"a whole number {limits}")
            return minimum
        return number

    def real(self, column: str) -> float | None:
        """A finite number; None where the cell is empty, absent or no finite one."""
        value = self.text(column, required=False)
        try:
            number = float(value) if value else math.nan
        except ValueError:
            number = _LARGEST
        if _LARGEST <= abs(number) < math.inf:
            self.fault(column, repr(value), "a number")
        return number if abs(number) < _LARGEST else None

    def file(self, column: str) -> Path:
        """An existing file."""
        raw = self.cells.get(column, "")
        if not self.text(column):
            return Path()
        found = self._find(raw)
        if found is None and split_address(Path(raw.rstrip())):
            problem = f"{raw.strip()} is a frame of a clip store"
            self.fault(column, problem, "a file", "name a frame of a store in tables of clips only")
        elif found is None:
            self._no_file(column, raw.strip())
        return found or Path()

    def frame(self, column: str) -> Path:
        """An existing file, or a frame of an existing clip store by its address."""
        raw = self.cells.get(column, "")
        if STORE_SUFFIX not in raw or not _STORE.fullmatch(raw.strip()):
            return self.file(column)
        # Without the spaces behind the number; the name may begin with some.
        address = split_address(Path(raw.rstrip()))
        if address is None:
            expected = "a store and the number of a frame, such as clip.dvclip#000012"
            self.fault(column, f"{raw.strip()} names no frame", expected)
            return Path()
        name = str(address[0])
        store = self._find(name)
        if store is not None:
            return frame_address(store, address[1])
        if name not in self.missing:
            self._no_file(column, name.strip())
        # Hundreds of rows name one store: told once that it is missing.
        self.missing.add(name)
        self.bad.add(column)
        return Path()

    def folder(self, column: str) -> Path:
        """A folder to write to, which need not exist."""
        value = self.text(column)
        base = self.base or self.folder_of_table
        folder = find_path(base, value, os.path.isdir) or Path(base, value)
        if value and os.path.isfile(folder):  # noqa: PTH113
            self.fault(column, f"{folder} is a file", "a folder to write to")
        elif "\0" in value:
            self.fault(column, f"{value!r}, with a zero byte", "a folder to write to")
        return folder

    def _find(self, name: str) -> Path | None:
        # First as written: a name may end with a space; then without those put after commas.
        for value in dict.fromkeys((name, name.strip())):
            for base in (self.folder_of_table, ""):
                found = find_path(base, value, os.path.isfile)
                if found is not None:
                    self.base = base or str(Path.cwd())
                    return Path(self.base, found) if not base else found
        return None

    def _no_file(self, column: str, name: str) -> None:
        folder = "" if Path(name).is_absolute() else f" in {self.folder_of_table} or {Path.cwd()}"
        self.fault(column, f"no such file: {name}{folder}", "", "correct the path")


def check_once(
    rows: dict[Hashable, int], cells: Cells, column: str, key: Hashable, text: str
) -> None:
    """Note a fault if ``key``, in words ``text``, is in ``rows``, by key, of earlier rows."""
    if column in cells.bad or "VID" in cells.bad:
        return
    first = rows.setdefault(key, cells.number)
    if first != cells.number:
        cells.fault(column, f"{text} occurs twice", "each once", f"it is in row {first} already")


def read_cells(
    path: Path,
    columns: Sequence[str],
    faults: FaultCollector,
    *,
    allow_empty: bool = False,
    whole: bool = False,
) -> Iterator[Cells]:
    """Give the rows of a CSV that has at least ``columns``; what is wrong goes to ``faults``.

    With ``allow_empty`` a table without rows is sound; in a ``whole`` one no row lacks values.
    """
    records = read_records(path)
    if not records:
        faults.add(path, "is empty", f"the header {','.join(columns)} and rows")
        return
    header = [name.strip() for name in records[0]]
    missing = [name for name in columns if name not in header]
    twice = [name for name in columns if header.count(name) > 1]
    if missing or twice:
        problem = f"misses the column {', '.join(missing)}" if missing else ""
        problem += f" has the column {', '.join(twice)} twice" if twice else ""
        found = f"{problem} (its header is {','.join(header)[:200]})"
        apart = len(header) == 1 and any(sign in header[0] for sign in ";\t|")
        remedy = "save the table with commas between its columns" if apart else ""
        faults.add(f"{path} row 1", found, f"the columns {','.join(columns)}", remedy)
        return
    rows = [(n, row) for n, row in enumerate(records[1:], 2) if any(map(str.strip, row))]
    if not rows and not allow_empty:
        faults.add(path, "has no rows", "at least one below the header")
    missing_stores: set[str] = set()
    folder = str(path.parent.absolute())
    for number, record in rows:
        if len(record) > len(header) or (whole and len(record) < len(header)):
            found, expected = f"has {len(record)} values", f"{len(header)} as in the header"
            remedy = "put values that contain a comma in double quotes"
            faults.add(f"{path} row {number}", found, expected, remedy)
            continue
        cells = dict(zip(header, record, strict=False))
        yield Cells(path, folder, number, cells, faults, missing_stores)


def read_records(path: Path, count: int | None = None) -> list[list[str]]:
    """The first rows of a CSV, or all, as texts; its header is the first of them."""
    # A cell may hold an outline or a picture; the csv module's own limit is that of its process.
    limit = csv.field_size_limit(2**31 - 1)
    try:
        # Spreadsheets put a BOM before UTF-8; newline="" leaves line breaks to the csv module.
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return list(islice(csv.reader(stream), count))
    except OSError as error:
        told = (f"cannot be read ({error.strerror or error})", "a CSV table", "correct the path")
    except UnicodeDecodeError:
        told = ("is not UTF-8 text", "a CSV table in UTF-8", "save it as CSV UTF-8")
    except csv.Error as error:
        told = (f"is no CSV table ({error})", "", "")
    finally:
        csv.field_size_limit(limit)
    raise TableError.at(path, *told)


def table_values(path: Path) -> list[dict[str, int | float | str | None]]:
    """The rows of a table of ours by column, for ``pandas.DataFrame``; empty cells are None."""
    header, *rows = read_records(path) or [[]]
    return [dict(zip(header, map(_value, row), strict=False)) for row in rows]


def _value(cell: str) -> int | float | str | None:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell or None
