"""AdamW with a rate for each part of the network, and the running average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage", "build_adamw", "set_rate"]


def build_adamw(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    rates: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) over a network's parameters.

    Weight decay acts on kernels and matrices only: norms and biases have one
    dimension and no use for it.

    Args:
        network: Parameters without gradient are left out.
        lr: Highest learning rate, of what ``rates`` does not name.
        weight_decay: Of the kernels.
        betas: Decay of the two moments.
        rates: Factor of the learning rate by prefix of the parameters' names.
    """
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        factor = next((f for prefix, f in (rates or {}).items() if name.startswith(prefix)), 1.0)
        if parameter.requires_grad:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": lr * factor,
                "highest_lr": lr * factor,
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (factor, decays), parameters in groups.items()
        ],
        # Kept as the optimiser's default: the rate that groups are told from.
        lr=lr,
        betas=betas,
        fused=True,
    )


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its highest."""
    for group in optimiser.param_groups:
        group["lr"] = group["highest_lr"] * factor


class WeightAverage:
    """Exponential running average of a network's state.

    The decay rises with the steps, min(decay, (1 + n) / (10 + n)), so that the
    random start is forgotten at once.

    Args:
        network: Its floating-point state is averaged; the rest is copied.
        decay: Share of the old average kept at each step; 0 keeps the last state.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._state = {key: value.clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network as it is after a step."""
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                averages.append(self._state[key])
                values.append(value)
            else:
                self._state[key].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - kept)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Give the network the average for the time of a block."""
        own = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict(self._state)
        try:
            yield
        finally:
            network.load_state_dict(own)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged state, by the network's keys."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """All a resumed run needs."""
        return {"updates": self.updates, "state": self._state}

    def load_state_dict(self, stored: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.updates = stored["updates"]
        for key, value in stored["state"].items():
            self._state[key].copy_(value)
