"""An XMem run small enough for a test: squares on noise, and narrow encoders and decoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from tiny_training import steepest, tiny_settings
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.networks.spec import Normalisation
from dvos.networks.xmem import network as parts
from dvos.networks.xmem.layers import stage, stem
from dvos.networks.xmem.network import XMem
from dvos.registry import network_spec
from dvos.training.loop import RunClips, Training
from dvos.training.networks import TrainedNetwork, quieten_residuals
from dvos.training.run_folder import RunFolder
from dvos.training.targets import draw_memory
from dvos.training.tracking import BootstrappedLoss, TrackingObjective

FRAMES, SIDE = 4, 64


class _NarrowKeys(nn.Module):
    """A key encoder of four channels, spread over as many as the decoder takes."""

    def __init__(self) -> None:
        super().__init__()
        self.f4 = nn.Sequential(nn.Conv2d(3, 4, 5, 4, 2), nn.ReLU())
        self.f8 = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
        self.f16 = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
        self.wide = nn.ModuleList(nn.Conv2d(4, width, 1) for width in (1024, 512, 256))

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        f4 = self.f4(frames)
        f8 = self.f8(f4)
        maps = (self.f16(f8), f8, f4)
        return tuple(wide(x) for wide, x in zip(self.wide, maps, strict=True))


def tiny_network() -> XMem:
    """About a hundred thousand weights, always the same."""
    torch.manual_seed(0)
    before = parts._FUSED, parts._WIDTH
    parts._FUSED = parts._WIDTH = 8
    try:
        network = XMem(key_dim=4, value_dim=8, hidden_dim=4)
    finally:
        parts._FUSED, parts._WIDTH = before
    network.key_encoder = _NarrowKeys()
    values = network.value_encoder
    values.conv1, values.bn1 = stem(5)
    values.layer1 = stage(64, 8, 1, 1)
    values.layer2 = stage(8, 8, 1, 2)
    values.layer3 = stage(8, 256, 1, 2)
    quieten_residuals(values)
    return network


class MovingSquares(Dataset[dict[str, Tensor]]):
    """Clip k: one or two bright squares moving over noise."""

    def __init__(self, count: int = 0) -> None:
        self.length = count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([7, k])
        frames = rng.normal(0, 0.3, (FRAMES, 3, SIDE, SIDE)).astype(np.float32)
        target = np.zeros((FRAMES, SIDE, SIDE), np.int64)
        count = 2 - k % 2
        for number in range(1, count + 1):
            y, x = rng.integers(0, SIDE // 2, 2)
            for moment in range(FRAMES):
                where = (slice(y, y + 16), slice(x + 2 * moment, x + 2 * moment + 16))
                frames[moment, :, *where] += 2 * number
                target[moment, *where] = number
        if self.length:
            target = (target > 0).astype(np.int64)
        return {
            "frames": torch.from_numpy(frames),
            "target": torch.from_numpy(target),
            "count": torch.tensor(count),
            "memory": torch.from_numpy(draw_memory(rng, frames=FRAMES, references=2)),
        }


def tiny_objective(**changes: Any) -> TrackingObjective:
    """Of two objects; half the pixels count from the second step on."""
    options = {"objects": 2, "deep_update_prob": 0.5, "frames": FRAMES, "seed": 3} | changes
    return TrackingObjective(BootstrappedLoss(start_warm=1, end_warm=2, top=0.5), **options)


def tiny_xmem_run(
    out: Path,
    *,
    training: Dataset[dict[str, Tensor]] | None = None,
    validation: Dataset[dict[str, Tensor]] | None = None,
    fabric: Any = None,
    sgd: bool = False,
    workers: int = 0,
    **changes: Any,
) -> Training:
    """A run of two epochs of two steps of four clips."""
    network = tiny_network()
    rates = {"schedule": {"shape": "steps", "warm_up": 0.0}, "weight_decay": 0.05}
    settings = tiny_settings(out, **{"clips": 8} | rates | changes)
    norm = Normalisation((0.5,) * 3, (0.5,) * 3)
    return Training(
        settings,
        TrainedNetwork(replace(network_spec("xmem"), network=tiny_network), network, {}, norm),
        tiny_objective(),
        RunClips(MovingSquares() if training is None else training, validation),
        RunFolder(out),
        fabric or Fabric(accelerator="cpu", devices=1),
        workers,
        steepest(network, settings.optimiser.lr) if sgd else None,
    )
