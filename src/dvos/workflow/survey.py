"""What a user's labels show: how large objects are, how many, and how close to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from dvos.config.base import merged
from dvos.config.workflow import MethodSettings
from dvos.media.addressed import read_image_at
from dvos.media.mask import label_components
from dvos.media.splitting import split_mask
from dvos.tables import StillRow

M = TypeVar("M", bound=MethodSettings)

#: Lengths of objects, pixels, that the network sees as they are; what is outside is brought to
#: the nearer of the two lengths after them.
_SEEN = (12.0, 110.0)
_WANTED = (20.0, 64.0)
_LARGEST_SCALE = 4.0
#: Smallest cutout, as a share of the median object's area, and in pixels.
_SMALLEST_SHARE, _SMALLEST = 0.15, 9


@dataclass(frozen=True)
class Survey:
    """What the labelled pictures show, medians over some of them."""

    pictures: int  # Labelled pictures there are.
    size: tuple[int, int]  # (height, width), pixels.
    objects: int  # In a picture, up to its middle 2,048 pixels.
    length: float  # Of an object, pixels; 0 where there is none to measure.
    area: float  # Likewise, pixels.
    density: float  # Objects a megapixel.
    touching: float  # Share of the objects that touch another.
    apart: bool  # Whether the masks number their objects.

    @property
    def scale(self) -> float:
        """Size at which the network had better see the pictures, of their own."""
        if not self.length or _SEEN[0] <= self.length <= _SEEN[1]:
            return 1.0
        wanted = _WANTED[0] if self.length < _SEEN[0] else _WANTED[1]
        return round(min(_LARGEST_SCALE, wanted / self.length), 2)

    def __str__(self) -> str:
        text = f"{self.pictures} labelled pictures of {self.size[1]} x {self.size[0]} pixels"
        if not self.length:
            return f"{text}, objects of no measurable size"
        return (
            f"{text}, {self.objects} objects in one, {self.length:.0f} pixels long, "
            f"{self.density:.0f} a megapixel, {self.touching:.0%} of them touching another"
        )


def look_at(rows: Sequence[StillRow]) -> Survey:
    """Measure labelled pictures, at most 24 of them, evenly spread.

    Raises:
        MediaError: If a picture or a mask cannot be read.
    """
    from dvos.training.clips.stills import LabelledStill
    from dvos.training.object_size import labelled_masks, learn_objects, numbers_objects

    stills = [LabelledStill(row.image, row.mask) for row in rows]
    learnt = learn_objects(labelled_masks(stills, [])) or {"width": 0.0, "area": 0.0}
    width, area = learnt["width"], learnt["area"]
    counts, densities, parts, apart = [], [], 0, False
    for mask in labelled_masks(stills, []):
        components = int(label_components(mask).max(initial=0))
        if numbers_objects(mask, components):
            apart, count = True, len(np.unique(mask[mask != 0]))
        elif width:
            count = split_mask(mask != 0, width=width, area=area).count
        else:
            count = components
        counts.append(count)
        densities.append(count / mask.size * 1e6)
        parts += min(components, count)
    # Of an ellipse; the inner width is its shorter axis.
    length = 4 * area / (np.pi * width) if width else 0.0
    height, across, _ = read_image_at(rows[0].image).shape
    return Survey(
        pictures=len(rows),
        size=(height, across),
        objects=round(float(np.median(counts))),
        length=float(max(length, width)),
        area=area,
        density=float(np.median(densities)),
        touching=1 - parts / sum(counts) if sum(counts) else 0.0,
        apart=apart,
    )


def fitted(settings: M, survey: Survey) -> M:
    """The settings with what the objects ask for: scale and smallest cutouts.

    What the user gave stays.
    """
    chosen: dict[str, Any] = {}
    if survey.scale != 1:
        chosen["train"] = merged({"data": {"scale": survey.scale}}, settings.train)
    if "min_object_size" not in settings.model_fields_set and survey.area:
        least = max(_SMALLEST, round(_SMALLEST_SHARE * survey.area))
        chosen["min_object_size"] = min(settings.min_object_size, least)
    return settings.model_copy(update=chosen)
