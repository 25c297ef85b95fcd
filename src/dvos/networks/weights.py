"""Networks and their weights in one self-describing file, and checkpoints of published trainings.

It is safetensors. Its metadata holds, under ``dvos``, a JSON object: ``name`` and ``arguments``,
which build the network again, ``extra`` for its use, ``format``, ``version``, and a ``checksum`` of
all this and the tensors.

Checkpoints of published trainings are what ``torch.save`` wrote of a network's weights: a state
dict, maybe inside another, and nothing about the network: name and shape are read off the weights.
Keys may carry ``module.`` and ``_orig_mod.`` anywhere. The networks are ``paper`` and XMem, whose
form for single objects has a value encoder of four input channels.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dvos import __version__
from dvos.errors import CheckpointError
from dvos.files import absent, parse_json, write_bytes
from dvos.networks.paper.network import PUBLISHED_NORMALISATION, PaperNetwork
from dvos.networks.xmem.network import XMEM_NORMALISATION

#: Of the description in a file's metadata.
METADATA_KEY = "dvos"
_CHECKSUM = "checksum"
_FORMAT = 1
#: What the state of a training, which torch.save writes, says of itself under ``kind``.
TRAINING_STATE = "dvos training state"
_WANTED, _REMEDY = "weights written by dvos train", "give the best.safetensors of a run folder"
#: Tensors, and numbers in them, that a network may have beyond twice those in its file.
_SPARE_TENSORS, _SPARE_NUMBERS = 256, 2**24
#: What makes tensors of a size that arguments may tell. Networks use no other for such: sizes of
#: ``arange``, ``eye``, ``linspace`` and ``randn`` only torch's compiler finds, loaded for seconds.
_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand)

#: Types of weights that may hold what is no number.
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

#: Of published checkpoints: names of files, and how a zip archive and a pickle begin.
_SUFFIXES = (".tar", ".pth", ".pt", ".ckpt")
_MAGIC = (b"PK\x03\x04", b"\x80")
_WRAPPERS = ("module", "_orig_mod")
_FIRST_KEY = "encoder.backbone.0.weight"
_DEEPEST = 4


@dataclass(frozen=True)
class NetworkInfo:
    """What a weights file says about its network."""

    name: str  # Of the network's kind, as in settings.
    arguments: dict[str, Any]  # Keyword arguments the network was built with, JSON values.
    extra: dict[str, Any] = field(default_factory=dict)  # What was stored beside, JSON values.
    version: str = ""  # Of the package that wrote the file.

    def describe(self, **others: Any) -> str:
        """What files keep of it, JSON text; ``others`` stand beside it."""
        named = {"version": self.version, "name": self.name, "arguments": self.arguments}
        return json.dumps({"format": _FORMAT, **named, **others, "extra": self.extra})

    @classmethod
    def described(cls, text: str, **others: Any) -> Self:
        """Of what :meth:`describe` gave, else a KeyError, TypeError or ValueError."""
        values = parse_json(text)
        name, version = str(values["name"]), str(values["version"])
        arguments, extra = dict(values["arguments"]), dict(values["extra"])
        return cls(name, arguments, extra, version, **others)


def save_network(
    path: Path,
    weights: nn.Module | Mapping[str, Tensor],
    *,
    name: str,
    arguments: dict[str, Any],
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a network's state, or a state dict, with what builds it again, atomically."""
    info = NetworkInfo(name, arguments, extra or {}, __version__)
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    # Copies: the format takes neither shared storage nor other memory orders.
    tensors = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in state.items()
    }
    # A single key, as the library orders several at random.
    text = info.describe(**{_CHECKSUM: _checksum(info, tensors)})
    # By way of bytes: the library words a full disk as a fault of its format.
    write_bytes(Path(path), save(tensors, {METADATA_KEY: text}))


def _checksum(info: NetworkInfo, tensors: Mapping[str, Tensor]) -> str:
    """Of what a file says of its network, and of all tensors, which lie on the CPU."""
    found = hashlib.blake2b(info.describe().encode(), digest_size=16)
    for key, tensor in sorted(tensors.items()):
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of any weights file by name, on the CPU; a CheckpointError if it cannot be read."""
    path = Path(path)
    return read_torch_save(path) if holds_torch_save(path) else _read_safetensors(path)[1]


def read_network_info(path: Path) -> NetworkInfo:
    """What a weights file says about its network; as :func:`read_checkpoint` reads it."""
    return read_checkpoint(path, weights=False)[0]


def read_checkpoint(
    path: Path, *, weights: bool = True, sees_query: bool = False
) -> tuple[NetworkInfo, dict[str, Tensor]]:
    """What a weights file says of its network, and its tensors; a CheckpointError if it is none."""
    path = Path(path)
    if holds_torch_save(path):
        state = read_torch_save(path)
        described = describe(state, sees_query=sees_query)
        if described is None:
            # Told as what it lacks of the network that such files hold.
            _fill(PaperNetwork(), state, path)
            raise AssertionError("weights of the published network tell its arguments")
        return NetworkInfo(*described), state
    metadata, state = _read_safetensors(path, weights=weights)
    try:
        info = NetworkInfo.described(metadata[METADATA_KEY])
        written = parse_json(metadata[METADATA_KEY]).get(_CHECKSUM)
    except (KeyError, TypeError, ValueError) as error:
        found = "a safetensors file that does not say which network it holds"
        raise CheckpointError.at(path, found, _WANTED, _REMEDY) from error
    if weights and written and written != _checksum(info, state):
        found = "damaged: its weights are not those that were written"
        remedy = "copy it again from its source; a program that changes weights must leave out"
        raise CheckpointError.at(path, found, remedy=f"{remedy} {_CHECKSUM} in the metadata")
    return info, state


def load_network(
    path: Path,
    build: Callable[..., nn.Module],
    *,
    device: str | torch.device = "cpu",
    sees_query: bool = False,
) -> tuple[nn.Module, NetworkInfo]:
    """Build the network of a weights file, in evaluation mode; with what the file says of it.

    A checkpoint of a published training does not tell whether the last of its frames is the query:
    ``sees_query`` does. ``build`` is the ``network`` of a :class:`~dvos.networks.spec.NetworkSpec`.
    A CheckpointError if the file cannot be read, or its weights do not fit what is built.
    """
    path = Path(path)
    info, state = read_checkpoint(path, sees_query=sees_query)
    try:
        completed = getattr(build, "completed", lambda arguments, _: arguments)
        arguments = completed(info.arguments, state)
        with _NoLargerThan(state):
            network = build(**arguments)
    except Exception as error:  # its arguments are whatever the file says
        found = f"its network cannot be built ({str(error) or type(error).__name__})"
        release = f"use the release of dvos that wrote it ({info.version or 'unknown'})"
        raise CheckpointError.at(path, found, remedy=f"{release}, or train it anew") from error
    _fill(network, state, path)
    return network.to(device).eval(), info


def _read_safetensors(
    path: Path, *, weights: bool = True
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and, where asked for, tensors of a file."""
    if not path.is_file():
        raise CheckpointError.at(path, absent(path), "a weights file", _REMEDY)
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            state = {key: stored.get_tensor(key) for key in stored.keys()} if weights else {}  # noqa: SIM118
            metadata = stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        found = "damaged, or not a safetensors file"
        raise CheckpointError.at(path, found, _WANTED, _REMEDY) from error
    return metadata, _finite(state, path)


def misfit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What a state lacks, has too many, and has of another shape or type; empty if it fits."""
    both = [(key, value, state[key]) for key, value in expected.items() if key in state]
    kinds = {
        "lacks": [key for key in expected if key not in state],
        "has too many": [key for key in state if key not in expected],
        "of other shape": [key for key, own, given in both if given.shape != own.shape],
        "of another type": [key for key, own, given in both if _kind(own) != _kind(given)],
    }
    return "; ".join(
        f"{word} {len(keys)} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for word, keys in kinds.items()
        if keys
    )


def _kind(tensor: Tensor) -> tuple[bool, bool, torch.layout]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.layout


def _fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    if wrong := misfit(network.state_dict(), state):
        found = f"its weights do not fit the network {type(network).__name__}: {wrong}"
        remedy = "it holds another network, or was changed or written by another version"
        raise CheckpointError.at(path, found, remedy=remedy)
    network.load_state_dict(state)


class _NoLargerThan(TorchFunctionMode):
    """A ValueError where a hostile file's constructor makes far more numbers than its state has."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        # What is made may be replaced later, and buffers need not be stored.
        self._tensors = 2 * len(state) + _SPARE_TENSORS
        self._numbers = 2 * sum(tensor.numel() for tensor in state.values()) + _SPARE_NUMBERS

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS:
            self._tensors -= 1
            self._numbers -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if min(self._tensors, self._numbers) < 0:
                raise ValueError("it is larger than its weights")
        return func(*args, **kwargs)


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
        raise CheckpointError.at(path, absent(path), "a weights file")
    try:
        content = torch_load(path)
    except Exception as error:
        # Of a pickle, an unknown operand is a file that is no pickle at all.
        text = str(error) if isinstance(error, pickle.UnpicklingError) else ""
        if "Unsupported" in text and "Unsupported operand" not in text:
            found = "holds objects other than weights, which are not read as they could run code"
            remedy = "save the network's state_dict() alone"
        else:
            found, remedy = "damaged, or not written by torch.save", "fetch the file again"
        raise CheckpointError.at(path, found, "a state dict", remedy) from error
    if isinstance(content, Mapping) and content.get("kind") == TRAINING_STATE:
        found = "is the state of a training, from which it goes on"
        remedy = f"give {path.with_name('best.safetensors')}, which that training writes"
        raise CheckpointError.at(path, found, "a network", remedy)
    states = list(_states(content, _DEEPEST))
    if not states:
        remedy = "save the network's state_dict()"
        raise CheckpointError.at(path, "holds no state dict", "weights by name", remedy)
    return _finite(next((state for state in states if _FIRST_KEY in state), states[0]), path)


def _finite(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same; a CheckpointError if a value is endless or no number, as of a training gone off."""
    for key, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.dtype in _FLOATS
        if plain and not tensor.isfinite().all():
            remedy = "its training diverged, or the file was changed: use an earlier one"
            raise CheckpointError.at(path, f"{key} holds values that are no numbers", "", remedy)
    return state


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
        beside = {"normalisation": PUBLISHED_NORMALISATION.as_lists(), "reference_interval": 1}
        return "paper", paper, beside
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
