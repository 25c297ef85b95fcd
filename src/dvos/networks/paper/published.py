"""Reading checkpoints of the published training: what ``torch.save`` wrote of a UNet.

They hold a state dict and nothing about the network: its shape is read off the
weights. Keys may carry ``module.`` (data parallel) and ``_orig_mod.``
(compiled) anywhere, and the state dict may lie inside another dict.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dvos.errors import CheckpointError

__all__ = ["holds_torch_save", "published_arguments", "read_published_state"]

_SUFFIXES = (".tar", ".pth", ".pt", ".ckpt")
#: How a zip archive and a pickle begin.
_MAGIC = (b"PK\x03\x04", b"\x80")
_WRAPPERS = ("module", "_orig_mod")
_FIRST_KEY = "encoder.backbone.0.weight"
_DEEPEST = 4


def holds_torch_save(path: Path) -> bool:
    """Whether a file is meant as one of ``torch.save``, by its name or else its first bytes."""
    if path.suffix.lower() in _SUFFIXES:
        return True
    if path.suffix.lower() == ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4).startswith(_MAGIC)


def read_published_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, by the network's own keys.

    Nothing in the file is executed: only tensors and plain containers are read.

    Raises:
        CheckpointError: If the file is missing, damaged, holds other objects
            than weights, or no state dict.
    """
    if not path.is_file():
        raise CheckpointError.at(path, "no such file", "a weights file")
    states = list(_states(_load(path), _DEEPEST))
    if not states:
        raise CheckpointError.at(
            path, "holds no state dict", "weights by name", "save the network's state_dict()"
        )
    return next((state for state in states if _FIRST_KEY in state), states[0])


def published_arguments(
    state: Mapping[str, Tensor], *, sees_query: bool = False
) -> dict[str, Any] | None:
    """Arguments of the :class:`~dvos.networks.paper.network.PaperNetwork` of a state dict.

    Args:
        state: By the network's keys.
        sees_query: Whether the last of the frames it takes is the query,
            which weights do not tell.

    Returns:
        The arguments; None where the keys are not those of such a network.
    """
    try:
        base = len(state["encoder.backbone.2.block.2.weight"])
        latent = len(state["encoder.bottleneck.block.2.weight"])
        hidden = len(state["heads.seg_head.1.block.2.weight"])
        # The first convolution is min(groups, base) wide, and base is a
        # multiple of groups: so it is as wide as there are groups.
        groups = len(state[_FIRST_KEY])
    except (KeyError, TypeError):
        return None
    widths, blocks = _scales(state)
    if not widths or not base or not latent:
        return None
    joined = state.get("decoder.bottleneck_diff_atten.attention.norm_act.0.weight")
    frames = 1 if joined is None else len(joined) // latent
    sees_query = sees_query or joined is None
    return {
        "references": max(0, frames - sees_query),
        "base": base,
        "multipliers": [width // base for width in widths],
        "latent": latent,
        "groups": groups,
        "hidden": hidden,
        "blocks": blocks,
        "sees_query": sees_query,
        "attention": joined is not None,
        "reconstructs": any(key.startswith("heads.rec_head.") for key in state),
    }


def _scales(state: Mapping[str, Tensor]) -> tuple[list[int], int]:
    """Widths of the scales, finest first, and the number of residual blocks of each."""
    widths: list[int] = []
    blocks = 0
    for place in itertools.count():
        down = state.get(f"encoder.encoder.{place}.downsample.2.weight")
        if down is not None:
            widths.append(len(down))
        elif f"encoder.encoder.{place}.block.2.weight" in state:
            blocks += not widths
        else:
            return widths, blocks
    raise AssertionError("the loop ends at the first place without weights")


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # An unknown operand is a file that is no pickle at all.
        if "Unsupported" in str(error) and "Unsupported operand" not in str(error):
            raise CheckpointError.at(
                path,
                "holds objects other than weights, which are not read as they could run code",
                "a state dict",
                "save the network's state_dict() alone",
            ) from error
        raise _damaged(path) from error
    except Exception as error:
        # Damaged files surface as many unrelated types: zip, pickle, EOF, key errors.
        raise _damaged(path) from error


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError.at(
        path, "damaged, or not written by torch.save", "a state dict", "fetch the file again"
    )


def _states(value: Any, deepest: int) -> Iterator[dict[str, Tensor]]:
    """All state dicts in nested mappings, outer before inner, under plain keys."""
    if not isinstance(value, Mapping) or deepest == 0:
        return
    tensors = {
        ".".join(part for part in key.split(".") if part not in _WRAPPERS): tensor
        for key, tensor in value.items()
        if isinstance(key, str) and isinstance(tensor, Tensor)
    }
    if tensors:
        yield tensors
    for inner in value.values():
        yield from _states(inner, deepest - 1)
