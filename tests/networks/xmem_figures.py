"""Reference figures of the published XMem, and the rules that make its weights and inputs."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dvos.networks.xmem.memory import MemorySettings

DATA = Path(__file__).parent / "data"
KEYS: dict[str, list[int]] = json.loads((DATA / "xmem_keys.json").read_text())
#: Of every picture of the figures, each fourth pixel is kept.
KEPT = (..., slice(None, None, 4), slice(None, None, 4))
FRAMES = 20
SETTINGS = {
    "long_term": MemorySettings(
        mem_every=2, min_mid_term_frames=2, max_mid_term_frames=4, prototypes=8, long_term_max=40
    ),
    "working": MemorySettings(mem_every=2, long_term=False),
}


def fill(network: nn.Module) -> None:
    """Give a network weights made from their keys."""
    network.load_state_dict({key: _values(key, x) for key, x in network.state_dict().items()})
    network.eval()


def video() -> tuple[Tensor, Tensor]:
    """Frames (20, 3, 70, 100): a window that moves over noise; masks of 2 objects in the first."""
    noise = np.random.default_rng(1).standard_normal((3, 110, 140)).astype(np.float32)
    frames = np.stack([noise[:, t : t + 70, t : t + 100] for t in range(FRAMES)])
    masks = torch.zeros(2, 70, 100)
    masks[0, 10:30, 10:40] = 1
    masks[1, 40:60, 50:90] = 1
    return torch.from_numpy(frames), masks


def _values(key: str, x: Tensor) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    shape = tuple(x.shape)
    if key.endswith("num_batches_tracked"):
        values = np.zeros(shape)
    elif key.endswith("running_var"):
        values = 1 + 0.1 * abs(rng.standard_normal(shape))
    elif len(shape) >= 2:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.1 * rng.standard_normal(shape)
        values = values + (key.endswith("weight") and not key.endswith("running_mean"))
    return torch.from_numpy(np.asarray(values)).to(x.dtype)
