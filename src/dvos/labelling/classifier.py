"""What a labelled frame teaches, and logistic regression on that: N samples, D features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from dvos.labelling.edits import Ids
from dvos.labelling.features import FrameFeatures, LinearModel, Part, Singles
from dvos.media.mask import IGNORE

Mask = NDArray[np.bool_]

_ITERATIONS = 40
_LEAST_GAIN = 1e-5  # least gain of a step, of the loss
_CELLS = 600  # cells of objects, and of background, that a frame gives at most
#: Weights of what is labelled object, is surely none, was looked at by nobody, and of one click.
_OBJECT, _BACKGROUND, _UNLABELLED, _CLICK = 0.4, 0.2, 0.3, 0.1
#: Share of a cell that must be object for it to be one, and less than which it is none.
_MOST, _LEAST = 0.7, 0.2
#: Cells about an object's edge, in the unlabelled surroundings, that are taken for background.
_RIM = 5
_REACH = 1  # cells about a click that belong to what was pointed at


class Click(NamedTuple):
    """A pixel that somebody pointed at, as (part of) an object or, without ``take``, as none."""

    x: int
    y: int
    take: bool


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled cells, all float32."""

    features: Singles  # (N, D)
    labels: Singles  # (N,), 1 object, 0 background
    weights: Singles  # (N,), what each counts
    told: Singles  # (N,), logit that a checkpoint tells, or 0; what is learnt is added to it

    @classmethod
    def of(cls, features: Singles, label: float, weight: float, told: Singles) -> Self:
        """Cells of one label, which count ``weight`` together."""
        count = len(features)
        each = np.float32(weight / max(1, count))
        labels, weights = (np.full(count, value, np.float32) for value in (label, each))
        return cls(features, labels, weights, told)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All samples of several."""
        names = [one.name for one in fields(cls)]
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))


def fit(
    samples: Samples, before: LinearModel, penalty: float, start: LinearModel | None = None
) -> LinearModel:
    """Logistic regression with a penalty, above 0, on the squared distance from earlier weights.

    It is the most likely model with a normal prior about the earlier one. The search starts at
    ``start``, or there.
    """
    from scipy.optimize import minimize

    x, y, share, told = samples.features, samples.labels, samples.weights, samples.told

    def loss(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = x @ packed[:-1].astype(np.float32) + np.float32(packed[-1]) + told
        apart = packed[:-1] - before.weights
        value = float(share @ (np.logaddexp(0, logits) - y * logits))
        slope = share * (0.5 + 0.5 * np.tanh(0.5 * logits) - y)
        gradient = np.append(slope @ x + 2 * penalty * apart, slope.sum())
        return value + penalty * float(apart @ apart), gradient.astype(np.float64)

    begin = start or before
    first = np.append(begin.weights, begin.bias).astype(np.float64)
    limits = {"maxiter": _ITERATIONS, "ftol": _LEAST_GAIN}
    # Threads of BLAS wait for each other longer than they compute, where much else runs.
    with _blas().limit(limits=1):
        # L-BFGS (Liu and Nocedal 1989).
        found = minimize(loss, first, jac=True, method="L-BFGS-B", options=limits)
    return LinearModel(found.x[:-1].astype(np.float32), float(found.x[-1]))


@cache
def _blas() -> ThreadpoolController:
    """What numpy and scipy, which are loaded by then, compute with."""
    return ThreadpoolController().select(user_api="blas")


def frame_samples(
    features: FrameFeatures, ids: Ids, known: Mask | None, clicks: Sequence[Click]
) -> Samples:
    """What a frame and all clicks in it teach.

    ``ids`` are uint16 (H, W), 0 where no object is, ``IGNORE`` where it is not known what is;
    ``known``, bool (H, W), is where somebody has looked, so that 0 is background; None: nowhere.
    """
    rng = np.random.default_rng(1)
    parts = [one for part in features.parts(kept=True) for one in _of_part(part, ids, known, rng)]
    parts += [sample for click in clicks for sample in click_samples(features, click)]
    if known is None or not known.all():
        # What a checkpoint takes for an object is none only if somebody says so; nor is an object
        # that is labelled, or what is labelled unknown.
        none = (features.ground_told <= 0) & (ids[tuple(features.ground_places)] == 0)
        told = features.ground_told[none]
        parts.append(Samples.of(features.ground[none], 0.0, _UNLABELLED, told))
    return Samples.joined(parts)


def click_samples(features: FrameFeatures, click: Click) -> Iterator[Samples]:
    """What a click teaches; nothing where it lies outside the frame."""
    for part in features.parts((click.y, click.x, click.y + 1, click.x + 1)):
        row, column = (click.y - part.box[0]) // part.stride, (click.x - part.box[1]) // part.stride
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
