"""Whether objects have the size in the picture at which the network learnt to count them."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import shortened
from dvos.prediction.inputs import ClipInput
from dvos.prediction.predictor import KnowsItsData, Predictor

FEWEST = 20  # fewer objects than these tell no usual size
#: Frames that a scale is measured on, evenly spread over the first of a clip.
_FRAMES, _FIRST = 4, 500
#: Scales tried one after another, and the ratio of areas at which there is nothing left to gain.
_ROUNDS, _NEAR = 4, 1.15
_LEAST, _MOST = 0.05, 8.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipScale:
    """What objects look like at a scale."""

    fingerprint: str  # of all that it depends on
    scale: float  # of the frames that were looked at
    objects: int  # found in them, whole ones
    area: float  # their median area, pixels of the frame
    sizes: tuple[float, float] | None  # areas that are usual, in these pixels; None if not known

    @property
    def ratio(self) -> float | None:
        """Of the middle of the usual areas to that found; None where too little is known."""
        if self.sizes is None or self.objects < FEWEST:
            return None
        return math.sqrt(self.sizes[0] * self.sizes[1]) / self.area

    @property
    def fits(self) -> bool:
        """Whether objects have about their usual size."""
        low, high = self.sizes or (np.inf, 0.0)
        return self.objects >= FEWEST and low <= self.area <= high


def fitting_scale(scale: float, ratio: float) -> float:
    """The scale at which areas are ``ratio`` times those at this one, to two digits."""
    return float(f"{min(_MOST, max(_LEAST, scale * ratio**0.5)):.2g}")


def whole_areas(predictor: Predictor, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Areas, pixels, of the objects in pictures, each seen alone, that the edge does not cut."""
    found = [next(iter(predictor.segment([image]))).objects for image in images]
    return np.concatenate([[], *(one.area[~one.touches_border] for one in found)])


def measure_scale(clip: ClipInput, predictor: Predictor, fingerprint: str) -> ClipScale:
    """The scale at which objects in some frames, each seen alone, have their size in training."""
    source = clip.open()
    count = min(source.frame_count or 1, _FIRST)
    images = []
    for index in sorted({clip.first + count * part // _FRAMES for part in range(_FRAMES)}):
        with suppress(StopIteration):
            images.append(next(iter(source.frames(index))).image)

    def at(scale: float, scaled: Predictor) -> ClipScale:
        areas = whole_areas(scaled, images)
        area = float(np.median(areas)) if len(areas) else 0.0
        return ClipScale(fingerprint, scale, len(areas), area, scaled.calibration.sizes)

    plain = found = at(1.0, predictor)
    if plain.fits or not isinstance(predictor, KnowsItsData):
        return plain
    for _ in range(_ROUNDS):
        if found.ratio is None or 1 / _NEAR < found.ratio < _NEAR:
            break
        scale = fitting_scale(found.scale, found.ratio)
        found = at(scale, predictor.at_scale(scale))
    return found if found.fits else plain


def tell_scales(scales: Mapping[str, ClipScale]) -> None:
    """Say which scale clips were given, and which were left as they are."""
    unclear = [name for name, one in scales.items() if not one.fits]
    if unclear:
        _log.warning(
            "%s: too few objects were found to tell a scale (%d are needed), or none at which they"
            " have their usual size: scale 1 is taken",
            *(shortened(unclear), FEWEST),
        )
    for name, one in scales.items():
        if one.scale != 1:
            _log.info("%s: scale %g is taken, where objects have their usual size", name, one.scale)


def tell_sizes(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    usual: Mapping[str, tuple[float, float]],
    scale: float,
) -> None:
    """Warn of clips whose objects have another size than in training, the ``usual`` areas."""
    odd: list[tuple[str, ClipScale]] = []
    for name, sizes in usual.items():
        frames = [row for row in rows[name] if row["count"]]
        count = round(sum(row["count"] for row in frames))
        median = float(np.median([row["median_area"] for row in frames])) if frames else 0.0
        found = ClipScale("", scale, count, median, sizes)
        if found.ratio is not None and not found.fits:
            odd.append((name, found))
    if odd:
        found = sorted((one for _, one in odd), key=lambda one: one.ratio or 0)[len(odd) // 2]
        told = (found.area, *(found.sizes or ()), fitting_scale(scale, found.ratio or 1))
        _log.warning(
            "%s: objects of %.0f pixels were found, and the network has learnt to count such of"
            " %.0f to %.0f: do not trust the counts; try --scale %g, or --scale auto",
            *(shortened([name for name, _ in odd]), *told),
        )
