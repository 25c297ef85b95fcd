"""What an ONNX file of a network looks like: its names, and what it says about itself.

The graph is one step of a stream. Its inputs are a frame and the features that
its references gave when they were frames; its outputs are the frame's mask and
its own features, to be kept for later frames::

    frame (B, 3, H, W), reference1_stride4 (B, C, H/4, W/4), ...
        -> mask_logits (B, 1, H, W), features_stride2 (B, C, H/2, W/2), ...

Reference 1 is the oldest. Features that nothing looks at are no inputs. H and W
are multiples of the coarsest stride.

``metadata_props`` of the model holds, under the key ``dvos``, the JSON object of
our weights files (see :mod:`dvos.networks.weights`) and, beside it,
``references``, ``reference_interval`` and ``stride``.

Importing this module loads neither torch nor ONNX.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dvos.errors import CheckpointError, UsageError

__all__ = [
    "FRAME",
    "MASK_LOGITS",
    "ONNX_SUFFIX",
    "OnnxDescription",
    "feature_name",
    "read_description",
    "reference_name",
    "require",
]

ONNX_SUFFIX = ".onnx"
FRAME = "frame"
MASK_LOGITS = "mask_logits"

_METADATA_KEY = "dvos"
_FORMAT = 1


def feature_name(stride: int) -> str:
    """Output: the frame's features of one scale."""
    return f"features_stride{stride}"


def reference_name(reference: int, stride: int) -> str:
    """Input: what :func:`feature_name` gave for a reference, counted from 1, the oldest."""
    return f"reference{reference}_stride{stride}"


@dataclass(frozen=True)
class OnnxDescription:
    """What a file says about its network.

    Attributes:
        name: Of the network, see :func:`dvos.networks.weights.build_network`.
        arguments: What it was built with.
        references: Reference frames of each frame.
        strides: Of the feature maps, finest first.
        extra: What is stored beside, as the normalisation; JSON values.
        version: Version of the package that wrote the file.
    """

    name: str
    arguments: dict[str, Any]
    references: int
    strides: tuple[int, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    version: str = ""

    def metadata(self) -> dict[str, str]:
        """The model's ``metadata_props``."""
        values = {
            "format": _FORMAT,
            "version": self.version,
            "name": self.name,
            "arguments": self.arguments,
            "references": self.references,
            "reference_interval": self.extra.get("reference_interval", 1),
            "strides": list(self.strides),
            "stride": self.strides[-1],
            "extra": self.extra,
        }
        return {_METADATA_KEY: json.dumps(values)}


def read_description(path: Path, metadata: dict[str, str]) -> OnnxDescription:
    """What the ``metadata_props`` of a model say.

    Raises:
        CheckpointError: If the model is not one of ours.
    """
    try:
        values = json.loads(metadata[_METADATA_KEY])
        return OnnxDescription(
            name=str(values["name"]),
            arguments=dict(values["arguments"]),
            references=int(values["references"]),
            strides=tuple(int(stride) for stride in values["strides"]),
            extra=dict(values["extra"]),
            version=str(values["version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError.at(
            path,
            "an ONNX file that does not say which network it holds",
            "one written by dvos convert",
            "write it with: dvos convert best.safetensors --out model.onnx",
        ) from error


def require(purpose: str, modules: Sequence[str]) -> list[ModuleType]:
    """Import what only ONNX needs.

    Args:
        purpose: What it is needed for, the subject of the message.
        modules: To import.

    Raises:
        UsageError: If one of them is not installed.
    """
    missing, found = [], []
    for name in modules:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            missing.append(name)
    if missing:
        raise UsageError.at(
            purpose,
            f"needs the packages {', '.join(missing)}, which are not installed"
            if len(missing) > 1
            else f"needs the package {missing[0]}, which is not installed",
            remedy="pip install 'dvos[onnx]'",
        )
    return found
