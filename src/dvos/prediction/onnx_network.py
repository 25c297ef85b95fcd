"""A network in an ONNX file as one that a stream can be segmented with.

The graph of the file is one step of a stream (:mod:`dvos.networks.onnx_graph`). It is cut at its
features into an encoder and a decoder, so that frames of a batch may refer to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dvos.config.prediction import PredictorOptions
from dvos.errors import CheckpointError, FaultCollector, UsageError
from dvos.networks import onnx_graph as graph
from dvos.networks.onnx_graph import FRAME, MASK_LOGITS, OnnxInfo, feature_name, require
from dvos.networks.spec import Outputs, padded
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.streaming import StreamingPredictor


class OnnxNetwork:
    """A :class:`~dvos.prediction.views.StreamingNetwork` of two onnxruntime sessions."""

    def __init__(self, encoder: Any, decoder: Any, info: OnnxInfo) -> None:
        self.references, self._strides = info.references, info.strides
        self._encoder, self._decoder = encoder, decoder
        # Which maps the masks depend on: for each input its scale and its place in a window.
        places = {
            graph.reference_name(number + 1, stride): (scale, number)
            for scale, stride in enumerate(self._strides)
            for number in range(self.references)
        }
        places |= {feature_name(x): (scale, -1) for scale, x in enumerate(self._strides)}
        self._sources = {value.name: places[value.name] for value in decoder.get_inputs()}

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Features of frames (B, 3, H, W), normalised; any H and W."""
        frames = padded(frames, self._strides[-1])
        names = [feature_name(x) for x in self._strides]
        maps = self._encoder.run(names, {FRAME: frames.contiguous().numpy()})
        return [torch.from_numpy(values) for values in maps]

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,  # noqa: ARG002 - a graph has no reconstruction
    ) -> Outputs:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""
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
    info = graph.read_onnx_info(path, {p.key: p.value for p in model.metadata_props})
    maps = [feature_name(stride) for stride in info.strides]
    references = [value.name for value in model.graph.input if value.name != FRAME]
    try:
        extract = onnx.utils.Extractor(model).extract_model
        encoder = _session(extract([FRAME], maps))
        decoder = _session(extract([*maps, *references], [MASK_LOGITS]))
        return OnnxNetwork(encoder, decoder, info), info
    except Exception as error:  # onnxruntime's errors are of many unrelated types
        raise damaged from error


def onnx_predictor(path: Path, options: PredictorOptions) -> StreamingPredictor:
    """Predict with an ONNX file, on the CPU, in float32; a UsageError if others are asked for."""
    remedy = "leave it at auto, or give the checkpoint that the file was converted from"
    with FaultCollector(UsageError) as faults:
        for name, only in (("device", "cpu"), ("precision", "float32")):
            value = getattr(options, name)
            if value not in ("auto", only):
                faults.add(name, f"is {value!r}", f"auto or {only} for {path.name}", remedy)
    network, info = load_onnx_network(path)
    return StreamingPredictor(
        LoadedNetwork(path, network, info.extra, torch.device("cpu")), options
    )


def _session(model: Any) -> Any:
    (onnxruntime,) = require("an ONNX checkpoint", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait busily would take the cores from reading and writing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
