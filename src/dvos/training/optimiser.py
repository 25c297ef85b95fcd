"""AdamW with a rate for each part of the network, frozen parts, and the average of weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dvos.config.training import OptimiserSettings
from dvos.errors import ConfigError, FaultCollector
from dvos.networks.weights import misfit
from dvos.training.networks import TrainedNetwork, parts_of

#: Of the learning rate, for an encoder that starts from pretrained weights.
_PRETRAINED_FACTOR = 0.3


def build_optimiser(
    trained: TrainedNetwork, settings: OptimiserSettings
) -> tuple[torch.optim.Optimizer, list[nn.Module]]:
    """AdamW over what is not frozen, and the modules that keep their statistics."""
    factor, freeze = settings.encoder_lr_factor, list(settings.freeze)
    if factor is None:
        # Statistics are frozen exactly where an encoder starts from pretrained weights.
        factor = _PRETRAINED_FACTOR if trained.arguments.get("frozen_statistics") else 1.0
    if factor == 0:
        freeze.append("encoder")
    frozen = freeze_parts(trained.module, freeze)
    return build_adamw(trained.module, settings, encoder=factor), frozen


def build_adamw(
    network: nn.Module, settings: OptimiserSettings, *, encoder: float = 1.0
) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101), with decay of kernels and matrices: norms and biases need none."""
    lr, slow = settings.lr, parts_of(network).get("encoder", ())
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        factor = encoder if name.startswith(slow) else 1.0
        if parameter.requires_grad:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": lr * factor,
                "highest_lr": lr * factor,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (factor, decays), parameters in groups.items()
        ],
        # Kept as the optimiser's default: the rate that groups are told from.
        lr=lr,
        betas=settings.betas,
        fused=True,
    )


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its highest."""
    for group in optimiser.param_groups:
        group["lr"] = group["highest_lr"] * factor


def check_moments(optimiser: torch.optim.Optimizer) -> None:
    """Raise ValueError if what an optimiser took up of a parameter has another shape than it."""
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if name != "step" and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise ValueError(f"{name} of another shape")


def freeze_parts(network: nn.Module, parts: Iterable[str]) -> list[nn.Module]:
    """Freeze parts by ``PARTS``; gives their modules with statistics, for evaluation mode."""
    parameters = dict(network.named_parameters())
    known = {
        part: prefixes
        for part, prefixes in parts_of(network).items()
        if any(name.startswith(prefixes) for name in parameters)
    }
    there_if = "a reconstruction is there only where losses.reconstruction is above 0"
    chosen = dict.fromkeys(parts)
    with FaultCollector(ConfigError) as faults:
        for part in (part for part in chosen if part not in known):
            found = f"{part} is no part of this network"
            remedy = there_if if part == "reconstruction" else ""
            faults.add("optimiser.freeze", found, "some of " + ", ".join(known), remedy)
    prefixes = tuple(prefix for part in chosen for prefix in known[part])
    for name, parameter in parameters.items():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError.at(
            "optimiser.freeze", "leaves nothing to train", remedy="leave a part out of it"
        )
    return [
        module
        for name, module in network.named_modules()
        if f"{name}.".startswith(prefixes) and hasattr(module, "running_mean")
    ]


class WeightAverage:
    """Exponential running average of a network's floating-point state; the rest is copied.

    Of the old average ``decay`` is kept at each step, of the n-th at most (1 + n) / (10 + n), so
    that the random start is forgotten at once. ``start`` are weights that training started from, by
    the network's keys, and the share of them in what is applied (Wortsman et al., CVPR 2022, arXiv
    2109.01903); none of what they lack.
    """

    def __init__(
        self, network: nn.Module, decay: float, start: tuple[Mapping[str, Tensor], float] = ({}, 0)
    ) -> None:
        self.decay = decay
        self._start, self._share = start
        self.updates = 0
        self.weights = {key: value.clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network as it is after a step."""
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = network.state_dict()
        floats = [key for key, value in state.items() if value.is_floating_point()]
        for key in state.keys() - floats:
            self.weights[key].copy_(state[key])
        averages, values = ([x[key] for key in floats] for x in (self.weights, state))
        torch._foreach_lerp_(averages, values, 1 - kept)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Give the network the average for the time of a block."""
        own = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        for key, value in network.state_dict().items() if self._share else ():
            kept = self._start.get(key)
            if kept is not None and kept.shape == value.shape and value.is_floating_point():
                value.lerp_(kept.to(value), self._share)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """All a resumed run needs."""
        return {"updates": self.updates, "state": self.weights}

    def load_state_dict(self, stored: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        if misfit(self.weights, stored["state"]):
            raise ValueError("the average of other weights")
        self.updates = int(stored["updates"])
        for key, value in stored["state"].items():
            self.weights[key].copy_(value)
