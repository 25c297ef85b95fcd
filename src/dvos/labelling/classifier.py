"""The classifier of labelling: logistic regression that holds to what it knew before.

Arrays only; N samples, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]

_ITERATIONS = 40
#: Least gain of a step, of the loss.
_LEAST_GAIN = 1e-5


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled cells.

    Attributes:
        features: float32 (N, D).
        labels: float32 (N,), 1 object, 0 background.
        weights: float32 (N,), what each counts.
        told: float32 (N,), logit of object that a checkpoint tells; 0 without one. What is learnt
            is added to it.
    """

    features: Singles
    labels: Singles
    weights: Singles
    told: Singles

    @classmethod
    def of(cls, features: Singles, label: float, weight: float, told: Singles) -> Samples:
        """Cells of one label, which count ``weight`` together."""
        count = len(features)
        each = np.float32(weight / max(1, count))
        labels, weights = (np.full(count, value, np.float32) for value in (label, each))
        return cls(features, labels, weights, told)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """All samples of several."""
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.told for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The logit of object is ``features @ weights + bias``, and what a checkpoint tells.

    Attributes:
        weights: float32 (D,).
        bias: Added.
    """

    weights: Singles
    bias: float

    @classmethod
    def blank(cls, features: int) -> LinearModel:
        """One that knows nothing."""
        return cls(np.zeros(features, np.float32), 0.0)


def fit(
    samples: Samples, before: LinearModel, penalty: float, start: LinearModel | None = None
) -> LinearModel:
    """Logistic regression with a penalty on the squared distance from earlier weights.

    It is the most likely model with a normal prior about the earlier one.

    Args:
        samples: What is learnt from.
        before: What the weights are held to.
        penalty: Above 0.
        start: Where the search starts; None: at ``before``.
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
    # L-BFGS (Liu and Nocedal 1989).
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options=limits)
    return LinearModel(found.x[:-1].astype(np.float32), float(found.x[-1]))
