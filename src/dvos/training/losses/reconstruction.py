"""Losses of the reconstruction, each from sums over the pixels or images of a batch.

All pixels count, those of unknown label too: the colours of the query are
known everywhere. Errors and gradients are of normalised colours, in which the
channels vary alike; similarity and perception are of colours 0..1, for which
their constants were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from dvos.training.losses.perceptual import PerceptualFeatures
from dvos.training.losses.similarity import ms_ssim
from dvos.training.losses.sums import LossPart, Sums

__all__ = [
    "Dissimilarity",
    "GradientDifference",
    "ImageBatch",
    "ImageLoss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PerceptualLoss",
]


@dataclass(frozen=True)
class ImageBatch:
    """Reconstructions and the query frames they should equal.

    Attributes:
        made: float32 (B, 3, H, W), normalised.
        query: Likewise.
        mean: Of the normalisation, per channel, on values 0..1.
        std: Likewise.
    """

    made: Tensor
    query: Tensor
    mean: Sequence[float]
    std: Sequence[float]

    @cached_property
    def values(self) -> Sums:
        """``values``: how many numbers a batch of images has."""
        return {"values": self.made.new_tensor(float(self.made.numel()))}

    @cached_property
    def images(self) -> Sums:
        """``images``: how many images the batch has."""
        return {"images": self.made.new_tensor(float(len(self.made)))}

    @cached_property
    def colours(self) -> tuple[Tensor, Tensor]:
        """Reconstructions and queries in colours 0..1, the former not clipped to that range."""
        mean = self.made.new_tensor(self.mean).view(1, 3, 1, 1)
        std = self.made.new_tensor(self.std).view(1, 3, 1, 1)
        return self.made * std + mean, self.query * std + mean


class ImageLoss(LossPart, Protocol):
    """One loss of the reconstruction."""

    def sums(self, batch: ImageBatch) -> Sums:
        """What it needs of a batch; sums of one name are one and the same in all losses."""


class MeanSquaredError:
    """Mean of squared differences of normalised colours."""

    name = "mse"

    def sums(self, batch: ImageBatch) -> Sums:
        """``squares`` and ``values``."""
        return {"squares": F.mse_loss(batch.made, batch.query, reduction="sum")} | batch.values

    def value(self, sums: Sums) -> Tensor:
        """See the class."""
        return sums["squares"] / sums["values"]


class MeanAbsoluteError:
    """Mean of absolute differences of normalised colours."""

    name = "mae"

    def sums(self, batch: ImageBatch) -> Sums:
        """``absolutes`` and ``values``."""
        return {"absolutes": F.l1_loss(batch.made, batch.query, reduction="sum")} | batch.values

    def value(self, sums: Sums) -> Tensor:
        """See the class."""
        return sums["absolutes"] / sums["values"]


class GradientDifference:
    """How much the steps between neighbouring pixels differ in size.

    The mean over all pairs of neighbours, down and across together, of
    ||a - b| - |a' - b'||, with a and b a pair of the query and a' and b' the
    same pair of the reconstruction (Mathieu et al., ICLR 2016, arXiv
    1511.05440, equation 6 with exponent 1, divided by the number of pairs).
    """

    name = "gradient_difference"

    def sums(self, batch: ImageBatch) -> Sums:
        """``step_differences`` and ``steps``."""
        differences, count = batch.made.new_zeros(()), 0
        for axis in (-2, -1):
            steps = (batch.query.diff(dim=axis).abs() - batch.made.diff(dim=axis).abs()).abs()
            differences = differences + steps.sum()
            count += steps.numel()
        return {"step_differences": differences, "steps": differences.new_tensor(float(count))}

    def value(self, sums: Sums) -> Tensor:
        """See the class."""
        return sums["step_differences"] / sums["steps"]


class Dissimilarity:
    """1 - MS-SSIM of colours 0..1, the mean over images; see :mod:`.similarity`."""

    name = "ms_ssim"

    def sums(self, batch: ImageBatch) -> Sums:
        """``dissimilarity`` and ``images``."""
        made, query = batch.colours
        return {"dissimilarity": (1 - ms_ssim(made, query)).sum()} | batch.images

    def value(self, sums: Sums) -> Tensor:
        """See the class."""
        return sums["dissimilarity"] / sums["images"]


class PerceptualLoss:
    """Mean squared difference of a trained network's features; see :mod:`.perceptual`.

    Args:
        features: The network; it is moved to where the images are.
    """

    name = "perceptual"

    def __init__(self, features: PerceptualFeatures) -> None:
        self.features = features

    def sums(self, batch: ImageBatch) -> Sums:
        """``feature_squares`` and ``images``."""
        features = self.features.to(batch.made.device)
        made, query = (features(colours) for colours in batch.colours)
        distances = (made - query).square().flatten(1).mean(1)
        return {"feature_squares": distances.sum()} | batch.images

    def value(self, sums: Sums) -> Tensor:
        """See the class."""
        return sums["feature_squares"] / sums["images"]
