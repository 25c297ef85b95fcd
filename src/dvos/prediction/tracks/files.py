"""What other stages read of a finished frame: its objects, and the tracks that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError, TableError
from dvos.media.mask import read_label_image
from dvos.prediction.objects import FrameObjects
from dvos.tables.cells import read_records

#: No frame has as many objects.
_MOST = 2**26


def read_tracks(folder: Path, frame: str) -> NDArray[np.int32]:
    """The label image of a frame's tracks, int32 (H, W), a PNG or, of many tracks, a TIFF.

    Raises:
        MediaError: If it cannot be read.
    """
    path = folder / f"{frame}.png"
    return read_label_image(path if path.is_file() else path.with_suffix(".tif"))


def read_object_table(table: Path) -> tuple[list[str], list[list[str]], NDArray[np.float64]]:
    """The table of a frame's objects: its columns, its cells, and these as numbers (N, columns).

    Raises:
        MediaError: If it cannot be read or is none.
    """
    try:
        header, *records = filter(None, read_records(table))
        values = np.array(records, np.float64).reshape(len(records), len(header))
        numbers = values[:, header.index("object")]
        if not (np.isfinite(values).all() and ((numbers >= 1) & (numbers <= _MOST)).all()):
            raise ValueError("numbers that make no sense")
    except (TableError, ValueError) as error:
        found = f"is no table of a frame's objects ({error})"
        raise MediaError.at(table, found, remedy="remove it, and predict again") from error
    return header, records, values


def read_objects(folder: Path, frame: str) -> FrameObjects:
    """The objects of a finished frame, from its instance mask and the table beside it.

    Raises:
        MediaError: If one of them cannot be read, or they do not belong together.
    """
    table = folder / f"{frame}.csv"
    numbered = read_label_image(folder / f"{frame}.png")
    header, _, values = read_object_table(table)
    try:
        columns = dict(zip(header, values.T, strict=True))
        numbers = columns["object"].astype(np.int64)
        places = np.zeros(int(max(numbered.max(initial=0), numbers.max(initial=0))) + 1, np.int32)
        places[numbers] = np.arange(1, len(numbers) + 1)
        motion = None
        if "motion_x" in columns:
            motion = np.stack([columns["motion_x"], columns["motion_y"]], 1).astype(np.float32)
        return FrameObjects(
            labels=places[numbered],
            numbers=numbers,
            area=columns["area"].astype(np.int64),
            length=columns["length"],
            width=columns["width"],
            orientation=columns["orientation"],
            centre=np.stack([columns["centre_x"], columns["centre_y"]], axis=1),
            probability=columns["mean_probability"],
            peak_probability=columns["mean_probability"],
            touches_border=columns["touches_border"] > 0,
            motion=motion,
        )
    except KeyError as error:
        found = f"is no table of a frame's objects (it lacks the column {error})"
        raise MediaError.at(table, found, remedy="remove it, and predict again") from error
