"""Whether objects have the size in the picture at which the network learnt to count them.

Importing this module loads no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvos.errors import shortened
from dvos.prediction.inputs import ClipInput
from dvos.prediction.predictor import KnowsItsData, Predictor

#: Areas of objects differ by more than this factor between pictures of another scale, and by less
#: between fields, varieties and stages that networks count well.
OTHER_SCALE = 2.0
#: Fewer objects than these tell no usual size.
FEWEST = 20
#: Frames that a scale is measured on, evenly spread over the first of a clip.
_FRAMES, _FIRST = 4, 500
#: Scales tried one after another, and the ratio of areas at which there is nothing left to gain.
_ROUNDS, _NEAR = 4, 1.15
_LEAST, _MOST = 0.05, 8.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipScale:
    """What ``scale: auto`` has found for a clip.

    Attributes:
        fingerprint: Of all that it depends on.
        scale: That is taken; 1 where the evidence is not clear.
        objects: Found at this scale in the frames looked at.
        area: Their median area, pixels of the frame.
        usual_area: Of an object in training, in these pixels; None where it is not known.
    """

    fingerprint: str
    scale: float
    clear: bool
    objects: int
    area: float
    usual_area: float | None


def fitting_scale(scale: float, area: float, usual: float) -> float:
    """The scale at which objects have their usual area, where they have another one at this."""
    return float(f"{min(_MOST, max(_LEAST, scale * (usual / area) ** 0.5)):.2g}")


def differ(area: float, usual: float) -> bool:
    """Whether two areas are too far apart for objects seen at one scale."""
    return max(area / usual, usual / area) > OTHER_SCALE


def measure_scale(clip: ClipInput, predictor: Predictor, fingerprint: str) -> ClipScale:
    """The scale at which objects in some frames of a clip have the size that they had in training.

    Each frame is looked at on its own. Raises a MediaError if the clip cannot be read.
    """
    source = clip.open()
    count = min(source.frame_count or 1, _FIRST)
    images = []
    for index in sorted({clip.first + count * part // _FRAMES for part in range(_FRAMES)}):
        with suppress(StopIteration):
            images.append(next(iter(source.frames(index))).image)

    def at(scale: float) -> ClipScale:
        assert isinstance(predictor, KnowsItsData)
        scaled = predictor if scale == 1 else predictor.at_scale(scale)
        found = [next(iter(scaled.segment([image]))).objects for image in images]
        areas = np.concatenate([one.area[~one.touches_border] for one in found])
        area, usual = float(np.median(areas)) if len(areas) else 0.0, scaled.calibration.area
        enough = len(areas) >= FEWEST and usual is not None
        return ClipScale(fingerprint, scale, enough, len(areas), area, usual)

    if not isinstance(predictor, KnowsItsData) or predictor.calibration.area is None or not images:
        return ClipScale(fingerprint, 1.0, False, 0, 0.0, predictor.calibration.area)
    plain = found = at(1.0)
    for _ in range(_ROUNDS):
        if not found.clear or not found.usual_area:
            break
        if max(found.area / found.usual_area, found.usual_area / found.area) < _NEAR:
            break
        scale = fitting_scale(found.scale, found.area, found.usual_area)
        if scale == found.scale:
            break
        found = at(scale)
    if found.clear and found.usual_area and not differ(found.area, found.usual_area):
        return found if plain.usual_area and differ(plain.area, plain.usual_area) else plain
    return ClipScale(fingerprint, 1.0, False, plain.objects, plain.area, plain.usual_area)


def tell_scales(scales: Mapping[str, ClipScale]) -> None:
    """Say which scale clips were given, and which were left as they are."""
    unclear = [name for name, one in scales.items() if not one.clear]
    if unclear:
        _log.warning(
            "%s: too few objects were found to tell a scale (%d are needed), or none at which they"
            " have their usual size: scale 1 is taken",
            shortened(unclear),
            FEWEST,
        )
    for name, one in scales.items():
        if one.clear and one.scale != 1:
            _log.info(
                "%s: scale %g is taken, at which objects have their usual size", name, one.scale
            )


def tell_sizes(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], usual: Mapping[str, float], scale: float
) -> None:
    """Warn of clips whose objects have another size than those the network learnt to count.

    ``usual`` are areas of an object in training, pixels of the frames; of the clips that are
    judged.
    """
    odd: dict[str, tuple[float, float]] = {}
    for name, area in usual.items():
        found = [row["median_area"] for row in rows[name] if row["count"]]
        if sum(row["count"] for row in rows[name]) >= FEWEST:
            median = float(np.median(found))
            if differ(median, area):
                odd[name] = median, area
    if odd:
        median, area = (float(np.median(values)) for values in zip(*odd.values(), strict=True))
        _log.warning(
            "%s: objects of %.0f pixels were found, and the network has learnt to count such of"
            " %.0f: do not trust the counts; try --scale %g, or --scale auto",
            shortened(list(odd)),
            median,
            area,
            fitting_scale(scale, median, area),
        )
