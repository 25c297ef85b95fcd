"""``dvos convert``: published weights as a file of ours, and any weights as ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.config.prediction import ConvertSettings
from dvos.errors import CheckpointError, UsageError
from dvos.networks.onnx_graph import ONNX_SUFFIX, export_network
from dvos.networks.published import holds_torch_save
from dvos.networks.spec import NetworkSpec
from dvos.networks.weights import NetworkInfo, load_network, save_network


@dataclass(frozen=True)
class ConvertResult:
    """A converted checkpoint.

    Attributes:
        out: The file written.
        name: Of the network's kind.
        arguments: What it is built with.
        parameters: Number of its weights.
        difference: Largest difference between the outputs of an ONNX file and
            of torch, see :func:`dvos.networks.onnx_graph.export_network`;
            None for other files, which hold the very same weights.
    """

    out: Path
    name: str
    arguments: dict[str, Any]
    parameters: int
    difference: float | None = None

    def __str__(self) -> str:
        shape = ", ".join(f"{key} {value}" for key, value in self.arguments.items())
        text = f"network {self.name} of {self.parameters:,} parameters in {self.out}"
        text += f" ({shape})" if shape else ""
        if self.difference is not None:
            text += f"; outputs differ from torch by {self.difference:.1e} at most"
        return text


def convert(settings: ConvertSettings, spec: NetworkSpec | None) -> ConvertResult:
    """Write weights with the configuration and the normalisation that belong to them.

    Args:
        settings: The files, and what the checkpoint does not say.
        spec: Of the network in the checkpoint; None of an ONNX file, which cannot be converted.

    Raises:
        CheckpointError: If the checkpoint cannot be read or is of another network.
        UsageError: If there is nothing to convert, or ONNX is not installed.
        RunError: If an exported graph gives other values than torch.
        OutputError: If the file cannot be written.
    """
    to_onnx = settings.out.suffix == ONNX_SUFFIX
    if spec is None:
        raise CheckpointError.at(
            settings.checkpoint,
            "is an ONNX file, not a safetensors file or a published checkpoint",
            "weights of torch",
            "give the checkpoint that it was converted from",
        )
    if not holds_torch_save(settings.checkpoint):
        _refuse_senseless(settings, to_onnx=to_onnx)
    network, info = load_network(settings.checkpoint, spec.network, sees_query=settings.sees_query)
    extra = _extra(settings, info)
    difference = None
    if to_onnx:
        stored = NetworkInfo(info.name, info.arguments, extra, info.version)
        difference = export_network(settings.out, network, stored)
    else:
        save_network(settings.out, network, name=info.name, arguments=info.arguments, extra=extra)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ConvertResult(settings.out, info.name, info.arguments, parameters, difference)


def _refuse_senseless(settings: ConvertSettings, *, to_onnx: bool) -> None:
    """Refuse what makes no sense of a file that is no published checkpoint."""
    if settings.sees_query:
        raise UsageError.at(
            "sees_query",
            f"is set, but {settings.checkpoint} is no published checkpoint",
            remedy="leave it out: a weights file of dvos says so itself",
        )
    changes = (settings.mean, settings.std, settings.reference_interval)
    if not to_onnx and not any(changes):
        raise UsageError.at(
            settings.checkpoint,
            "is no published checkpoint, so there is nothing to convert",
            "a .tar or .pth file of the published training",
            "use a weights file of dvos as it is, or give --out a name that ends in .onnx",
        )


def _extra(settings: ConvertSettings, info: NetworkInfo) -> dict[str, Any]:
    """What is stored beside the weights, with what the settings say of it."""
    normalisation = dict(info.extra.get("normalisation", {}))
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if values is not None:
            normalisation[name] = list(values)
    extra = {**info.extra, "normalisation": normalisation}
    if settings.reference_interval is not None:
        extra["reference_interval"] = settings.reference_interval
    return extra
