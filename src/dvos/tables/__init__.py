"""The CSV tables that pass between the stages: columns, reading, checking, writing.

A reader raises one :class:`TableError` with a fault for each thing wrong; row numbers are a
spreadsheet's. A relative path is looked for in the CSV's folder, then, as the published tables
expect, in the current one; what lies in the CSV's folder is written relative to it.
"""

import csv
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from dvos.errors import DvosError, Fault, FaultCollector, TableError, check_size, shortened
from dvos.files import absolute, atomic_path, composed
from dvos.tables.cells import STORE_SUFFIX as STORE_SUFFIX
from dvos.tables.cells import Cells, check_once, read_cells, read_records
from dvos.tables.cells import frame_address as frame_address
from dvos.tables.cells import frame_stem as frame_stem
from dvos.tables.cells import split_address as split_address

#: Gives the (height, width) of an image file; raises a ``DvosError`` if it cannot.
SizeReader = Callable[[Path], tuple[int, int]]


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
class StillRow(ImageRow):
    """A labelled still."""

    mask: Path


@dataclass(frozen=True)
class AnnotatedRow(StillRow):
    """A labelled still and the folder its cutouts go to."""

    out_dir: Path


@dataclass(frozen=True)
class BackgroundRow(ImageRow):
    """A frame or still to composite over; its own objects are in ``mask``, None = it has none."""

    mask: Path | None


@dataclass(frozen=True)
class ClipRow:
    """One frame of a clip; image and mask are files, or addresses of frames in clip stores."""

    bid: str  # the background that it is made on
    vid: str
    fid: int  # from 0
    image: Path
    mask: Path | None  # None of an unlabelled frame
    label: int  # 1 where it may be a query frame, else 0
    domain: str = ""  # a field, year or camera that scores are told by


@dataclass(frozen=True)
class CountRow:
    """One frame of a clip in ``counts.csv``; ``docs/reference/counts.md`` tells what each means.

    ``frame_index`` counts from 0, -1 where a table does not tell it; ``frame`` is the stem of the
    mask's file. Areas and lengths are in pixels, ``ground_area`` in square metres, ``coverage`` is
    a share 0..1. Numbers are None where a cell is empty or a table of earlier versions lacks them.
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


#: The header of ``counts.csv``.
COUNT_COLUMNS = tuple(field.name for field in fields(CountRow))

Row = TypeVar("Row", VideoRow, ImageRow, AnnotatedRow, StillRow, BackgroundRow)

#: How many of the first columns of a table that several runs add to every release has written.
_EARLIEST = 5

#: How the cells of a column are read.
_READERS: dict[str, Callable[[Cells, str], Any]] = {
    **dict.fromkeys(("Video", "Image", "Mask"), Cells.file),
    **dict.fromkeys(("FramesDir", "OutDir"), Cells.folder),
    "Interval": partial(Cells.integer, minimum=1),
}


def read_clips(
    path: Path, image_size: SizeReader | None = None, mask_size: SizeReader | None = None
) -> list[ClipRow]:
    """Read ``BID,VID,FID,Image,Mask,Label,Domain``; ``BID`` and ``Domain`` may be absent.

    Of a clip store only the file is looked for. With ``image_size`` (and ``mask_size``, which is
    the same if not given) every frame and mask of a clip must be there and of one size. Faults are
    also a (VID, FID) or a clip's Image that occurs twice, and a query row without a mask.
    """
    with FaultCollector(TableError) as faults:
        rows = []
        frame_ids: dict[Hashable, int] = {}
        images: dict[Hashable, int] = {}
        sizes = _ClipSizes(image_size, mask_size or image_size)
        for cells in read_cells(path, ("VID", "FID", "Image", "Mask", "Label"), faults):
            label = cells.integer("Label", minimum=0, maximum=1)
            row = ClipRow(
                bid=cells.text("BID", required=False),
                vid=composed(cells.text("VID")),
                fid=cells.integer("FID", minimum=0),
                image=cells.frame("Image"),
                mask=cells.frame("Mask") if cells.text("Mask", required=False) else None,
                label=label,
                domain=cells.text("Domain", required=False),
            )
            if label == 1 and not cells.text("Mask", required=False):
                problem = "empty in a query row (Label 1)"
                cells.fault("Mask", problem, "a mask", "give one, or set Label 0")
            check_once(frame_ids, cells, "FID", (row.vid, row.fid), f"{row.fid} of clip {row.vid}")
            check_once(images, cells, "Image", (row.vid, str(row.image)), str(row.image))
            sizes.check(cells, row)
            rows.append(row)
    return rows


def read_counts(
    path: Path, needed: Sequence[str] = ("clip", "frame_index", "coverage", "count")
) -> list[CountRow]:
    """Read ``counts.csv``, of this version or an earlier one, with the columns ``needed``."""
    numbers = {*COUNT_COLUMNS} - {"clip", "frame", "frame_index"}
    rows = []
    with FaultCollector(TableError) as faults:
        for cells in read_cells(path, needed, faults, allow_empty=True):
            index = cells.real("frame_index")
            if index is None and "frame_index" in needed and "frame_index" not in cells.bad:
                cells.fault("frame_index", "empty", "a number")
            told = {name: cells.real(name) for name in cells.cells if name in numbers}
            clip, frame = composed(cells.raw("clip")), composed(cells.raw("frame"))
            rows.append(CountRow(clip, -1 if index is None else int(index), frame=frame, **told))
    return rows


def rows_beside(
    path: Path, columns: Sequence[str], keep: Callable[[Mapping[str, str]], bool]
) -> list[list[str]]:
    """The rows of a table that several runs add to that ``keep``, given a row's cells, accepts.

    A TableError if it is none of theirs: one without the columns that every release wrote, or with
    others, which would be lost.
    """
    if not path.exists():
        return []
    header = [name.strip() for record in read_records(path, 1) for name in record]
    missing = [name for name in columns[:_EARLIEST] if name not in header]
    others = [name or "(without a name)" for name in header if name not in columns]
    if missing or others:
        problem = f"has the column {shortened(others)}, which this command does not write"
        problem = f"misses the column {', '.join(missing)}" if missing else problem
        found = f"{problem} (its header is {','.join(header)[:200]})"
        remedy = "move the table, or choose another place"
        raise TableError.at(f"{path} row 1", found, f"the columns {','.join(columns)}", remedy)
    with FaultCollector(TableError) as faults:
        rows = [one.cells for one in read_cells(path, columns[:1], faults, allow_empty=True)]
    return [[cells.get(name, "") for name in columns] for cells in rows if keep(cells)]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write any table atomically: UTF-8, Unix line breaks, None as an empty cell.

    Rows are written as they come: memory does not grow with their number.
    ``Path`` cells are stored relative to the CSV's folder when they lie inside it, else absolute.
    Raises an OutputError if it cannot be written, a TableError for names that are no Unicode.
    """
    folder = os.path.abspath(path.parent).rstrip("/") + "/"  # noqa: PTH100 (symlinks stay)

    def text(cell: object) -> str:
        if isinstance(cell, Path):
            return absolute(str(cell)).removeprefix(folder)
        return "" if cell is None else str(cell)

    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        # The csv module does not quote a lone carriage return, which would split the row on
        # reading.
        plain = csv.writer(file, "unix", quoting=csv.QUOTE_MINIMAL)
        quoted = csv.writer(file, "unix", quoting=csv.QUOTE_ALL)
        for row in chain([columns], rows):
            cells = [text(cell) for cell in row]
            try:
                (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
            except UnicodeEncodeError as error:
                found = f"a file name in it is not valid Unicode ({error.object!r})"
                raise TableError.at(path, found, remedy="rename that file") from error


def _write(path: Path, rows: Iterable[object], *, columns: Sequence[str]) -> None:
    """Write the first fields of rows, which stand in the order of the columns."""
    write_rows(path, columns, ([*vars(row).values()][: len(columns)] for row in rows))


def _read(
    path: Path,
    *,
    kind: type[Row],
    columns: Sequence[str],
    may_have: str = "",
    allow_empty: bool = False,
) -> list[Row]:
    """The rows of a table that names each image once; a column that it may have comes last."""
    with FaultCollector(TableError) as faults:
        rows = []
        seen: dict[Hashable, int] = {}
        for cells in read_cells(path, columns, faults, allow_empty=allow_empty):
            values = [_READERS[name](cells, name) for name in columns]
            if may_have:
                has_one = cells.text(may_have, required=False)
                values.append(_READERS[may_have](cells, may_have) if has_one else None)
            if "Image" in columns:
                check_once(seen, cells, "Image", values[0], str(values[0]))
            rows.append(kind(*values))
    return rows


_VIDEOS, _ANNOTATED = ("Video", "FramesDir", "Interval"), ("Image", "Mask", "OutDir")
#: Each reads a table of its columns, given the path; others that the table has are passed over.
read_videos = partial(_read, kind=VideoRow, columns=_VIDEOS)
read_annotated = partial(_read, kind=AnnotatedRow, columns=_ANNOTATED)
read_stills = partial(_read, kind=StillRow, columns=("Image", "Mask"))
#: With ``allow_empty`` a header without rows is sound: it names no images.
read_images = partial(_read, kind=ImageRow, columns=("Image",))
#: There may be a column ``Mask``, of which cells may be empty.
read_backgrounds = partial(_read, kind=BackgroundRow, columns=("Image",), may_have="Mask")
#: Each writes rows, given the path and these, as a table of its columns.
write_videos = partial(_write, columns=_VIDEOS)
write_images = partial(_write, columns=("Image",))
write_annotated = partial(_write, columns=_ANNOTATED)
write_clips = partial(_write, columns=("BID", "VID", "FID", "Image", "Mask", "Label"))


class _ClipSizes:
    """Holds every frame and mask of a clip to the size of its first frame."""

    def __init__(self, image_size: SizeReader | None, mask_size: SizeReader | None) -> None:
        self._readers = {"Image": image_size, "Mask": mask_size}
        self._first: dict[str, tuple[int, int]] = {}
        self._told: set[Fault] = set()

    def check(self, cells: Cells, row: ClipRow) -> None:
        for column, path in (("Image", row.image), ("Mask", row.mask)):
            reader = self._readers[column]
            if reader is None or path is None or column in cells.bad or "VID" in cells.bad:
                continue
            try:
                size = reader(path)
                first = self._first.setdefault(row.vid, size)
                check_size(path, size, first, f"the clip {row.vid} begins")
            except DvosError as error:
                fault = error.faults[0]
                cells.bad.add(column)
                # A damaged store is one fault, though hundreds of rows name it.
                if fault not in self._told:
                    found = f"{fault.where}: {fault.found}"
                    cells.fault(column, found, fault.expected, fault.remedy)
                self._told.add(fault)
