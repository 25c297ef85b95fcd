"""A run small enough for a test: squares on noise, and a network of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset

from dvos.config.training import TrainingSettings
from dvos.networks.spec import Normalisation
from dvos.registry import network_spec
from dvos.training.loop import RunClips, Training
from dvos.training.networks import TrainedNetwork
from dvos.training.objective import QueryObjective, build_loss
from dvos.training.run_folder import RunFolder

#: The published network in small: a step of it takes a tenth of the time of the compact one.
PAPER: dict[str, Any] = {
    "references": 2,
    "base": 4,
    "multipliers": [1, 2],
    "latent": 8,
    "groups": 4,
    "hidden": 8,
}
ARGUMENTS: dict[str, Any] = {
    "references": 2,
    "encoder": "lite0",
    "channels": [4, 4, 4, 4, 4],
    "widths": [4, 4, 4, 4],
    "frozen_statistics": True,
}


class Squares(Dataset[dict[str, Tensor]]):
    """Clip k: a bright square moving over noise; its last position is the target."""

    def __init__(self, size: int = 32, count: int = 0) -> None:
        self.size = size
        self.length = count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([7, k])
        frames = rng.normal(0, 0.3, (3, 3, self.size, self.size)).astype(np.float32)
        target = np.zeros((1, self.size, self.size), np.float32)
        y, x = rng.integers(0, self.size // 2, 2)
        for index in range(3):
            frames[index, :, y : y + 12, x + index : x + index + 12] += 2
        target[:, y : y + 12, x + 2 : x + 14] = 1
        tensors = {"frames": frames, "target": target, "weight": np.ones_like(target)}
        return {key: torch.from_numpy(value) for key, value in tensors.items()}


_THREE = Squares(count=3)


def tiny_settings(out: Path, **changes: Any) -> TrainingSettings:
    """Two epochs of three steps of four clips."""
    values: dict[str, Any] = {
        "out": out,
        "epochs": 2,
        "clips_per_epoch": changes.pop("clips", 12),
        "batch": 4,
        "ema_decay": 0.9,
        "schedule": {"warm_up": 0.2, "final": 0.1},
        "pictures": 0,
        "seed": 0,
    }
    optimiser: dict[str, Any] = {
        "lr": changes.pop("lr", 1e-2),
        "encoder_lr_factor": 1.0,
        "clip_norm": changes.pop("clip_norm", 1.0),
        "weight_decay": changes.pop("weight_decay", 1e-2),
    }
    return TrainingSettings.model_validate(values | {"optimiser": optimiser} | changes)


def steepest(network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """SGD: its steps are as long as the gradient, where Adam's are of one length."""
    groups = [{"params": list(network.parameters()), "highest_lr": lr}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def tiny_run(
    out: Path,
    *,
    training: Dataset[dict[str, Tensor]] | None = None,
    validation: Dataset[dict[str, Tensor]] | None = _THREE,
    arguments: dict[str, Any] | None = None,
    fabric: Any = None,
    sgd: bool = False,
    workers: int = 0,
    extra: dict[str, Any] | None = None,
    **changes: Any,
) -> Training:
    """A run of two epochs of three steps of four clips; of the compact network by ``arguments``."""
    torch.manual_seed(0)
    settings = tiny_settings(out, **changes)
    built = PAPER if arguments is None else ARGUMENTS | arguments
    spec = network_spec("paper" if arguments is None else "dvos")
    norm = Normalisation((0.5,) * 3, (0.5,) * 3)
    network = spec.network(**built)
    return Training(
        settings,
        TrainedNetwork(spec, network, built, norm, extra or {}),
        QueryObjective(build_loss(settings.losses, norm)),
        RunClips(Squares() if training is None else training, validation),
        RunFolder(out),
        fabric or Fabric(accelerator="cpu", devices=1),
        workers,
        steepest(network, settings.optimiser.lr) if sgd else None,
    )
