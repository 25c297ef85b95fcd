"""Writing a network as an ONNX file, see :mod:`dvos.networks.onnx_format`.

Tensor letters: B frames of a batch, R references, C channels, H height, W width.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from dvos.errors import CheckpointError, RunError
from dvos.files import write_bytes
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.onnx_format import (
    FRAME,
    MASK_LOGITS,
    OnnxDescription,
    feature_name,
    reference_name,
    require,
)
from dvos.networks.outputs import Outputs
from dvos.networks.weights import NetworkInfo

__all__ = ["LARGEST_DIFFERENCE", "export_network"]

#: Between an output of torch and of the exported graph, relative to the largest
#: value of the output where that is above 1; beyond it nothing is written.
LARGEST_DIFFERENCE = 1e-3

#: The graph is traced at twice and three times the stride, then checked at other sizes.
_TRACED = (2, 2, 3)
_CHECKED = ((1, 3, 1), (2, 4, 5))


class _Streaming(Protocol):
    references: int

    def encode(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to maps (B, C, h, w), finest first."""

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,
    ) -> Outputs:
        """For each scale the maps of the references and the query, to the query's outputs."""


class _Step(nn.Module):
    """One step of a stream as a function of tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, references: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Mask logits and features of a frame (B, 3, H, W), given those of R references."""
        network = cast("_Streaming", self.network)
        features = network.encode(frame)
        windows = [
            [*(maps[scale] for maps in references), query] for scale, query in enumerate(features)
        ]
        size = (frame.shape[-2], frame.shape[-1])
        outputs = network.decode(windows, size, reconstruct=False)
        return (outputs.mask_logits, *features)


def export_network(path: Path, network: nn.Module, info: NetworkInfo) -> float:
    """Write a network as a streaming ONNX graph, after a comparison with torch.

    Args:
        path: Written atomically.
        network: In evaluation mode, on the CPU. Those that encode frames one
            by one can be written, ``dvos`` and ``paper``.
        info: Stored beside, with the normalisation in ``extra``.

    Returns:
        The largest difference found between the graph and torch, over all
        outputs for random frames of two sizes; see :data:`LARGEST_DIFFERENCE`.

    Raises:
        CheckpointError: If networks of this kind cannot be exported.
        UsageError: If ONNX is not installed.
        RunError: If the graph gives other values than torch.
        OutputError: If the file cannot be written.
    """
    if not (hasattr(network, "encode") and hasattr(network, "decode")):
        raise CheckpointError.at(
            path.name,
            f"a network of the kind {info.name!r} cannot be exported",
            "one that encodes frames one by one, as 'dvos' and 'paper' do",
        )
    require("ONNX export", ("onnx", "onnxruntime", "onnxscript"))
    step = _Step(network).eval()
    strides = _strides(network)
    folded = network.for_inference() if isinstance(network, DvosNetwork) else network
    traced = _traced(_Step(folded).eval(), network, strides)
    description = OnnxDescription(
        name=info.name,
        arguments=info.arguments,
        references=cast("_Streaming", network).references,
        strides=strides,
        extra=info.extra,
        version=info.version,
    )
    graph = _finished(traced, description)
    difference = max(_difference(graph, step, network, strides, case) for case in _CHECKED)
    if not difference <= LARGEST_DIFFERENCE:
        raise RunError.at(
            path,
            f"the exported graph differs from the network by {difference:.1e}",
            f"at most {LARGEST_DIFFERENCE:.0e}",
            "nothing was written; try another release of torch and onnxruntime",
        )
    write_bytes(path, graph)
    return difference


def _strides(network: nn.Module) -> tuple[int, ...]:
    """Of the feature maps, read off a frame large enough for any of them."""
    side = 256
    with torch.no_grad():
        maps = cast("_Streaming", network).encode(torch.zeros(1, 3, side, side))
    return tuple(side // x.shape[-1] for x in maps)


def _example(
    network: nn.Module, strides: Sequence[int], case: tuple[int, int, int], seed: int
) -> tuple[Tensor, list[list[Tensor]]]:
    """Noise (B, 3, H, W), and the features of R frames of noise; H and W in strides."""
    streaming = cast("_Streaming", network)
    noise = torch.Generator().manual_seed(seed)
    shape = (case[0], 3, case[1] * strides[-1], case[2] * strides[-1])
    with torch.no_grad():
        references = [
            streaming.encode(torch.randn(shape, generator=noise))
            for _ in range(streaming.references)
        ]
    return torch.randn(shape, generator=noise), references


def _traced(step: _Step, network: nn.Module, strides: Sequence[int]) -> Any:
    """The graph as an ``onnx.ModelProto`` with batch, height and width left open."""
    frame, references = _example(network, strides, _TRACED, seed=0)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    coarsest = strides[-1]

    def open_axes(stride: int) -> dict[int, Any]:
        times = coarsest // stride
        # A size that is not multiplied must not be written as 1 * size.
        return {
            0: batch,
            2: times * height if times > 1 else height,
            3: times * width if times > 1 else width,
        }

    shapes = (open_axes(1), [[open_axes(stride) for stride in strides] for _ in references])
    names = [FRAME] + [
        reference_name(number, stride)
        for number in range(1, len(references) + 1)
        for stride in strides
    ]
    # Without gradients the published network computes in place, in forms that
    # ONNX has none for; the compact network has one form and is traced once.
    with torch.set_grad_enabled(not isinstance(step.network, DvosNetwork)), _quiet():
        program = torch.onnx.export(
            step,
            (frame, references),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=names,
            output_names=[MASK_LOGITS, *map(feature_name, strides)],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _finished(model: Any, description: OnnxDescription) -> bytes:
    """Leave out inputs nothing looks at, describe the model, check and serialise it."""
    onnx = require("ONNX export", ("onnx",))[0]
    used = {name for node in model.graph.node for name in node.input}
    kept = [value for value in model.graph.input if value.name in used or value.name == FRAME]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    # Sizes of what lies between are the exporter's notes and of no use here.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, description.metadata())
    model.producer_name, model.producer_version = "dvos", description.version
    model.doc_string = (
        "One step of a video stream: feed the outputs features_* of earlier frames"
        " as the inputs reference*_* of later ones."
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _difference(
    graph: bytes,
    step: _Step,
    network: nn.Module,
    strides: Sequence[int],
    case: tuple[int, int, int],
) -> float:
    onnxruntime = require("ONNX export", ("onnxruntime",))[0]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    frame, references = _example(network, strides, case, seed=1)
    with torch.no_grad():
        expected = step(frame, references)
    feeds = {FRAME: frame.numpy()}
    for number, maps in enumerate(references, start=1):
        for stride, values in zip(strides, maps, strict=True):
            feeds[reference_name(number, stride)] = values.contiguous().numpy()
    wanted = {value.name for value in session.get_inputs()}
    names = [MASK_LOGITS, *map(feature_name, strides)]
    found = session.run(names, {key: value for key, value in feeds.items() if key in wanted})
    return max(
        float(np.abs(one - other.numpy()).max()) / max(1.0, float(other.abs().max()))
        for one, other in zip(found, expected, strict=True)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes to its own developers from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
