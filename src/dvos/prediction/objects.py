"""The objects of a frame: told apart and measured, by what training learnt about objects.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.media.grouping import ObjectMaps, group_mask
from dvos.media.splitting import split_mask
from dvos.prediction.totals import TrackCalibration, read_track_calibration

Doubles = NDArray[np.float64]

# Float32 probabilities of 0 and 1 stand for logits beyond this, which it caps.
_SMALLEST = 1e-6
#: A pixel is a square of side 1, which has this second moment about its centre.
_PIXEL_MOMENT = 1 / 12
_DECIMALS = 2


@dataclass(frozen=True)
class PlattScaling:
    """Turns a network's probability into the share of such pixels that are object.

    ``sigmoid(logit / temperature + bias)``: Platt scaling (Platt 1999) in the
    form of temperature scaling (Guo et al. 2017) with a bias.

    Attributes:
        temperature: Above 1 where the network is too sure; positive.
        bias: Above 0 where it finds too little.
    """

    temperature: float
    bias: float

    def __call__(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrate probabilities, float32 of any shape in 0..1."""
        kept = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
        odds = np.exp(-self.bias) * ((1 - kept) / kept) ** (1 / self.temperature)
        return np.asarray(1 / (1 + odds), np.float32)

    def before(self, calibrated: float) -> float:
        """The probability that is calibrated to this one, which lies inside 0..1."""
        logit = self.temperature * (np.log(calibrated / (1 - calibrated)) - self.bias)
        return float(1 / (1 + np.exp(-logit)))


@dataclass(frozen=True)
class CountCalibration:
    """What training learnt about objects, by which counts are right; None where it did not.

    Attributes:
        width: Median width of an object, pixels of the network's training
            frames, that is of frames after the predictor's ``scale``.
        area: Median visible area likewise, pixels squared.
        error: Relative error of the number told apart in exact masks, a
            standard deviation.
        dispersion: By the network's masks: variance of the number told apart
            in them about that in true masks, for each object.
        scaling: Of the network's probabilities, to calibrated ones.
        tracks: How the number of tracks leads to that of distinct objects.
    """

    width: float | None = None
    area: float | None = None
    error: float | None = None
    dispersion: float | None = None
    scaling: PlattScaling | None = None
    tracks: TrackCalibration | None = None

    def at_scale(self, scale: float) -> CountCalibration:
        """The same in pixels of frames that are resized by ``scale`` for the network."""
        return replace(
            self,
            width=None if self.width is None else self.width / scale,
            area=None if self.area is None else self.area / scale**2,
        )


def read_calibration(extra: Mapping[str, Any]) -> CountCalibration:
    """What the ``extra`` of a checkpoint says about objects.

    Args:
        extra: Of its :class:`~dvos.networks.weights.NetworkInfo`: ``objects``
            with ``width``, ``area`` and ``error`` (before that, ``found`` and
            ``spread``), ``calibration`` with ``temperature`` and ``bias``, and
            ``counting`` with ``dispersion``. What is absent, or no number that makes
            sense, is None.
    """
    temperature = _number(extra, "calibration", "temperature")
    bias = _number(extra, "calibration", "bias", -np.inf)
    error = _number(extra, "objects", "error")
    found, spread = (_number(extra, "objects", name) for name in ("found", "spread"))
    if error is None and found is not None and spread is not None:
        # Older checkpoints tell the share found, and how it varied about its mean.
        error = float(np.hypot(found - 1, found * spread))
    known = temperature is not None and bias is not None
    return CountCalibration(
        width=_number(extra, "objects", "width"),
        area=_number(extra, "objects", "area"),
        error=error,
        dispersion=_number(extra, "counting", "dispersion"),
        scaling=PlattScaling(float(temperature or 1), float(bias or 0)) if known else None,
        tracks=read_track_calibration(extra),
    )


def _number(extra: Mapping[str, Any], part: str, name: str, least: float = 0.0) -> float | None:
    """A finite number above ``least`` in a part of ``extra``; None where there is no such one."""
    values = extra.get(part)
    found = values.get(name) if isinstance(values, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    with suppress(OverflowError):
        return float(found) if least < float(found) < np.inf else None
    return None


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
