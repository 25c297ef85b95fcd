"""What describes a network to those who train it and predict with it, and what networks give.

:mod:`dvos.registry` puts the specs together; training and prediction ask for no name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASK, RECONSTRUCTION, OBJECTS = "mask", "reconstruction", "objects"

#: For each scale T maps (B, C, h, w), stacked as (B, T, C, h, w) or not.
Maps = Sequence[Tensor | Sequence[Tensor]]


class ObjectChannels(IntEnum):
    """Channels of the output ``objects``, at half the frame's size.

    Position (i, j) stands for the middle of the pixels (2 i, 2 j) to (2 i + 1, 2 j + 1); lengths
    are in pixels. Off objects they say nothing.
    """

    #: To the centre of gravity of what is seen of the position's object.
    OFFSET_X = 0
    OFFSET_Y = 1
    #: Whether the position is such a centre: the logit of a bump around it.
    CENTRE = 2
    #: From that centre to where it was in the frame before; only where references show it.
    MOTION_X = 3
    MOTION_Y = 4


@dataclass(frozen=True)
class Normalisation:
    """How colours are turned into a network's input, by channel: (value / 255 - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_lists(self) -> dict[str, list[float]]:
        """``mean`` and ``std`` as checkpoints keep them."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def tensors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float32 (C, 1, 1)."""
        both = torch.tensor([self.mean, self.std], dtype=torch.float32, device=device)
        mean, std = both[:, :, None, None]
        return mean, std


def normalised(colours: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Colours 0..255 (..., C, H, W) as networks take them; ``mean`` and ``std`` (C, 1, 1)."""
    return (colours.float() / 255.0).sub_(mean).div_(std)


def padded(frames: Tensor, stride: int) -> Tensor:
    """Frames (..., H, W) repeated at the bottom and right up to multiples, in the fastest order."""
    down, right = -frames.shape[-2] % stride, -frames.shape[-1] % stride
    if down or right:
        frames = F.pad(frames, (0, right, 0, down), mode="replicate")
    return channels_last(frames)


def channels_last(x: Tensor) -> Tensor:
    """The same values in the memory order that convolutions are fastest in."""
    return x.contiguous(memory_format=torch.channels_last)


def frames_of(maps: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """T maps (B, C, h, w), whether they came stacked as (B, T, C, h, w) or not."""
    return maps.unbind(1) if isinstance(maps, Tensor) else maps


def added(result: Tensor, straight: Tensor) -> Tensor:
    """The sum, in place of the output of a convolution, which no gradient needs."""
    # In mixed precision the sum keeps the wider type.
    return result.add_(straight) if result.dtype == straight.dtype else result + straight


def folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution equal to one of ``weight`` and a norm, in its type."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    kind = weight.dtype
    scale = norm.weight.to(kind) * torch.rsqrt(norm.running_var.to(kind) + norm.eps)
    bias = norm.bias.to(kind) - norm.running_mean.to(kind) * scale
    return weight * scale[:, None, None, None], bias


class Outputs(NamedTuple):
    """What the network says about the query frame."""

    mask_logits: Tensor  # (B, 1, H, W); the sigmoid is the probability of object.
    #: (B, 3, H, W) in the normalised colours of the input, if it has such a head.
    reconstruction: Tensor | None = None
    #: Of further heads by name: ``objects``, where the network tells objects apart,
    #: (B, 5, ceil(H / 2), ceil(W / 2)); see :class:`ObjectChannels`.
    others: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class NetworkSpec:
    """One kind of network: how it is built, what it learns, and how it predicts."""

    name: str  # As in ``network.name`` and in checkpoints.
    #: Builds it, with random weights, from the arguments kept in checkpoints, JSON values by name.
    #: It takes a batch as its objective hands it on, and its class may name its parts in ``PARTS``:
    #: prefixes of the parameters' names by the names of ``optimiser.freeze``.
    network: Callable[..., nn.Module]
    normalisation: Normalisation  # Of its input, unless settings say otherwise.
    #: ``(NetworkSettings, reconstructs: bool) -> dict``: those arguments by the settings;
    #: ``reconstructs`` says whether the loss wants a reconstruction of the query.
    arguments: Callable[..., dict[str, Any]]
    #: ``(network, NetworkSettings) -> network``: puts in the weights that training starts from.
    #: Random numbers come from torch's global generator, which is seeded.
    initialise: Callable[..., nn.Module]
    #: ``(TrainingSettings) -> dvos.training.targets.Target``: what it learns from a clip.
    target: Callable[..., Any]
    #: ``(TrainingSettings, Normalisation) -> dvos.training.objective.Objective``: what is
    #: minimised, and how the network is measured.
    objective: Callable[..., Any]
    #: ``(LoadedNetwork, PredictorOptions) -> dvos.prediction.predictor.Predictor``; where it starts
    #: from masks, with the first mask and what finds it as well.
    predictor: Callable[..., Any]
    #: ``(checkpoint, clips, device) -> dict | None``: what labelled clips say of how the objects
    #: that it finds are followed, kept in the checkpoint as ``tracks``.
    learn_tracks: Callable[..., dict[str, float] | None] | None = None
    #: Model of ``network.options``, where settings are not declared in :mod:`dvos.config.network`.
    settings: type[Any] | None = None
    splits: bool = True  # Whether several processes on a CPU learn the same as one, sooner.
    scales_up: bool = False  # Whether it trains by larger batches and crops on a GPU, if allowed.
    starts_from_masks: bool = False  # Whether it follows objects of a first mask, and finds none.
