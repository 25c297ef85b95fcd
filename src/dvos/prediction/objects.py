"""What a checkpoint knows about its objects: their usual size, and how sure it is of a pixel.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "ObjectKnowledge", "read_knowledge"]

# Float32 probabilities of 0 and 1 stand for logits beyond this, which it caps.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Calibration:
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
class ObjectKnowledge:
    """What training learnt about objects; None where it did not.

    Attributes:
        width: Median width of an object, pixels of the network's training
            frames, that is of frames after the predictor's ``scale``.
        area: Median visible area likewise, pixels squared.
        error: Relative error of the number told apart in exact masks, a
            standard deviation.
        dispersion: By the network's masks: variance of the number told apart
            in them about that in true masks, for each object.
        calibration: Of the network's probabilities.
    """

    width: float | None = None
    area: float | None = None
    error: float | None = None
    dispersion: float | None = None
    calibration: Calibration | None = None

    def at_scale(self, scale: float) -> ObjectKnowledge:
        """The same in pixels of frames that are resized by ``scale`` for the network."""
        return replace(
            self,
            width=None if self.width is None else self.width / scale,
            area=None if self.area is None else self.area / scale**2,
        )


def read_knowledge(extra: Mapping[str, Any]) -> ObjectKnowledge:
    """What the ``extra`` of a checkpoint says about objects.

    Args:
        extra: Of its :class:`~dvos.networks.weights.NetworkInfo`: ``objects``
            with ``width``, ``area`` and ``error`` (before that, ``found`` and
            ``spread``), ``calibration`` with ``temperature`` and ``bias``, and
            ``counting`` with ``dispersion``. What is absent, or no number that makes
            sense, is None.
    """
    objects, calibration = _mapping(extra, "objects"), _mapping(extra, "calibration")
    temperature, bias = _number(calibration, "temperature"), _number(calibration, "bias")
    known = temperature is not None and temperature > 0 and bias is not None
    return ObjectKnowledge(
        width=_positive(objects, "width"),
        area=_positive(objects, "area"),
        error=_splitting_error(objects),
        dispersion=_positive(_mapping(extra, "counting"), "dispersion"),
        calibration=Calibration(float(temperature or 1), float(bias or 0)) if known else None,
    )


def _splitting_error(objects: Mapping[str, Any]) -> float | None:
    error = _positive(objects, "error")
    found, spread = _positive(objects, "found"), _positive(objects, "spread")
    if error is not None or found is None or spread is None:
        return error
    # Older checkpoints tell the share found, and how it varied about its mean.
    return float(np.hypot(found - 1, found * spread))


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _number(values: Mapping[str, Any], name: str) -> float | None:
    found = values.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not np.isfinite(found):
        return None
    return float(found)


def _positive(values: Mapping[str, Any], name: str) -> float | None:
    found = _number(values, name)
    return found if found is not None and found > 0 else None
