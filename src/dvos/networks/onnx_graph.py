"""Networks as ONNX graphs: what such a file holds and says about itself, writing it, running it.

The graph is one step of a stream: ``frame`` (B, 3, H, W) and the features of its references (1 is
the oldest), ``reference1_stride4`` (B, C, H / 4, W / 4) and so on where looked at, to
``mask_logits`` (B, 1, H, W) and its own ``features_stride2`` and so on. H and W are multiples of
the coarsest stride. Under ``dvos`` its ``metadata_props`` hold what weights files do, and more. It
runs as an encoder and a decoder, cut at its features: frames of a batch may refer to each other.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dvos.errors import CheckpointError, RunError, UsageError
from dvos.files import parse_json, write_bytes
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.spec import Maps, Outputs, padded
from dvos.networks.weights import METADATA_KEY, NetworkInfo

ONNX_SUFFIX = ".onnx"
FRAME = "frame"
MASK_LOGITS = "mask_logits"

#: Between outputs of torch and graph, relative to their largest value where that is above 1.
LARGEST_DIFFERENCE = 1e-3

#: B, H and W, in strides: the graph is traced at one size, then checked at others.
_TRACED = (2, 2, 3)
_CHECKED = ((1, 3, 1), (2, 4, 5))
_PROBE = 256


def feature_name(stride: int) -> str:
    """Output: the frame's features of one scale."""
    return f"features_stride{stride}"


def reference_name(reference: int, stride: int) -> str:
    """Input: what :func:`feature_name` gave for a reference, counted from 1."""
    return f"reference{reference}_stride{stride}"


@dataclass(frozen=True, kw_only=True)
class OnnxInfo(NetworkInfo):
    """What a file says of its network: frames it refers to, and strides of maps, finest first."""

    references: int
    strides: tuple[int, ...]


def read_onnx_info(path: Path, metadata: dict[str, str]) -> OnnxInfo:
    """What the ``metadata_props`` of a model say; a CheckpointError if it is not one of ours."""
    try:
        text = metadata[METADATA_KEY]
        values = parse_json(text)
        strides = tuple(int(stride) for stride in values["strides"])
        return OnnxInfo.described(text, references=int(values["references"]), strides=strides)
    except (KeyError, TypeError, ValueError) as error:
        found = "an ONNX file that does not say which network it holds"
        remedy = "write it with: dvos convert best.safetensors --out model.onnx"
        raise CheckpointError.at(path, found, "one written by dvos convert", remedy) from error


def require(purpose: str, *modules: str) -> list[ModuleType]:
    """Import what only ONNX needs; a UsageError about the purpose if a module is not installed."""
    missing, found = [], []
    for name in modules:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            missing.append(name)
    if missing:
        noun, verb = ("packages", "are") if len(missing) > 1 else ("package", "is")
        told = f"needs the {noun} {', '.join(missing)}, which {verb} not installed"
        raise UsageError.at(purpose, told, remedy="pip install 'dvos[onnx]'")
    return found


class _Step(nn.Module):
    """One step of a stream as a function of tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, references: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Mask logits and features of a frame (B, 3, H, W), given those of R references."""
        network: Any = self.network
        features = network.encode(frame)
        # For each scale the maps of the references and the query: (R + 1) times (B, C, h, w).
        windows = list(zip(*references, features, strict=True))
        outputs = network.decode(windows, frame.shape[-2:], reconstruct=False)
        return (outputs.mask_logits, *features)


def export_network(path: Path, network: nn.Module, info: NetworkInfo) -> float:
    """Write a network as a streaming ONNX graph, atomically, after a comparison with torch.

    It is in evaluation mode and on the CPU, and said of it, with the normalisation in ``extra``, is
    ``info``. Returns the largest difference from torch, over all outputs for random frames of two
    sizes. A CheckpointError if it encodes no frames by themselves, a UsageError without ONNX, a
    RunError if the difference is above :data:`LARGEST_DIFFERENCE`.
    """
    if not (hasattr(network, "encode") and hasattr(network, "decode")):
        found = f"a network of the kind {info.name!r} cannot be exported"
        wanted = "one that encodes frames one by one, as 'dvos' and 'paper' do"
        raise CheckpointError.at(path.name, found, wanted)
    require("ONNX export", "onnx", "onnxruntime", "onnxscript")
    step = _Step(network).eval()
    with torch.no_grad():
        # Strides are read off maps of a frame large enough for any of them.
        maps = network.encode(torch.zeros(1, 3, _PROBE, _PROBE))  # type: ignore[operator]
    described = OnnxInfo(
        **vars(info),
        references=int(getattr(network, "references")),  # noqa: B009 - modules declare tensors only
        strides=tuple(_PROBE // x.shape[-1] for x in maps),
    )
    folded = network.for_inference() if isinstance(network, DvosNetwork) else network
    graph = _finished(_traced(_Step(folded).eval(), network, described), described)
    difference = max(_difference(graph, step, described, case) for case in _CHECKED)
    if not difference <= LARGEST_DIFFERENCE:
        found = f"the exported graph differs from the network by {difference:.1e}"
        remedy = "nothing was written; try another release of torch and onnxruntime"
        raise RunError.at(path, found, f"at most {LARGEST_DIFFERENCE:.0e}", remedy)
    write_bytes(path, graph)
    return difference


def _example(
    network: Any, info: OnnxInfo, case: tuple[int, int, int], seed: int
) -> tuple[Tensor, list[list[Tensor]]]:
    """Noise (B, 3, H, W), and the features of R frames of noise; H and W in strides."""
    noise = torch.Generator().manual_seed(seed)
    shape = (case[0], 3, *(side * info.strides[-1] for side in case[1:]))
    *references, frame = (torch.randn(shape, generator=noise) for _ in range(info.references + 1))
    with torch.no_grad():
        return frame, [network.encode(reference) for reference in references]


def _traced(step: _Step, network: nn.Module, info: OnnxInfo) -> Any:
    """The graph as an ``onnx.ModelProto`` with batch, height and width left open."""
    frame, references = _example(network, info, _TRACED, seed=0)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))

    def open_axes(stride: int) -> dict[int, Any]:
        times = info.strides[-1] // stride
        # A size that is not multiplied must not be written as 1 * size.
        sides = [times * side if times > 1 else side for side in (height, width)]
        return {0: batch, 2: sides[0], 3: sides[1]}

    shapes = (open_axes(1), [[open_axes(stride) for stride in info.strides] for _ in references])
    numbers = range(1, len(references) + 1)
    names = [reference_name(number, stride) for number in numbers for stride in info.strides]
    # Without gradients the published network computes in place, which ONNX has no forms for.
    gradients = torch.set_grad_enabled(not isinstance(step.network, DvosNetwork))
    # The exporter's notes are for its own developers.
    told = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with gradients, warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                step,
                (frame, references),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=[FRAME, *names],
                output_names=[MASK_LOGITS, *map(feature_name, info.strides)],
                external_data=False,
                verbose=False,
            )
    finally:
        logging.disable(told)
    assert program is not None
    return program.model_proto


def _finished(model: Any, info: OnnxInfo) -> bytes:
    """Leave out inputs nothing looks at, describe the model, check and serialise it."""
    (onnx,) = require("ONNX export", "onnx")
    used = {name for node in model.graph.node for name in node.input}
    kept = [value for value in model.graph.input if value.name in used or value.name == FRAME]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    # Sizes of what lies between are the exporter's notes and of no use here.
    del model.graph.value_info[:], model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    text = info.describe(
        references=info.references,
        reference_interval=info.extra.get("reference_interval", 1),
        strides=list(info.strides),
        stride=info.strides[-1],
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    model.producer_name, model.producer_version = "dvos", info.version
    model.doc_string = (
        "One step of a video stream: feed the outputs features_* of earlier frames"
        " as the inputs reference*_* of later ones."
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _difference(graph: bytes, step: _Step, info: OnnxInfo, case: tuple[int, int, int]) -> float:
    """Between the outputs of graph and torch for one batch and size."""
    (onnxruntime,) = require("ONNX export", "onnxruntime")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    frame, references = _example(step.network, info, case, seed=1)
    with torch.no_grad():
        expected = step(frame, references)
    feeds = {FRAME: frame.numpy()}
    for number, maps in enumerate(references, start=1):
        for stride, values in zip(info.strides, maps, strict=True):
            feeds[reference_name(number, stride)] = values.contiguous().numpy()
    wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
    found = session.run([MASK_LOGITS, *map(feature_name, info.strides)], wanted)
    return max(
        float(np.abs(one - other.numpy()).max()) / max(1.0, float(other.abs().max()))
        for one, other in zip(found, expected, strict=True)
    )


class OnnxNetwork:
    """A :class:`~dvos.prediction.views.StreamingNetwork` of two onnxruntime sessions."""

    def __init__(self, encoder: Any, decoder: Any, info: OnnxInfo) -> None:
        self.references, self._strides = info.references, info.strides
        self._encoder, self._decoder = encoder, decoder
        # Which maps the masks depend on: for each input its scale and its place in a window.
        places = {
            reference_name(number + 1, stride): (scale, number)
            for scale, stride in enumerate(self._strides)
            for number in range(self.references)
        }
        places |= {feature_name(x): (scale, -1) for scale, x in enumerate(self._strides)}
        self._sources = {value.name: places[value.name] for value in decoder.get_inputs()}

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Features of frames (B, 3, H, W), normalised; any H and W."""
        frames = padded(frames, self._strides[-1]).contiguous()
        names = [*map(feature_name, self._strides)]
        return [*map(torch.from_numpy, self._encoder.run(names, {FRAME: frames.numpy()}))]

    def decode(self, features: Maps, size: tuple[int, int], *, reconstruct: bool = True) -> Outputs:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""
        del reconstruct  # A graph has none.
        feeds = {
            name: features[scale][place].contiguous().numpy()
            for name, (scale, place) in self._sources.items()
        }
        logits = torch.from_numpy(self._decoder.run([MASK_LOGITS], feeds)[0])
        return Outputs(logits[..., : size[0], : size[1]].contiguous())


def load_onnx_network(path: Path) -> tuple[OnnxNetwork, OnnxInfo]:
    """Read a file that ``dvos convert`` wrote; as many threads are used as torch would use."""
    if not path.is_file():
        raise CheckpointError.at(path, "no such file", "an ONNX file written by dvos convert")
    onnx, _ = require(f"the checkpoint {path}", "onnx", "onnxruntime")
    damaged = CheckpointError.at(
        path, "damaged, or not an ONNX file", "one written by dvos convert", "write it again"
    )
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's own errors have no common base that is public
        raise damaged from error
    info = read_onnx_info(path, {p.key: p.value for p in model.metadata_props})
    maps = [*map(feature_name, info.strides)]
    references = [value.name for value in model.graph.input if value.name != FRAME]
    try:
        extract = onnx.utils.Extractor(model).extract_model
        encoder = _session(extract([FRAME], maps))
        decoder = _session(extract([*maps, *references], [MASK_LOGITS]))
        return OnnxNetwork(encoder, decoder, info), info
    except Exception as error:  # onnxruntime's errors are of many unrelated types
        raise damaged from error


def _session(model: Any) -> Any:
    (onnxruntime,) = require("an ONNX checkpoint", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait busily would take the cores from reading and writing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    graph, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(graph, options, providers=providers)
