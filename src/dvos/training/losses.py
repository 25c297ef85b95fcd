"""The losses of training, each from sums over the pixels, images or positions of a batch.

With p the probability of object, t the label and w the weight of a pixel, losses of overlap are
formed of O = sum w p t, P = sum w p and T = sum w t over the batch ("batch Dice", Isensee et al.
2021, doi:10.1038/s41592-020-01008-z). Sums are added over devices before anything is divided.

Of the reconstruction all pixels count, those of unknown label too. Errors and gradients are of
normalised colours, in which the channels vary alike; similarity and perception are of colours 0..1,
for which their constants were made.

Errors of offsets and motions are relative to s, the side of a square of the object's area, so that
they count alike for objects of all sizes: offset = sum w |o - o*| / s / sum w, with o and o* the
offset told and the true one, and w the weight of a position, which is smaller in larger objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.errors import CheckpointError
from dvos.networks.spec import Normalisation, ObjectChannels
from dvos.networks.weights import torch_load
from dvos.training.targets import TruthChannels

#: Sums by name, each a scalar tensor.
Sums = dict[str, Tensor]

#: Adds a tensor over all devices; the result carries no gradient.
AddOver = Callable[[Tensor], Tensor]

#: Keeps losses of overlap defined on batches without objects, in pixels.
SMOOTH = 1.0
#: A root has no finite gradient at 0; focal Tversky losses below this have none at all.
_SMALLEST = 1e-7

#: MS-SSIM: the weight of each scale, the window, its deviation, and constants.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
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
_VGG = "a PyTorch state dict of VGG16, as vgg16-397923af.pth of torchvision"
_VGG_REMEDY = "give such a file, or set losses.perceptual to 0"

#: Deviation of the bump about a centre, of the object's size: it covers about a tenth of it.
_BUMP = 0.15

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class MaskBatch:
    """What the network says about the masks of a batch, and the labels, (B, 1, H, W) each.

    Logits are float32; the target, 0 or 1, is 0 where the weight is, for an unknown label.
    """

    logits: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def of(cls, logits: Tensor, target: Tensor, weight: Tensor) -> MaskBatch:
        """A batch whose unknown pixels may hold any target, and logits of any precision."""
        return cls(logits.float(), target * (weight > 0), weight)

    @cached_property
    def areas(self) -> Sums:
        """``overlap``, ``predicted`` and ``target``, as the module defines them."""
        weighted = torch.sigmoid(self.logits) * self.weight
        return {
            "overlap": (weighted * self.target).sum(),
            "predicted": weighted.sum(),
            "target": (self.weight * self.target).sum(),
        }


@dataclass(frozen=True)
class MeanLoss(Generic[Batch]):
    """A loss, by its name in records.csv: a sum over a batch by its amount, both of ``parts``."""

    name: str
    parts: Callable[[Batch], tuple[Tensor, Tensor]]

    def sums(self, batch: Batch) -> Sums:
        """What it needs of a batch."""
        total, amount = self.parts(batch)
        return {self.name: total, f"{self.name}, amount": amount}

    def value(self, sums: Sums) -> Tensor:
        """The loss of a batch of these sums, a scalar tensor."""
        return sums[self.name] / sums[f"{self.name}, amount"].clamp_min(1)


@dataclass(frozen=True)
class OverlapLoss:
    """A loss, by its name in records.csv, of the overlap, predicted and target areas of a batch."""

    name: str
    function: Callable[[Tensor, Tensor, Tensor], Tensor]

    def sums(self, batch: MaskBatch) -> Sums:
        """The areas, which all losses of overlap share."""
        return batch.areas

    def value(self, sums: Sums) -> Tensor:
        """The loss of a batch of these sums, a scalar tensor."""
        return self.function(sums["overlap"], sums["predicted"], sums["target"])


MaskLoss = MeanLoss[MaskBatch] | OverlapLoss


def cross_entropy(batch: MaskBatch) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy, the mean over weights: sum w (-t log p - (1-t) log(1-p)) / sum w."""
    summed = F.binary_cross_entropy_with_logits(
        batch.logits, batch.target, batch.weight, reduction="sum"
    )
    return summed, batch.weight.sum()


def focal(batch: MaskBatch, *, alpha: float | None, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002, equation 5), the mean over weights.

    sum w a (1 - q)^gamma (-log q) / sum w, where q is the probability given to the true label, and
    a is ``alpha`` for object pixels, 1 - ``alpha`` for others, or 1 everywhere.
    """
    toward = batch.logits * (2 * batch.target - 1)
    # (1 - q)^gamma by its logarithm: the power of what rounds to 0 has no finite gradient.
    pixels = -F.logsigmoid(toward) * torch.exp(gamma * F.logsigmoid(-toward))
    weight = batch.weight
    if alpha is not None:
        weight = weight * (alpha * batch.target + (1 - alpha) * (1 - batch.target))
    return (weight * pixels).sum(), batch.weight.sum()


def soft_dice(overlap: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    """1 - (2 O + 1) / (P + T + 1) (Milletari et al., 2016, arXiv 1606.04797, without squares)."""
    both = predicted + target
    return 1 - (2 * overlap + SMOOTH) / (both + SMOOTH)


def soft_iou(overlap: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    """1 - (O + 1) / (P + T - O + 1) (Rahman and Wang, 2016, doi:10.1007/978-3-319-50835-1_22)."""
    union = predicted + target - overlap
    return 1 - (overlap + SMOOTH) / (union + SMOOTH)


def tversky(
    overlap: Tensor, predicted: Tensor, target: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """1 - (O + 1) / (O + alpha (P - O) + beta (T - O) + 1), Salehi et al., arXiv 1706.05721."""
    false, missed = alpha * (predicted - overlap), beta * (target - overlap)
    return 1 - (overlap + SMOOTH) / (overlap + false + missed + SMOOTH)


def focal_tversky(
    overlap: Tensor, predicted: Tensor, target: Tensor, *, alpha: float, beta: float, gamma: float
) -> Tensor:
    """The Tversky loss to the power of 1 / gamma, Abraham and Khan, 2019, arXiv 1810.07842."""
    loss = tversky(overlap, predicted, target, alpha=alpha, beta=beta)
    return torch.where(loss > _SMALLEST, loss.clamp_min(_SMALLEST) ** (1 / gamma), 0.0)


def tensor_loss(
    name: str, function: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> MeanLoss[MaskBatch]:
    """A loss that is any function of :class:`MaskBatch`'s tensors; the mean of several devices."""

    def parts(batch: MaskBatch) -> tuple[Tensor, Tensor]:
        clips = batch.logits.new_full((), float(len(batch.logits)))
        return function(batch.logits, batch.target, batch.weight) * clips, clips

    return MeanLoss(name, parts)


def over_devices(sums: Sums, add: AddOver) -> Sums:
    """The sums over all devices; gradients flow through this device's share only."""
    names = sorted(sums)
    own = torch.stack([sums[name] for name in names])
    total = own + (add(own.detach().clone()) - own.detach())
    return dict(zip(names, total.unbind(), strict=True))


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
    while scales < len(_SCALE_WEIGHTS) and min(height, width) >> scales >= _WINDOW:
        scales += 1
    return scales


def ms_ssim(one: Tensor, other: Tensor) -> Tensor:
    """MS-SSIM of each pair of images (B, C, H, W) of colours 0..1, (B,): 1 for equal ones.

    Wang, Simoncelli and Bovik, Asilomar 2003, doi:10.1109/ACSSC.2003.1292216. Images too small for
    five scales have a smaller window or fewer scales, with weights of the same sum.
    """
    scales = scales_of(one.shape[-2], one.shape[-1])
    scale_up = sum(_SCALE_WEIGHTS) / sum(_SCALE_WEIGHTS[:scales])
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
        product = product * similarity ** (_SCALE_WEIGHTS[scale] * scale_up)
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
    fault = partial(CheckpointError.at, path, expected=_VGG, remedy=_VGG_REMEDY)
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


@dataclass(frozen=True)
class ObjectBatch:
    """``ObjectChannels`` as told, and ``TruthChannels``, of a batch, float32 (B, C, h, w)."""

    told: Tensor
    truth: Tensor

    @cached_property
    def bump(self) -> Tensor:
        """Whether a position is a centre, (B, h, w) in 0..1: 1 at the very centre of an object."""
        offset = self.truth[:, TruthChannels.OFFSET_X : TruthChannels.OFFSET_Y + 1]
        size = self.truth[:, TruthChannels.SIZE].clamp_min(1)
        away = (offset / size[:, None]).square().sum(1)
        there = self.truth[:, TruthChannels.WEIGHT] > 0
        return torch.exp(away / (-2 * _BUMP**2)) * there

    def relative_error(self, told: int, true: int, weight: int) -> tuple[Tensor, Tensor]:
        """Weighted sum of a vector's errors relative to sizes, and of weights, by channels."""
        weights = self.truth[:, weight]
        away = (self.told[:, told : told + 2] - self.truth[:, true : true + 2]).abs().sum(1)
        size = self.truth[:, TruthChannels.SIZE].clamp_min(1)
        return (weights * away / size).sum(), weights.sum()


def offset(batch: ObjectBatch) -> tuple[Tensor, Tensor]:
    """Mean error of the offsets to centres, relative to sizes."""
    return batch.relative_error(
        ObjectChannels.OFFSET_X, TruthChannels.OFFSET_X, TruthChannels.WEIGHT
    )


def motion(batch: ObjectBatch) -> tuple[Tensor, Tensor]:
    """Mean error of the motion since the frame before, relative to sizes; of nothing, if untold."""
    if batch.told.shape[1] <= ObjectChannels.MOTION_X:
        return batch.told.new_zeros(()), batch.told.new_zeros(())
    return batch.relative_error(
        ObjectChannels.MOTION_X, TruthChannels.MOTION_X, TruthChannels.MOTION_WEIGHT
    )


def centre(batch: ObjectBatch) -> tuple[Tensor, Tensor]:
    """Quality focal loss of centres, with beta 2 (Li et al., arXiv 2006.04388, equation 3)."""
    logits, wanted = batch.told[:, ObjectChannels.CENTRE], batch.bump
    known = batch.truth[:, TruthChannels.KNOWN]
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, known, reduction="none")
    return (entropy * (wanted - logits.sigmoid()).square()).sum(), wanted.sum()
