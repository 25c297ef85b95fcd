"""The CSV tables that pass between the stages: columns, reading, checking, writing.

Every reader checks the whole table and raises one :class:`TableError` with a
fault for each thing wrong. Row numbers are those a spreadsheet shows: the
header is row 1.

Paths in a table may be absolute or relative. A relative path is looked for in
the CSV's own folder first and then, as the published tables expect, in the
current directory. Writers store a path relative to the CSV's folder when it
lies inside it, so that a folder with its tables can be moved as a whole.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvos.errors import DvosError, FaultCollector, TableError
from dvos.files import write_bytes

__all__ = [
    "AnnotatedRow",
    "ClipRow",
    "ImageRow",
    "VideoRow",
    "read_annotated",
    "read_clips",
    "read_images",
    "read_videos",
    "write_annotated",
    "write_clips",
    "write_images",
    "write_rows",
    "write_videos",
]

#: Gives the (height, width) of an image file; raises a ``DvosError`` if it cannot.
SizeReader = Callable[[Path], tuple[int, int]]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class VideoRow:
    """A video to take every ``interval``-th frame of, into ``frames_dir``."""

    video: Path
    frames_dir: Path
    interval: int


@dataclass(frozen=True)
class ImageRow:
    """One image: a frame, cutout, distractor or background still."""

    image: Path


@dataclass(frozen=True)
class AnnotatedRow:
    """A labelled still and the folder its cutouts go to."""

    image: Path
    mask: Path
    out_dir: Path


@dataclass(frozen=True)
class ClipRow:
    """One frame of a clip.

    Attributes:
        bid: Name of the background the clip was made on; empty where there is none.
        vid: Name of the clip.
        fid: Place of the frame in the clip's order, at least 0.
        image: The frame.
        mask: Its semantic mask; None where it is unlabelled.
        label: 1 where the frame may be a query frame, else 0.
    """

    bid: str
    vid: str
    fid: int
    image: Path
    mask: Path | None
    label: int


def read_videos(path: Path) -> list[VideoRow]:
    """Read ``Video,FramesDir,Interval``."""
    with FaultCollector(TableError) as faults:
        return [
            VideoRow(
                video=cells.file("Video"),
                frames_dir=cells.folder("FramesDir"),
                interval=cells.integer("Interval", minimum=1),
            )
            for cells in _read(path, ("Video", "FramesDir", "Interval"), faults)
        ]


def read_images(path: Path) -> list[ImageRow]:
    """Read ``Image``."""
    with FaultCollector(TableError) as faults:
        rows = []
        seen = _Unique()
        for cells in _read(path, ("Image",), faults):
            row = ImageRow(cells.file("Image"))
            seen.check(cells, "Image", row.image, str(row.image))
            rows.append(row)
    return rows


def read_annotated(path: Path) -> list[AnnotatedRow]:
    """Read ``Image,Mask,OutDir``."""
    with FaultCollector(TableError) as faults:
        rows = []
        seen = _Unique()
        for cells in _read(path, ("Image", "Mask", "OutDir"), faults):
            row = AnnotatedRow(
                image=cells.file("Image"), mask=cells.file("Mask"), out_dir=cells.folder("OutDir")
            )
            seen.check(cells, "Image", row.image, str(row.image))
            rows.append(row)
    return rows


def read_clips(
    path: Path, image_size: SizeReader | None = None, mask_size: SizeReader | None = None
) -> list[ClipRow]:
    """Read ``BID,VID,FID,Image,Mask,Label``; the column ``BID`` may be absent.

    Args:
        path: The CSV.
        image_size: If given, reads each frame's size, and every frame of a
            clip and every mask must be of one size.
        mask_size: Reads a mask's size; ``image_size`` if not given.

    Raises:
        TableError: One fault for each thing wrong with the table: besides
            missing files and bad values, a (VID, FID) or a clip's Image that
            occurs twice, a query row without a mask, sizes that differ.
    """
    with FaultCollector(TableError) as faults:
        rows = []
        frame_ids, images = _Unique(), _Unique()
        sizes = _ClipSizes(image_size, mask_size or image_size)
        for cells in _read(path, ("VID", "FID", "Image", "Mask", "Label"), faults):
            row = _clip_row(cells)
            frame_ids.check(cells, "FID", (row.vid, row.fid), f"{row.fid} of clip {row.vid}")
            images.check(cells, "Image", (row.vid, row.image), str(row.image))
            sizes.check(cells, row)
            rows.append(row)
    return rows


def write_videos(path: Path, rows: Iterable[VideoRow]) -> None:
    """Write ``Video,FramesDir,Interval``."""
    cells = ((row.video, row.frames_dir, row.interval) for row in rows)
    write_rows(path, ("Video", "FramesDir", "Interval"), cells)


def write_images(path: Path, rows: Iterable[ImageRow]) -> None:
    """Write ``Image``."""
    write_rows(path, ("Image",), ((row.image,) for row in rows))


def write_annotated(path: Path, rows: Iterable[AnnotatedRow]) -> None:
    """Write ``Image,Mask,OutDir``."""
    cells = ((row.image, row.mask, row.out_dir) for row in rows)
    write_rows(path, ("Image", "Mask", "OutDir"), cells)


def write_clips(path: Path, rows: Iterable[ClipRow]) -> None:
    """Write ``BID,VID,FID,Image,Mask,Label``."""
    cells = ((row.bid, row.vid, row.fid, row.image, row.mask, row.label) for row in rows)
    write_rows(path, ("BID", "VID", "FID", "Image", "Mask", "Label"), cells)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write any table atomically: UTF-8, Unix line breaks, None as an empty cell.

    Args:
        path: The CSV.
        columns: Its header.
        rows: Cells in the header's order. ``Path`` cells are stored relative
            to the CSV's folder when they lie inside it, else absolute.

    Raises:
        OutputError: If the file cannot be written.
        TableError: If a file name in it is not valid Unicode.
    """
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 (symlinks stay)
    texts = [[_cell_text(cell, folder) for cell in row] for row in rows]
    # The csv module quotes only the line break it writes itself; a lone
    # carriage return in a file name would split the row on reading.
    quote_all = any("\r" in cell for row in texts for cell in row)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if quote_all:
        writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(texts)
    try:
        data = stream.getvalue().encode("utf-8")
    except UnicodeEncodeError as error:
        name = repr(stream.getvalue()[max(0, error.start - 40) : error.end + 20])
        raise TableError.at(
            path, f"a file name in it is not valid Unicode ({name})", remedy="rename that file"
        ) from error
    write_bytes(path, data)


def _cell_text(cell: object, folder: Path) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Path):
        absolute = Path(os.path.abspath(cell))  # noqa: PTH100
        if absolute.is_relative_to(folder):
            return absolute.relative_to(folder).as_posix()
        return absolute.as_posix()
    return str(cell)


def _clip_row(cells: _Cells) -> ClipRow:
    label = cells.integer("Label", minimum=0, maximum=1)
    mask = cells.optional_file("Mask")
    if label == 1 and not cells.text("Mask", required=False):
        cells.fault("Mask", "empty in a query row (Label 1)", "a mask", "give one, or set Label 0")
    return ClipRow(
        bid=cells.text("BID", required=False),
        vid=cells.text("VID"),
        fid=cells.integer("FID", minimum=0),
        image=cells.file("Image"),
        mask=mask,
        label=label,
    )


class _Cells:
    """One row's cells by column, read with a fault for each that is bad.

    A bad cell reads as an empty placeholder: the collector raises before any
    row is handed out.
    """

    def __init__(
        self, path: Path, number: int, cells: dict[str, str], faults: FaultCollector
    ) -> None:
        self.number = number
        self.bad: set[str] = set()
        self._path = path
        self._cells = cells
        self._faults = faults
        self._folder = path.parent.absolute()
        # Where the row's input was found; its output folders follow it.
        self._base = self._folder

    def fault(self, column: str, found: str, expected: str = "", remedy: str = "") -> None:
        self.bad.add(column)
        where = f"{self._path} row {self.number} column {column}"
        self._faults.add(where, found, expected, remedy)

    def text(self, column: str, *, required: bool = True) -> str:
        value = self._cells.get(column, "").strip()
        if required and not value and column not in self.bad:
            self.fault(column, "empty", "a value")
        return value

    def integer(self, column: str, *, minimum: int, maximum: int | None = None) -> int:
        value = self.text(column, required=False)
        limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        number = int(value) if _INTEGER.fullmatch(value) else None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            self.fault(column, repr(value) if value else "empty", f"a whole number {limits}")
            return minimum
        return number

    def optional_file(self, column: str) -> Path | None:
        return self.file(column) if self.text(column, required=False) else None

    def file(self, column: str) -> Path:
        raw = self._cells.get(column, "")
        if not self.text(column):
            return Path()
        # As written first: a file name may begin or end with a space. Then
        # without the spaces that people put after commas.
        for value in dict.fromkeys((raw, raw.strip())):
            for base in (self._folder, Path.cwd()):
                # os.path.isfile also answers for names the system refuses.
                if os.path.isfile(base / value):  # noqa: PTH113
                    self._base = base
                    return base / value
        folder = "" if Path(raw.strip()).is_absolute() else f" in {self._folder} or {Path.cwd()}"
        self.fault(column, f"no such file: {raw.strip()}{folder}", "", "correct the path")
        return Path()

    def folder(self, column: str) -> Path:
        value = self.text(column)
        folder = self._base / value
        if value and os.path.isfile(folder):  # noqa: PTH113
            self.fault(column, f"{folder} is a file", "a folder to write to")
        return folder


class _Unique:
    """Finds values that an earlier row had already."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, int] = {}

    def check(self, cells: _Cells, column: str, key: Hashable, text: str) -> None:
        if column in cells.bad or "VID" in cells.bad:
            return
        first = self._rows.setdefault(key, cells.number)
        if first != cells.number:
            cells.fault(
                column, f"{text} occurs twice", "each once", f"it is in row {first} already"
            )


class _ClipSizes:
    """Holds every frame and mask of a clip to the size of its first frame."""

    def __init__(self, image_size: SizeReader | None, mask_size: SizeReader | None) -> None:
        self._readers = {"Image": image_size, "Mask": mask_size}
        self._first: dict[str, tuple[int, int]] = {}

    def check(self, cells: _Cells, row: ClipRow) -> None:
        for column, path in (("Image", row.image), ("Mask", row.mask)):
            reader = self._readers[column]
            if reader is None or path is None or column in cells.bad or "VID" in cells.bad:
                continue
            try:
                size = reader(path)
            except DvosError as error:
                cells.fault(column, str(error.faults[0]))
                continue
            expected = self._first.setdefault(row.vid, size)
            if size != expected:
                cells.fault(
                    column,
                    f"{path} is {size[1]} x {size[0]} pixels",
                    f"{expected[1]} x {expected[0]}, as the clip {row.vid} begins",
                )


def _read(path: Path, columns: Sequence[str], faults: FaultCollector) -> Iterator[_Cells]:
    """Give the rows of a CSV that has at least ``columns``."""
    records = _records(path)
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
        faults.add(f"{path} row 1", found, f"the columns {','.join(columns)}")
        return
    rows = [(n, row) for n, row in enumerate(records[1:], 2) if any(map(str.strip, row))]
    if not rows:
        faults.add(path, "has no rows", "at least one below the header")
    for number, record in rows:
        if len(record) > len(header):
            faults.add(
                f"{path} row {number}",
                f"has {len(record)} values",
                f"{len(header)} as in the header",
                "put values that contain a comma in double quotes",
            )
            continue
        yield _Cells(path, number, dict(zip(header, record, strict=False)), faults)


def _records(path: Path) -> list[list[str]]:
    try:
        # The BOM is what spreadsheets put before UTF-8; newline="" leaves
        # every kind of line break to the csv module.
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return list(csv.reader(stream))
    except OSError as error:
        raise TableError.at(
            path, f"cannot be read ({error.strerror or error})", "a CSV table", "correct the path"
        ) from error
    except UnicodeDecodeError as error:
        raise TableError.at(
            path, "is not UTF-8 text", "a CSV table in UTF-8", "save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise TableError.at(path, f"is no CSV table ({error})") from error
