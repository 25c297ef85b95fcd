"""The objects of a frame: told apart and measured, or read from its finished files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError, TableError
from dvos.media.grouping import ObjectMaps, group_objects, sum_objects
from dvos.media.mask import cut_by_edge, read_label_image
from dvos.media.splitting import split_mask
from dvos.prediction.calibration import CountCalibration
from dvos.tables.cells import read_records

Doubles = NDArray[np.float64]

#: A pixel is a square of side 1, which has this second moment about its centre.
_PIXEL_MOMENT = 1 / 12
_DECIMALS = 2
#: No frame has as many objects.
_MOST = 2**26


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """Objects of a frame; entry i of each array (N, ...) belongs to number i + 1 of the labels."""

    labels: NDArray[np.int32]  # (H, W): 0 background, objects from 1 without gaps
    numbers: NDArray[np.int64]  # ids of a network that follows objects, or else the labels
    area: NDArray[np.int64]  # pixels
    length: Doubles  # pixels: the longer axis of the ellipse with the object's second moments
    width: Doubles  # the shorter axis
    #: Of the longer axis, degrees from the rows, counter-clockwise as seen, above -90 to 90.
    orientation: Doubles
    centre: Doubles  # (N, 2): x, y, pixels, (0, 0) the middle of the upper left pixel
    probability: Doubles  # mean over the object's pixels
    #: Calibrated, of the surest pixel. Where its edge lies says nothing of whether it is there.
    peak_probability: Doubles
    touches_border: NDArray[np.bool_]
    #: (N, 2): x, y from the centre to where it was in the frame before; None where it is not told.
    motion: NDArray[np.float32] | None = None
    tracks: NDArray[np.int64] | None = None  # permanent ids, from 1; 0 of objects in no track

    @property
    def count(self) -> int:
        """Number of objects."""
        return len(self.area)

    @cached_property
    def moments(self) -> Doubles:
        """Second moments xx, yy, xy about the centres, pixels squared, float64 (N, 3)."""
        along, across = (self.length / 4) ** 2, (self.width / 4) ** 2
        cosine, sine = np.cos(np.radians(self.orientation)), -np.sin(np.radians(self.orientation))
        xx, yy = along * cosine**2 + across * sine**2, along * sine**2 + across * cosine**2
        return np.stack([xx, yy, (along - across) * cosine * sine], axis=1)

    def rows(self) -> list[list[object]]:
        """A row for each object, as the columns of ``<clip>.objects.csv`` from ``object`` on."""
        shape = (self.length, self.width, self.orientation, *self.centre.T)
        probability, touches = np.round(self.probability, 4), self.touches_border.astype(int)
        columns = (self.numbers, self.area, *np.round(shape, _DECIMALS), probability, touches)
        return [list(row) for row in zip(*(values.tolist() for values in columns), strict=True)]


def find_objects(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    known: CountCalibration,
    *,
    minimum_area: int = 0,
    ids: NDArray[np.uint16] | None = None,
    maps: ObjectMaps | None = None,
    threshold: float = 0.5,
) -> FrameObjects:
    """Tell the objects of a mask, ``probability >= threshold``, apart and measure them.

    They are told apart by ``ids`` (H, W), 0 elsewhere, where these are known, else by where
    ``maps`` say that their centres are, else by their shapes; their usual width and area are what
    is ``known`` of them. Those below ``minimum_area`` are left out. By ``maps`` objects may reach
    beyond the mask, see :func:`~dvos.media.grouping.group_objects`.
    """
    names = motion = sums = None
    if ids is not None:
        # Labels from 1 of the ids with enough pixels, and which id each label stands for.
        found, places, areas = np.unique(
            np.where(mask, ids, 0), return_inverse=True, return_counts=True
        )
        kept = (found > 0) & (areas >= minimum_area)
        labels = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[places].reshape(ids.shape)
        names = found[kept].astype(np.int64)
    elif maps is not None:
        grouped = group_objects(
            probability, maps, threshold=threshold, minimum_area=minimum_area, area=known.area
        )
        labels, sums, motion = grouped.labels, grouped.sums, grouped.motion
        names = np.arange(1, grouped.count + 1)
    else:
        usual = {"width": known.width, "area": known.area}
        labels = split_mask(mask, minimum_area=minimum_area, **usual)
    if names is None:
        names = np.arange(1, int(labels.max(initial=0)) + 1)
    (*shape, total), surest = sums or sum_objects(labels, probability, len(names))
    return FrameObjects(
        labels=labels,
        numbers=names,
        **measured(*shape),
        probability=total / shape[0],
        peak_probability=known.scaling(surest).astype(np.float64),
        touches_border=cut_by_edge(labels, len(names))[1:],
        motion=motion,
    )


def measured(
    area: Doubles, x: Doubles, y: Doubles, xx: Doubles, yy: Doubles, xy: Doubles
) -> dict[str, NDArray[Any]]:
    """The fields of :class:`FrameObjects` from area to centre, by sums over the objects' pixels.

    The sums are of pixels, x, y, x * x, y * y and x * y, (N,). Half-axes a and b have the second
    moments a**2 / 4 and b**2 / 4.
    """
    # Whole numbers below 2**53: of all but huge objects nothing is lost, and squares lie straight.
    moments = ((area * xx - x * x), (area * yy - y * y), (area * xy - x * y))
    along_x, along_y, across = (moment / area**2 for moment in moments)
    along_x, along_y = along_x + _PIXEL_MOMENT, along_y + _PIXEL_MOMENT
    middle = (along_x + along_y) / 2
    apart = np.hypot((along_x - along_y) / 2, across)
    # The image's y axis points down: as seen, angles turn the other way.
    orientation = np.degrees(-0.5 * np.arctan2(2 * across, along_x - along_y))
    orientation[orientation <= -90] += 180
    return {
        "area": area.astype(np.int64),
        "length": 4 * np.sqrt(middle + apart),
        "width": 4 * np.sqrt(np.maximum(middle - apart, 0)),
        "orientation": orientation,
        "centre": np.stack([x / area, y / area], axis=1),
    }


def read_object_table(table: Path) -> tuple[list[str], list[list[str]], NDArray[np.float64]]:
    """The table of a frame's objects: its columns, its cells, and these as numbers (N, columns)."""
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
    """The objects of a finished frame, from its instance mask and the table beside it."""
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
