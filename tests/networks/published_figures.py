"""Reference figures of the published network, and the rule that fills it with weights."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"
KEYS: dict[str, dict[str, list[int]]] = json.loads((DATA / "unet_keys.json").read_text())
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {"multipliers": (1, 2, 4, 8), "latent": 32, "hidden": 8},
}
#: A network that runs in milliseconds.
TINY: dict[str, Any] = {
    "references": 2,
    "base": 2,
    "multipliers": (1, 2),
    "latent": 4,
    "groups": 2,
    "hidden": 4,
}


def filled(network: nn.Module) -> nn.Module:
    """The network with weights made from their keys."""
    network.load_state_dict({key: _values(key, x) for key, x in network.state_dict().items()})
    return network.eval()


def _values(key: str, x: Tensor) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    shape = tuple(x.shape)
    if len(shape) >= 2:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.1 * rng.standard_normal(shape) + key.endswith("weight")
    return torch.from_numpy(np.asarray(values)).to(x.dtype)
