"""``dvos convert``: weights of the published training as a file of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.config.convert import ConvertSettings
from dvos.networks.weights import load_network, save_network

__all__ = ["ConvertResult", "convert"]


@dataclass(frozen=True)
class ConvertResult:
    """A converted checkpoint.

    Attributes:
        out: The file written.
        name: Of the network, see :func:`dvos.networks.weights.build_network`.
        arguments: What it is built with.
        parameters: Number of its weights.
    """

    out: Path
    name: str
    arguments: dict[str, Any]
    parameters: int

    def __str__(self) -> str:
        shape = ", ".join(f"{key} {value}" for key, value in self.arguments.items())
        return f"network {self.name} of {self.parameters:,} parameters in {self.out} ({shape})"


def convert(settings: ConvertSettings) -> ConvertResult:
    """Write weights with the configuration and the normalisation that belong to them.

    Raises:
        CheckpointError: If the checkpoint cannot be read or is of another network.
        OutputError: If the file cannot be written.
    """
    network, info = load_network(settings.checkpoint, sees_query=settings.sees_query)
    normalisation = dict(info.extra.get("normalisation", {}))
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if values is not None:
            normalisation[name] = list(values)
    extra = {**info.extra, "normalisation": normalisation}
    if settings.reference_interval is not None:
        extra["reference_interval"] = settings.reference_interval
    save_network(settings.out, network, name=info.name, arguments=info.arguments, extra=extra)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ConvertResult(settings.out, info.name, info.arguments, parameters)
