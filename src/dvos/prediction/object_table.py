"""The table of a clip's objects, put together from those of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvos.errors import MediaError
from dvos.files import atomic_path, write_text

__all__ = ["OBJECT_COLUMNS", "object_files", "write_frame_objects", "write_objects_table"]

#: Columns of ``<clip>.objects.csv``.
OBJECT_COLUMNS = (
    "frame_index",
    "time_s",
    "frame",
    "object",
    "area",
    "length",
    "width",
    "orientation",
    "centre_x",
    "centre_y",
    "mean_probability",
    "touches_border",
)
_OF_FRAME = 3


def object_files(masks_folder: Path, frame: str) -> tuple[Path, Path]:
    """The picture of a frame's numbered objects and the table of them."""
    folder = masks_folder / "instances"
    return folder / f"{frame}.png", folder / f"{frame}.csv"


def write_frame_objects(path: Path, objects: Sequence[Sequence[object]]) -> None:
    """Write a frame's objects, a row of the columns from ``object`` on for each.

    Raises:
        OutputError: If the file cannot be written.
    """
    lines = [",".join(OBJECT_COLUMNS[_OF_FRAME:])]
    lines += [",".join(str(cell) for cell in row) for row in objects]
    write_text(path, "\n".join(lines) + "\n")


def write_objects_table(path: Path, rows: Sequence[Mapping[str, Any]], masks_folder: Path) -> None:
    """Write ``<clip>.objects.csv``, a row for each object of each frame.

    It is put together from the tables beside the instance masks, so that a
    continued run gives the very same file as an unbroken one.

    Args:
        path: The file.
        rows: Of the clip's frames, in order, with ``frame_index``, ``time_s`` and ``frame``.
        masks_folder: Of the clip; ``instances/<frame>.csv`` in it are read.

    Raises:
        MediaError: If the table of a frame cannot be read.
        OutputError: If the file cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(",".join(OBJECT_COLUMNS) + "\n")
        for row in rows:
            table = object_files(masks_folder, row["frame"])[1]
            try:
                lines = table.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeError) as error:
                raise MediaError.at(
                    table, f"cannot be read ({error})", "the objects of a frame", "predict again"
                ) from error
            time = "" if row["time_s"] is None else row["time_s"]
            stream.writelines(
                f"{row['frame_index']},{time},{_quoted(row['frame'])},{line}\n"
                for line in lines[1:]
            )


def _quoted(name: str) -> str:
    if any(sign in name for sign in ',"\n\r'):
        return '"' + name.replace('"', '""') + '"'
    return name
