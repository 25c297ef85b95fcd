"""A run small enough for a test: squares on noise, and a network of a few thousand weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from dvos.config.training import LossSettings
from dvos.networks.spec import Normalisation
from dvos.networks.weights import build_network
from dvos.registry import network_spec
from dvos.training.loop import Training
from dvos.training.losses.combined import build_loss
from dvos.training.network import TrainedNetwork
from dvos.training.objective import QueryObjective
from dvos.training.optimiser import build_adamw
from dvos.training.run_folder import RunFolder
from dvos.training.schedule import TrainingPlan, warm_up_cosine

ARGUMENTS: dict[str, Any] = {
    "references": 2,
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


def tiny_run(out: Path, *, training: Dataset[dict[str, Tensor]] | None = None, **changes: Any):
    """A run of two epochs of three steps of four clips."""
    torch.manual_seed(0)
    arguments = ARGUMENTS | changes.pop("arguments", {})
    network = build_network("dvos", **arguments)
    plan = TrainingPlan(
        changes.pop("epochs", 2), changes.pop("clips", 12), 4, changes.pop("accumulate", 1)
    )
    fabric = changes.pop("fabric", None) or Fabric(accelerator="cpu", devices=1)
    lr = changes.pop("lr", 1e-2)
    optimiser = build_adamw(network, lr=lr, weight_decay=1e-2)
    if changes.pop("sgd", False):
        # Its steps are as long as the gradient, where Adam's are of one length.
        groups = [{"params": list(network.parameters()), "highest_lr": lr}]
        optimiser = torch.optim.SGD(groups, lr=lr, momentum=0.9)
    normalisation = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    losses = LossSettings(**changes.pop("losses", {}))
    options = {"validation": Squares(count=3), "ema_decay": 0.9} | changes
    return Training(
        TrainedNetwork(network_spec("dvos"), network, arguments, Normalisation(**normalisation)),
        optimiser,
        fabric=fabric,
        training=Squares() if training is None else training,
        folder=RunFolder(out),
        plan=plan,
        objective=QueryObjective(build_loss(losses, **normalisation)),
        rate=partial(warm_up_cosine, steps=plan.steps, warm_up=0.2, final=0.1),
        **options,
    )
