"""What other stages read of a finished frame: its objects, and the tracks that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.label_image import read_label_image
from dvos.prediction.objects import FrameObjects
from dvos.tables.cells import read_records


def read_tracks(folder: Path, frame: str) -> NDArray[np.int32]:
    """The label image of a frame's tracks, int32 (H, W), a PNG or, of many tracks, a TIFF.

    Raises:
        MediaError: If it cannot be read.
    """
    path = folder / f"{frame}.png"
    return read_label_image(path if path.is_file() else path.with_suffix(".tif"))


def read_objects(folder: Path, frame: str) -> FrameObjects:
    """The objects of a finished frame, from its instance mask and the table beside it.

    Args:
        folder: Holds ``<frame>.png`` and ``<frame>.csv``.
        frame: Name of the frame.

    Raises:
        MediaError: If one of them cannot be read, or they do not belong together.
    """
    path, table = folder / f"{frame}.png", folder / f"{frame}.csv"
    numbered = read_label_image(path)
    try:
        header, *records = read_records(table)
        values = np.array([record for record in records if record], np.float64)
        columns = dict(zip(header, values.reshape(-1, len(header)).T, strict=True))
        numbers = columns["object"].astype(np.int64)
        places = np.zeros(int(max(numbered.max(initial=0), numbers.max(initial=0))) + 1, np.int32)
        places[numbers] = np.arange(1, len(numbers) + 1)
        motion = None
        if "motion_x" in columns:
            motion = np.stack([columns["motion_x"], columns["motion_y"]], axis=1)
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
            motion=None if motion is None else motion.astype(np.float32),
        )
    except (KeyError, ValueError, IndexError) as error:
        found = f"is no table of a frame's objects ({type(error).__name__}: {error})"
        raise MediaError.at(table, found, remedy="predict the clip again") from error
