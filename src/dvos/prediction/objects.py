"""The objects of a frame: told apart and measured, by what training learnt about objects.

Importing this module loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.media.grouping import ObjectMaps, group_mask
from dvos.media.splitting import split_mask
from dvos.prediction.calibration import PlattScaling

Doubles = NDArray[np.float64]

#: A pixel is a square of side 1, which has this second moment about its centre.
_PIXEL_MOMENT = 1 / 12
_DECIMALS = 2


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """Objects of a frame; entry i of each array (N, ...) belongs to number i + 1 of the labels.

    Attributes:
        labels: (H, W): 0 background, objects from 1 without gaps.
        numbers: What files call them: the ids of a network that follows objects through frames,
            or else those of the labels.
        area: Pixels.
        length: Pixels: the longer axis of the ellipse with the object's second moments.
        width: The shorter axis.
        orientation: Of the longer axis, degrees from the image's rows, counter-clockwise as seen,
            above -90 to 90.
        centre: (N, 2): x, y, pixels, (0, 0) the middle of the upper left pixel.
        probability: Mean over the object's pixels.
        peak_probability: Calibrated, of the object's surest pixel. Where its edge lies says
            nothing of whether it is there.
        motion: (N, 2): x, y from the centre to where it was in the frame before, pixels; None of
            networks that do not tell it.
        tracks: Permanent ids, from 1; 0 of objects in no track. None where none were followed.
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
    motion: NDArray[np.float32] | None = None
    tracks: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """Number of objects."""
        return len(self.area)

    def rows(self) -> list[list[object]]:
        """A row for each object, as the columns of ``<clip>.objects.csv`` from ``object`` on."""
        shape = (self.length, self.width, self.orientation, *self.centre.T)
        probability, touches = np.round(self.probability, 4), self.touches_border.astype(int)
        columns = (self.numbers, self.area, *np.round(shape, _DECIMALS), probability, touches)
        return [list(row) for row in zip(*(values.tolist() for values in columns), strict=True)]


def find_objects(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    scaling: PlattScaling,
    *,
    minimum_area: int = 0,
    width: float | None = None,
    usual_area: float | None = None,
    ids: NDArray[np.uint16] | None = None,
    maps: ObjectMaps | None = None,
) -> FrameObjects:
    """Tell the objects of a mask apart and measure them.

    They are told apart by ``ids`` (H, W), 0 elsewhere, where these are known, else by where
    ``maps`` say that their centres are, else by their shapes, whose usual ``width`` and area
    :func:`~dvos.media.splitting.split_mask` explains. Those below ``minimum_area`` are left out.
    """
    # Their compiler takes seconds to load: only those who measure pay.
    from dvos.prediction.measuring import sum_up

    names = motion = None
    if ids is not None:
        # Labels from 1 of the ids with enough pixels, and which id each label stands for.
        found, places, areas = np.unique(
            np.where(mask, ids, 0), return_inverse=True, return_counts=True
        )
        kept = (found > 0) & (areas >= minimum_area)
        labels = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[places].reshape(ids.shape)
        names = found[kept].astype(np.int64)
    elif maps is not None:
        grouped = group_mask(mask, maps, minimum_area=minimum_area, area=usual_area)
        labels, motion = grouped.labels, grouped.motion
    else:
        labels = split_mask(mask, minimum_area=minimum_area, width=width, area=usual_area).labels
    if names is None:
        names = np.arange(1, int(labels.max(initial=0)) + 1)
    count = len(names)
    touching = np.zeros(count + 1, np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[edge] = True
    (area, x, y, xx, yy, xy, total), surest = sum_up(labels, probability, count)
    # Whole numbers below 2**53: of all but huge objects nothing is lost, and squares lie straight.
    moments = ((area * xx - x * x), (area * yy - y * y), (area * xy - x * y))
    length, across, orientation = _axes(*(moment / area**2 for moment in moments))
    return FrameObjects(
        labels=labels,
        numbers=names,
        area=area.astype(np.int64),
        length=length,
        width=across,
        orientation=orientation,
        centre=np.stack([x / area, y / area], axis=1),
        probability=total / area,
        peak_probability=scaling(surest).astype(np.float64),
        touches_border=touching[1:],
        motion=motion,
    )


def _axes(xx: Doubles, yy: Doubles, xy: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Length, width and orientation; half-axes a and b have the moments a**2 / 4 and b**2 / 4."""
    xx, yy = xx + _PIXEL_MOMENT, yy + _PIXEL_MOMENT
    middle = (xx + yy) / 2
    apart = np.hypot((xx - yy) / 2, xy)
    # The image's y axis points down: as seen, angles turn the other way.
    orientation = np.degrees(-0.5 * np.arctan2(2 * xy, xx - yy))
    orientation[orientation <= -90] += 180
    return 4 * np.sqrt(middle + apart), 4 * np.sqrt(np.maximum(middle - apart, 0)), orientation
