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
        motion: float32 (N, 2): x, y from the centre to where it was in the frame before, pixels,
            as the network tells it; None of networks that do not.
        tracks: int64 (N,): permanent ids, from 1, of objects that were followed; 0 of those that
            are in no track. None where they were not.
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
    scaling: PlattScaling,
    *,
    minimum_area: int = 0,
    width: float | None = None,
    usual_area: float | None = None,
    ids: NDArray[np.uint16] | None = None,
    maps: ObjectMaps | None = None,
) -> FrameObjects:
    """Tell the objects of a mask apart and measure them.

    They are told apart by their ids, where these are known, else by where their pixels say that
    their centres are, else by their shapes.

    Args:
        mask: bool (H, W).
        probability: float32 (H, W), of object.
        scaling: Of the probability.
        minimum_area: Smaller components, in pixels, are left out.
        width: Usual width of an object; see :func:`~dvos.media.splitting.split_mask`.
        usual_area: Usual area of an object of that width, likewise.
        ids: uint16 (H, W), of objects that are already told apart; 0 elsewhere.
        maps: What the network says of the frame's objects.
    """
    # Their compiler takes seconds to load: only those who measure pay.
    from dvos.prediction.measuring import spread_out, sum_up

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
    area, at_x, at_y, mean, surest = sum_up(labels, probability, count)
    length, across, orientation = _axes(*spread_out(labels, area, at_x, at_y))
    return FrameObjects(
        labels=labels,
        numbers=names,
        area=area,
        length=length,
        width=across,
        orientation=orientation,
        centre=np.stack([at_x, at_y], axis=1),
        probability=mean,
        peak_probability=scaling(surest).astype(np.float64),
        touches_border=touching[1:],
        motion=motion,
    )


def _axes(xx: Doubles, yy: Doubles, xy: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Length, width and orientation from the second central moments of pixels' centres.

    An ellipse with the half-axes a and b has the moments a**2 / 4 and b**2 / 4
    along them.
    """
    xx, yy = xx + _PIXEL_MOMENT, yy + _PIXEL_MOMENT
    middle = (xx + yy) / 2
    apart = np.hypot((xx - yy) / 2, xy)
    # The image's y axis points down: as seen, angles turn the other way.
    orientation = np.degrees(-0.5 * np.arctan2(2 * xy, xx - yy))
    orientation[orientation <= -90] += 180
    return 4 * np.sqrt(middle + apart), 4 * np.sqrt(np.maximum(middle - apart, 0)), orientation
