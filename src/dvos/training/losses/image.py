"""Losses of the reconstruction, each from sums over the pixels or images of a batch.

All pixels count, those of unknown label too. Errors and gradients are of normalised colours, in
which the channels vary alike; similarity and perception are of colours 0..1, for which their
constants were made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.errors import CheckpointError
from dvos.networks.published import torch_load
from dvos.networks.spec import Normalisation
from dvos.training.losses.mask import MeanLoss

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
_DEVIATION = 1.5
_C1 = 0.01**2
_C2 = 0.03**2

#: A lower mean, maybe negative, is taken for this, so that no scale takes the others' gradient.
_LEAST = 1e-4

#: Convolutions up to relu3_3: channels by number in torchvision's ``features``.
_CHANNELS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
#: Convolutions that a 2 x 2 maximum comes before.
_AFTER_POOLING = (5, 10)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_EXPECTED = "a PyTorch state dict of VGG16, as vgg16-397923af.pth of torchvision"
_REMEDY = "give such a file, or set losses.perceptual to 0"


@dataclass(frozen=True)
class ImageBatch:
    """Reconstructions and the query frames they should equal, normalised float32 (B, 3, H, W)."""

    made: Tensor
    query: Tensor
    normalisation: Normalisation

    @cached_property
    def colours(self) -> tuple[Tensor, Tensor]:
        """Reconstructions and queries in colours 0..1, the former not clipped to that range."""
        # Filled where they are: a copy from the host would make the device wait.
        mean, std = (
            torch.stack([self.made.new_full((), value) for value in values]).view(1, 3, 1, 1)
            for values in (self.normalisation.mean, self.normalisation.std)
        )
        return self.made * std + mean, self.query * std + mean

    def amount(self, count: int) -> Tensor:
        """A count as a scalar tensor, where the images are."""
        return self.made.new_full((), float(count))


ImageLoss = MeanLoss[ImageBatch]


def error(batch: ImageBatch, of: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Mean ``of`` normalised colours, which is a loss of :mod:`torch.nn.functional`."""
    return of(batch.made, batch.query, reduction="sum"), batch.amount(batch.made.numel())


def gradient_difference(batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """How much steps between neighbours differ in size (Mathieu et al., arXiv 1511.05440, eq 6)."""
    differences, count = batch.made.new_zeros(()), 0
    for axis in (-2, -1):
        steps = (batch.query.diff(dim=axis).abs() - batch.made.diff(dim=axis).abs()).abs()
        differences = differences + steps.sum()
        count += steps.numel()
    return differences, batch.amount(count)


def dissimilarity(batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """1 - MS-SSIM of colours 0..1, the mean over images."""
    return (1 - ms_ssim(*batch.colours)).sum(), batch.amount(len(batch.made))


def perceptual(batch: ImageBatch, *, features: PerceptualFeatures) -> tuple[Tensor, Tensor]:
    """Mean squared difference of trained features (Johnson et al., arXiv 1603.08155, 3.2)."""
    made, query = (features.to(batch.made.device)(colours) for colours in batch.colours)
    return (made - query).square().flatten(1).mean(1).sum(), batch.amount(len(batch.made))


def scales_of(height: int, width: int) -> int:
    """How many scales images of a size have: as many as the window fits into, 1 to 5."""
    scales = 1
    while scales < len(_WEIGHTS) and min(height, width) >> scales >= _WINDOW:
        scales += 1
    return scales


def ms_ssim(one: Tensor, other: Tensor) -> Tensor:
    """MS-SSIM of each pair of images (B, C, H, W) of colours 0..1, (B,): 1 for equal ones.

    Wang, Simoncelli and Bovik, Asilomar 2003, doi:10.1109/ACSSC.2003.1292216. Images too small for
    five scales have a smaller window or fewer scales, with weights of the same sum.
    """
    scales = scales_of(one.shape[-2], one.shape[-1])
    scale_up = sum(_WEIGHTS) / sum(_WEIGHTS[:scales])
    product = one.new_ones(one.shape[:2])
    for scale in range(scales):
        if scale:
            one, other = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2)
        moments = torch.cat([one, other, one * one, other * other, one * other])
        m1, m2, square1, square2, both = _blurred(moments).chunk(5)
        variances = (square1 - m1**2) + (square2 - m2**2)
        places = (2 * (both - m1 * m2) + _C2) / (variances + _C2)
        if scale == scales - 1:
            places = places * (2 * m1 * m2 + _C1) / (m1**2 + m2**2 + _C1)
        similarity = places.mean((-2, -1)).clamp_min(_LEAST)  # (B, C)
        product = product * similarity ** (_WEIGHTS[scale] * scale_up)
    return product.mean(1)


def _blurred(images: Tensor) -> Tensor:
    """(N, C, H, W) under the window, only where it fits."""
    count, channels, height, width = images.shape
    side = min(_WINDOW, height, width)
    places = torch.arange(side, dtype=torch.float32, device=images.device) - (side - 1) / 2
    line = torch.exp(-(places**2) / (2 * _DEVIATION**2))
    line = line / line.sum()
    planes = images.reshape(count * channels, 1, height, width)
    planes = F.conv2d(F.conv2d(planes, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))
    return planes.view(count, channels, *planes.shape[-2:])


class PerceptualFeatures(nn.Module):
    """VGG16 up to relu3_3, never trained."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        inputs = 3
        for number, channels in _CHANNELS.items():
            self.features[str(number)] = nn.Conv2d(inputs, channels, 3, padding=1)
            inputs = channels
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), False)
        self.requires_grad_(False)

    def forward(self, colours: Tensor) -> Tensor:
        """Map RGB 0..1 (B, 3, H, W), sides of 4 pixels and more, to (B, 256, H / 4, W / 4)."""
        x = (colours - self.mean) / self.std
        for number in _CHANNELS:
            if number in _AFTER_POOLING:
                x = F.max_pool2d(x, 2)
            x = F.relu(self.features[str(number)](x))
        return x


def load_perceptual_features(path: Path) -> PerceptualFeatures:
    """Read VGG16 weights, of a whole network or its features; a CheckpointError else."""
    fault = partial(CheckpointError.at, path, expected=_EXPECTED, remedy=_REMEDY)
    if not path.is_file():
        raise fault("no such file")
    try:
        stored = torch_load(path)
    except Exception as error:
        raise fault("cannot be read as PyTorch weights") from error
    if not isinstance(stored, dict):
        raise fault(f"holds a {type(stored).__name__}")
    network = PerceptualFeatures()
    state = network.state_dict()
    found = {key: stored.get(key, stored.get(key.removeprefix("features."))) for key in state}
    for key, value in state.items():
        if getattr(found[key], "shape", None) != value.shape:
            raise fault(f"has no {key} of VGG16")
    network.load_state_dict(found)
    return network
