"""Checkpoints of published trainings: what ``torch.save`` wrote of a network's weights.

They hold a state dict, maybe inside another, and nothing about the network: name and shape are read
off the weights. Keys may carry ``module.`` and ``_orig_mod.`` anywhere. The networks are ``paper``
and XMem, whose form for single objects has a value encoder of four input channels.
"""

from __future__ import annotations

import itertools
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dvos.errors import CheckpointError
from dvos.networks.paper.network import PUBLISHED_NORMALISATION
from dvos.networks.xmem.network import XMEM_NORMALISATION

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


def torch_load(path: Path) -> Any:
    """Read what ``torch.save`` wrote, to the CPU, executing nothing; any error if it is damaged."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("is compressed")
    return torch.load(path, map_location="cpu", weights_only=True)


def read_torch_save(path: Path) -> dict[str, Tensor]:
    """Read a state dict by the network's own keys; a CheckpointError if there is none to read."""
    if not path.is_file():
        raise CheckpointError.at(path, "no such file", "a weights file")
    try:
        content = torch_load(path)
    except Exception as error:
        # Of a pickle, an unknown operand is a file that is no pickle at all.
        text = str(error) if isinstance(error, pickle.UnpicklingError) else ""
        if "Unsupported" in text and "Unsupported operand" not in text:
            raise CheckpointError.at(
                path,
                "holds objects other than weights, which are not read as they could run code",
                "a state dict",
                "save the network's state_dict() alone",
            ) from error
        raise CheckpointError.at(
            path, "damaged, or not written by torch.save", "a state dict", "fetch the file again"
        ) from error
    states = list(_states(content, _DEEPEST))
    if not states:
        raise CheckpointError.at(
            path, "holds no state dict", "weights by name", "save the network's state_dict()"
        )
    return next((state for state in states if _FIRST_KEY in state), states[0])


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


def describe(
    state: Mapping[str, Tensor], *, sees_query: bool = False
) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """Name, arguments and what belongs beside them, of the network that a state dict is of.

    None where the keys are those of no published network. Of that of the paper weights do not
    tell whether the last of the frames it takes is the query; ``sees_query`` does.
    """
    lacks = (KeyError, TypeError, IndexError, ZeroDivisionError)  # a weight, or an axis of one
    with suppress(*lacks):
        xmem = {
            "key_dim": len(state["key_proj.key_proj.weight"]),
            "value_dim": len(state["value_encoder.fuser.block2.conv2.weight"]),
            # Forget gate, update gate and content.
            "hidden_dim": len(state["decoder.hidden_update.transform.weight"]) // 3,
            "single_object": state["value_encoder.conv1.weight"].shape[1] == 4,
        }
        return "xmem", xmem, {"normalisation": XMEM_NORMALISATION.as_lists()}
    with suppress(*lacks):
        paper = _paper_arguments(state, sees_query=sees_query)
        normalisation = PUBLISHED_NORMALISATION.as_lists()
        return "paper", paper, {"normalisation": normalisation, "reference_interval": 1}
    return None


def _paper_arguments(state: Mapping[str, Tensor], *, sees_query: bool) -> dict[str, Any]:
    base = len(state["encoder.backbone.2.block.2.weight"])
    latent = len(state["encoder.bottleneck.block.2.weight"])
    hidden = len(state["heads.seg_head.1.block.2.weight"])
    # The first convolution is min(groups, base) wide, and base is a multiple of groups.
    groups = len(state[_FIRST_KEY])
    # Of each scale some residual blocks, then what halves the size.
    widths, blocks = [], 0
    for place in itertools.count():
        down = state.get(f"encoder.encoder.{place}.downsample.2.weight")
        if down is not None:
            widths.append(len(down))
        elif f"encoder.encoder.{place}.block.2.weight" not in state:
            break
        else:
            blocks += not widths
    if not widths:
        raise KeyError("a scale")
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
