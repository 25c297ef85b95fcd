"""What a labelled frame teaches: cells of objects and of background, and what each counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.labelling.classifier import Samples
from dvos.labelling.features import FrameFeatures, Part
from dvos.media.mask import IGNORE

Ids = NDArray[np.uint16]
Mask = NDArray[np.bool_]

#: Cells of objects, and of background, that a frame gives at most.
_CELLS = 600
#: Weights of what is labelled object, of what is surely none, of what nobody has looked at, and of
#: one click.
_OBJECT, _BACKGROUND, _UNLABELLED, _CLICK = 0.4, 0.2, 0.3, 0.1
#: Share of a cell that must be object for it to be one, and less than which it is none.
_MOST, _LEAST = 0.7, 0.2
#: Cells about an object's edge, in the unlabelled surroundings, that are taken for background.
_RIM = 5
#: Cells about a click that belong to what was pointed at.
_REACH = 1


@dataclass(frozen=True)
class Click:
    """A pixel that somebody pointed at.

    Attributes:
        x: Column.
        y: Row.
        take: Whether it is (part of) an object; else it is none.
    """

    x: int
    y: int
    take: bool


def frame_samples(
    features: FrameFeatures, ids: Ids, known: Mask | None, clicks: Sequence[Click]
) -> Samples:
    """What a frame teaches.

    Args:
        features: Of the frame.
        ids: uint16 (H, W), 0 where no object is, ``IGNORE`` where it is not known what is.
        known: bool (H, W), where somebody has looked, so that 0 is background; None: nowhere.
        clicks: All in the frame.
    """
    rng = np.random.default_rng(1)
    parts = [
        sample for part in features.parts(kept=True) for sample in _of_part(part, ids, known, rng)
    ]
    parts += [sample for click in clicks for sample in click_samples(features, click)]
    if known is None or not known.all():
        # What a checkpoint takes for an object is none only if somebody says so.
        none = features.ground_told <= 0
        told = features.ground_told[none]
        parts.append(Samples.of(features.ground[none], 0.0, _UNLABELLED, told))
    return Samples.joined(parts)


def click_samples(features: FrameFeatures, click: Click) -> Iterator[Samples]:
    """What a click teaches; nothing where it lies outside the frame."""
    for part in features.parts((click.y, click.x, click.y + 1, click.x + 1)):
        row, column = part.cell_of(click.y, click.x)
        rows = slice(max(0, row - _REACH), row + _REACH + 1)
        columns = slice(max(0, column - _REACH), column + _REACH + 1)
        near = part.cells[rows, columns].reshape(-1, part.cells.shape[2])
        told = part.told_cells[rows, columns].ravel()
        yield Samples.of(near, float(click.take), _CLICK, told)


def _of_part(
    part: Part, ids: Ids, known: Mask | None, rng: np.random.Generator
) -> Iterator[Samples]:
    own = part.cut(ids)
    share = part.pooled((own > 0) & (own != IGNORE))
    sure = part.pooled(own == IGNORE) == 0
    objects = (share > _MOST) & sure
    if known is None:
        seen = cv2.dilate((share > 0).astype(np.uint8), np.ones((_RIM, _RIM), np.uint8)) > 0
    else:
        seen = part.pooled(part.cut(known)) == 1
    grounds = (share < _LEAST) & sure & seen
    # What is looked at stands for what otherwise nobody has.
    ground = _BACKGROUND if known is None else _BACKGROUND + _UNLABELLED
    for chosen, label, weight in ((objects, 1.0, _OBJECT), (grounds, 0.0, ground)):
        cells, told = part.cells[chosen], part.told_cells[chosen]
        if len(cells) > _CELLS:
            some = rng.choice(len(cells), _CELLS, replace=False)
            cells, told = cells[some], told[some]
        if len(cells):
            yield Samples.of(cells, label, weight, told)
