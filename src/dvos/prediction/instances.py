"""The objects of a frame: told apart, and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.media.splitting import split_mask
from dvos.prediction.objects import Calibration

__all__ = ["FrameObjects", "find_objects"]

Doubles = NDArray[np.float64]
_Total = Callable[[NDArray[Any]], Doubles]

#: A pixel is a square of side 1, which has this second moment about its centre.
_PIXEL_MOMENT = 1 / 12
_DECIMALS = 2


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """Objects of a frame; entry i of each array belongs to number i + 1 of the labels.

    Attributes:
        labels: int32 (H, W): 0 background, objects from 1 without gaps.
        numbers: int64 (N,): what files call them: the ids of a network that
            follows objects through frames, or else those of the labels.
        area: int64 (N,), pixels.
        length: float64 (N,), pixels: the longer axis of the ellipse with the
            object's second moments.
        width: float64 (N,), the shorter axis.
        orientation: float64 (N,): of the longer axis, degrees from the image's
            rows, counter-clockwise as seen, above -90 to 90.
        centre: float64 (N, 2): x, y of the centre of gravity, pixels, (0, 0)
            the middle of the upper left pixel.
        probability: float64 (N,): mean over the object's pixels.
        peak_probability: float64 (N,): calibrated, of the object's surest
            pixel. Where its edge lies says nothing of whether it is there.
        touches_border: bool (N,).
    """

    labels: NDArray[np.int32]
    numbers: NDArray[np.int64]
    area: NDArray[np.int64]
    length: Doubles
    width: Doubles
    orientation: Doubles
    centre: Doubles
    probability: Doubles
    peak_probability: Doubles
    touches_border: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of objects."""
        return len(self.area)

    def rows(self) -> list[list[object]]:
        """A row for each object, as the columns of ``<clip>.objects.csv`` from ``object`` on."""
        columns = (
            self.numbers.tolist(),
            self.area.tolist(),
            *(
                np.round(values, _DECIMALS).tolist()
                for values in (self.length, self.width, self.orientation, *self.centre.T)
            ),
            np.round(self.probability, 4).tolist(),
            self.touches_border.astype(int).tolist(),
        )
        return [list(row) for row in zip(*columns, strict=True)]


def find_objects(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    calibration: Calibration,
    *,
    minimum_area: int = 0,
    width: float | None = None,
    usual_area: float | None = None,
    ids: NDArray[np.uint16] | None = None,
) -> FrameObjects:
    """Tell the objects of a mask apart and measure them.

    Args:
        mask: bool (H, W).
        probability: float32 (H, W), of object.
        calibration: Of the probability.
        minimum_area: Smaller components, in pixels, are left out.
        width: Usual width of an object; see :func:`~dvos.media.splitting.split_mask`.
        usual_area: Usual area of an object of that width, likewise.
        ids: uint16 (H, W), of objects that are already told apart; 0 elsewhere.
    """
    if ids is None:
        split = split_mask(mask, minimum_area=minimum_area, width=width, area=usual_area)
    else:
        split = split_mask(mask, width=width)
    labels, names = split.labels, np.arange(1, split.count + 1)
    if ids is not None:
        labels, names = _without_gaps(np.where(mask, ids, 0), minimum_area)
    places = np.flatnonzero(labels)
    numbers = labels.ravel()[places] - 1
    count = len(names)
    y, x = np.divmod(places, mask.shape[1])

    def total(values: NDArray[Any] | None) -> Doubles:
        return np.bincount(numbers, values, minlength=count).astype(np.float64)

    area = total(None)
    at_x, at_y = total(x) / area, total(y) / area
    length, across, orientation = _axes(x - at_x[numbers], y - at_y[numbers], area, total)
    likely = probability.ravel()[places]
    surest = np.zeros(count, np.float32)
    np.maximum.at(surest, numbers, likely)
    return FrameObjects(
        labels=labels,
        numbers=names,
        area=area.astype(np.int64),
        length=length,
        width=across,
        orientation=orientation,
        centre=np.stack([at_x, at_y], axis=1),
        probability=total(likely) / area,
        peak_probability=calibration(surest).astype(np.float64),
        touches_border=_on_border(labels, count),
    )


def _without_gaps(
    ids: NDArray[np.uint16], minimum_area: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels from 1 of the ids with enough pixels, and which id each label stands for."""
    names, places, areas = np.unique(ids, return_inverse=True, return_counts=True)
    kept = (names > 0) & (areas >= minimum_area)
    labels = np.zeros(len(names), np.int32)
    labels[kept] = np.arange(1, kept.sum() + 1)
    return labels[places].reshape(ids.shape), names[kept].astype(np.int64)


def _axes(
    dx: Doubles, dy: Doubles, area: Doubles, total: _Total
) -> tuple[Doubles, Doubles, Doubles]:
    """Length, width and orientation from the second central moments.

    An ellipse with the half-axes a and b has the moments a**2 / 4 and b**2 / 4
    along them.
    """
    xx = total(dx * dx) / area + _PIXEL_MOMENT
    yy = total(dy * dy) / area + _PIXEL_MOMENT
    xy = total(dx * dy) / area
    middle = (xx + yy) / 2
    apart = np.hypot((xx - yy) / 2, xy)
    # The image's y axis points down: as seen, angles turn the other way.
    orientation = np.degrees(-0.5 * np.arctan2(2 * xy, xx - yy))
    orientation[orientation <= -90] += 180
    return 4 * np.sqrt(middle + apart), 4 * np.sqrt(np.maximum(middle - apart, 0)), orientation


def _on_border(labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    touching = np.zeros(count + 1, np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[edge] = True
    return touching[1:]
