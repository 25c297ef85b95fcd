"""``dvos convert``: published weights as a file of ours, and any weights as ONNX."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dvos.config.prediction import ConvertSettings
from dvos.errors import CheckpointError, UsageError
from dvos.files import refuse_foreign
from dvos.networks.onnx_graph import ONNX_SUFFIX, export_network, load_onnx_network
from dvos.networks.spec import NetworkSpec
from dvos.networks.weights import holds_torch_save, load_network, read_network_info, save_network


@dataclass(frozen=True)
class ConvertResult:
    """A converted checkpoint; ``difference`` is that of an ONNX file's outputs from torch's."""

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

    ``spec`` is of the network in the checkpoint; None of an ONNX file, which cannot be converted.
    """
    if spec is None:
        found = "is an ONNX file, not a safetensors file or a published checkpoint"
        remedy = "give the checkpoint that it was converted from"
        raise CheckpointError.at(settings.checkpoint, found, "weights of torch", remedy)
    to_onnx = settings.out.suffix == ONNX_SUFFIX
    told = {"mean": settings.mean, "std": settings.std}
    interval = settings.reference_interval
    if not holds_torch_save(settings.checkpoint):
        if settings.sees_query:
            found = f"is set, but {settings.checkpoint} is no published checkpoint"
            remedy = "leave it out: a weights file of dvos says so itself"
            raise UsageError.at("sees_query", found, remedy=remedy)
        if not to_onnx and not any((*told.values(), interval)):
            found = "is no published checkpoint, so there is nothing to convert"
            expected = "a .tar or .pth file of the published training"
            remedy = "use a weights file of dvos as it is, or give --out a name that ends in .onnx"
            raise UsageError.at(settings.checkpoint, found, expected, remedy)
    _check_place(settings.out, is_onnx=to_onnx)
    network, info = load_network(settings.checkpoint, spec.network, sees_query=settings.sees_query)
    changed = {name: list(values) for name, values in told.items() if values is not None}
    stored = info.extra.get("normalisation")
    norm = stored | changed if isinstance(stored, dict) else changed
    extra = {**info.extra, "normalisation": norm}
    if interval is not None:
        extra["reference_interval"] = interval
    difference = None
    if to_onnx:
        difference = export_network(settings.out, network, replace(info, extra=extra))
    else:
        save_network(settings.out, network, name=info.name, arguments=info.arguments, extra=extra)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ConvertResult(settings.out, info.name, info.arguments, parameters, difference)


def _check_place(out: Path, *, is_onnx: bool) -> None:
    """See that nothing is written over but what was converted: no other file, no run's weights."""
    with suppress(CheckpointError):
        if is_onnx:
            load_onnx_network(out)
            return
        read_network_info(out)
        if not (out.parent / "run.json").exists():
            return
    refuse_foreign([out], "dvos convert")
