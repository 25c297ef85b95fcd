"""Parts of a network that keep what they have learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from dvos.errors import ConfigError, Fault

__all__ = ["freeze_parts", "prefixes_of"]


def prefixes_of(network: nn.Module, part: str) -> tuple[str, ...]:
    """Prefixes of the parameters' names of a part; none where the network has no such part."""
    parts: Mapping[str, tuple[str, ...]] = type(network).PARTS  # type: ignore[attr-defined]
    return parts.get(part, ())


def freeze_parts(network: nn.Module, parts: Iterable[str]) -> list[nn.Module]:
    """Take the gradients from parts of a network.

    Args:
        network: Its class names its parts in ``PARTS``.
        parts: Which of them.

    Returns:
        The modules of these parts that keep running statistics. They are to be
        in evaluation mode whenever the rest is in training mode.

    Raises:
        ConfigError: With a fault for each part that the network lacks; or if
            nothing would be left to train.
    """
    chosen = list(dict.fromkeys(parts))
    present = _parts_with_weights(network)
    faults = [_absent(part, present) for part in chosen if part not in present]
    if faults:
        raise ConfigError(faults)
    prefixes = tuple(prefix for part in chosen for prefix in prefixes_of(network, part))
    for name, parameter in network.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError.at(
            "optimiser.freeze", "leaves nothing to train", remedy="leave a part out of it"
        )
    return [
        module
        for name, module in network.named_modules()
        if f"{name}.".startswith(prefixes) and hasattr(module, "running_mean")
    ]


def _absent(part: str, present: list[str]) -> Fault:
    there_if = "a reconstruction is there only where losses.reconstruction is above 0"
    return Fault(
        "optimiser.freeze",
        f"{part} is no part of this network",
        "some of " + ", ".join(present),
        there_if if part == "reconstruction" else "",
    )


def _parts_with_weights(network: nn.Module) -> list[str]:
    names = [name for name, _ in network.named_parameters()]
    parts: Mapping[str, tuple[str, ...]] = type(network).PARTS  # type: ignore[attr-defined]
    return [
        part for part, prefixes in parts.items() if any(name.startswith(prefixes) for name in names)
    ]
