"""Objects drawn where a test says they are, and what linking makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import LinkingSettings
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.objects import FrameObjects, find_objects
from dvos.prediction.tracks.linking import Linker
from dvos.prediction.tracks.state import LinkedFrame

SIZE = (120, 160)


def drawn(
    places: Sequence[Sequence[float]], size: tuple[int, int] = SIZE, radius: float = 5.0
) -> NDArray[np.uint16]:
    """Discs at (x, y) or (x, y, radius), numbered from 1; later ones lie on top."""
    labels = np.zeros(size, np.uint16)
    y, x = np.mgrid[: size[0], : size[1]]
    for number, (at_x, at_y, *own) in enumerate(places, 1):
        r = own[0] if own else radius
        labels[(x - at_x) ** 2 + (y - at_y) ** 2 <= r * r] = number
    return labels


def measured(labels: NDArray[np.uint16]) -> FrameObjects:
    """The objects of a label image."""
    mask = labels > 0
    return find_objects(mask, mask * np.float32(0.9), CountCalibration(), ids=labels)


def linked(frames: Iterable[NDArray[np.uint16]], **settings: object) -> list[dict[int, int]]:
    """The track of each object that is seen in a frame, by its number in the label image."""
    return [
        dict(zip(numbers, one.ids.tolist()[: len(numbers)], strict=True))
        for numbers, one in both(frames, **settings)
    ]


def both(
    frames: Iterable[NDArray[np.uint16]], **settings: object
) -> list[tuple[list[int], LinkedFrame]]:
    """Numbers of the objects of each frame, and how it was linked."""
    linker = Linker(LinkingSettings.model_validate(settings))
    numbers, found = [], []
    for labels in frames:
        objects = measured(labels)
        numbers.append(objects.numbers.tolist())
        found += linker.push(objects)
    found += linker.finish()
    return list(zip(numbers, found, strict=True))
