"""A predictor from a checkpoint and plain choices."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from dvos.config.xmem_prediction import XMemPredictionSettings
from dvos.errors import CheckpointError, FaultCollector, UsageError
from dvos.media.frames import Frames
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.onnx_format import ONNX_SUFFIX
from dvos.networks.weights import NETWORKS, NetworkInfo, load_network
from dvos.prediction.encoding import NetworkFeatures, OffersFeatures
from dvos.prediction.objects import ObjectKnowledge, read_knowledge
from dvos.prediction.predictor import AUGMENTATIONS, FirstMask, FramePrediction, Predictor
from dvos.prediction.streaming import StreamingNetwork, StreamingPredictor
from dvos.prediction.tiles import ALIGNMENT

if TYPE_CHECKING:
    from dvos.networks.xmem.network import XMem

__all__ = [
    "LoadedPredictor",
    "build_feature_reader",
    "build_predictor",
    "choose_device",
    "offers_features",
]

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_GPU_BATCH = 4


@dataclass(frozen=True)
class LoadedPredictor:
    """Keeps to :class:`~dvos.prediction.predictor.Predictor`.

    Attributes:
        stream: Segments.
        knowledge: See the protocol.
    """

    stream: StreamingPredictor
    knowledge: ObjectKnowledge

    @property
    def context(self) -> int:
        """How many frames before a frame its mask depends on."""
        return self.stream.context

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """See the protocol."""
        return self.stream.segment(video_or_frames, start=start)


def build_predictor(
    checkpoint: Path,
    *,
    device: str,
    scale: float,
    tile: int,
    threshold: float,
    augment: str,
    augment_scales: Sequence[float],
    precision: str,
    batch: int,
    reference_interval: int | None,
    first_mask: FirstMask | None = None,
    first_mask_checkpoint: Path | None = None,
    xmem: XMemPredictionSettings | None = None,
) -> Predictor:
    """See :func:`dvos.prediction.predictor.load_predictor`."""
    _check_choices(augment, augment_scales, precision)
    on_onnx = checkpoint.suffix.lower() == ONNX_SUFFIX
    place = _onnx_device(checkpoint, device, precision) if on_onnx else choose_device(device)
    on_gpu = place.type == "cuda"
    if precision == "auto":
        precision = "bfloat16" if on_gpu else "float32"
    loaded = None if on_onnx else load_network(checkpoint, device=place)
    if loaded is not None and loaded[1].name == "xmem":
        from dvos.prediction.xmem.build import build_xmem_predictor

        return build_xmem_predictor(
            checkpoint,
            cast("XMem", loaded[0]),
            loaded[1].extra,
            first_mask=first_mask,
            first_mask_checkpoint=first_mask_checkpoint,
            device=place,
            scale=scale,
            tile=tile,
            threshold=threshold,
            augment=augment,
            autocast=_PRECISIONS[precision],
            settings=xmem,
        )
    _refuse_first_mask(checkpoint, first_mask)
    network, references, extra = (
        _read_onnx(checkpoint) if loaded is None else _streaming(checkpoint, *loaded)
    )
    mean, std = _normalisation(checkpoint, extra)
    tile, overlap = _tiling(tile)
    stream = StreamingPredictor(
        network,
        references=references,
        interval=reference_interval or int(extra.get("reference_interval", 1)),
        mean=mean,
        std=std,
        device=place,
        scale=scale,
        tile=tile,
        overlap=overlap,
        threshold=threshold,
        flips="flips" in augment,
        view_scales=tuple(augment_scales) if "scales" in augment else (1.0,),
        batch=batch or (_GPU_BATCH if on_gpu else 1),
        autocast=_PRECISIONS[precision],
    )
    return LoadedPredictor(stream, read_knowledge(extra).at_scale(scale))


def build_feature_reader(checkpoint: Path, *, device: str, tile: int) -> NetworkFeatures:
    """See :func:`dvos.prediction.features.load_features`."""
    if checkpoint.suffix.lower() == ONNX_SUFFIX:
        raise CheckpointError.at(
            checkpoint,
            "an ONNX file offers no features",
            "the checkpoint that it was converted from",
        )
    place = choose_device(device)
    network, info = load_network(checkpoint, device=place)
    if not hasattr(network, "features"):
        raise CheckpointError.at(
            checkpoint,
            f"holds a network of the kind {info.name!r}, which offers no features",
            "one that does, as 'dvos'",
            "leave out what needs them: for pseudo-labels --set probe=false",
        )
    if isinstance(network, DvosNetwork):
        network = network.for_inference()
    mean, std = _normalisation(checkpoint, info.extra)
    tile, overlap = _tiling(tile)
    return NetworkFeatures(
        cast("OffersFeatures", network),
        mean=mean,
        std=std,
        device=place,
        tile=tile,
        overlap=overlap,
    )


def offers_features(name: str) -> bool:
    """Whether networks of a name in :data:`~dvos.networks.weights.NETWORKS` show their features."""
    module, attribute = NETWORKS[name]
    return hasattr(getattr(importlib.import_module(module), attribute), "features")


def choose_device(device: str) -> torch.device:
    """The torch device of a name; ``auto`` is the first GPU, or the CPU.

    Raises:
        UsageError: If this machine has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
        # Asking for a number is what shows whether the device works.
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError.at(
            "device",
            f"{device!r} is not available on this machine",
            "auto, cpu, cuda, cuda:N or mps",
            "leave it at auto",
        ) from error
    return place


def _check_choices(augment: str, augment_scales: Sequence[float], precision: str) -> None:
    """Refuse values that settings would have refused, where the call is from Python."""
    with FaultCollector(UsageError) as faults:
        if augment not in AUGMENTATIONS:
            faults.add("augment", f"is {augment!r}", f"one of {', '.join(AUGMENTATIONS)}")
        if precision not in ("auto", *_PRECISIONS):
            faults.add("precision", f"is {precision!r}", f"auto, {', '.join(_PRECISIONS)}")
        if "scales" in augment and (not augment_scales or min(augment_scales) <= 0):
            faults.add("augment_scales", f"is {list(augment_scales)}", "positive factors")


def _refuse_first_mask(checkpoint: Path, first_mask: FirstMask | None) -> None:
    if first_mask is not None:
        raise CheckpointError.at(
            checkpoint,
            "holds a network that finds objects by itself, and a first mask is given",
            "XMem, which follows the objects of a first mask",
            "leave out --first-mask, or give an XMem checkpoint",
        )


def _streaming(
    checkpoint: Path, network: torch.nn.Module, info: NetworkInfo
) -> tuple[StreamingNetwork, int, Mapping[str, Any]]:
    """A loaded network for a stream, the number of its references, and what is stored beside."""
    if not (hasattr(network, "encode") and hasattr(network, "decode")):
        raise CheckpointError.at(
            checkpoint,
            f"holds a network of the kind {info.name!r}",
            "one that encodes frames one by one, as 'dvos' and 'paper' do",
            "give a checkpoint written by dvos train, or of the published training",
        )
    if isinstance(network, DvosNetwork):
        network = network.for_inference()
    # Convolutions are up to twice as fast with the channels of a pixel together.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return cast("StreamingNetwork", network), _references(checkpoint, network), info.extra


def _read_onnx(checkpoint: Path) -> tuple[StreamingNetwork, int, Mapping[str, Any]]:
    """As :func:`_streaming`, of an ONNX file."""
    from dvos.prediction.onnx_network import load_onnx_network

    network, description = load_onnx_network(checkpoint)
    return network, description.references, description.extra


def _onnx_device(checkpoint: Path, device: str, precision: str) -> torch.device:
    """The CPU, on which ONNX files are run, or a refusal of anything else asked for."""
    remedy = "leave it at auto, or give the checkpoint that the file was converted from"
    with FaultCollector(UsageError) as faults:
        if device not in ("auto", "cpu"):
            faults.add("device", f"is {device!r}", f"auto or cpu for {checkpoint.name}", remedy)
        if precision not in ("auto", "float32"):
            expected = f"auto or float32 for {checkpoint.name}"
            faults.add("precision", f"is {precision!r}", expected, remedy)
    return torch.device("cpu")


def _normalisation(checkpoint: Path, extra: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    stored: Any = extra.get("normalisation")
    try:
        mean, std = [float(x) for x in stored["mean"]], [float(x) for x in stored["std"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError.at(
            checkpoint,
            "does not say how frames are normalised",
            "normalisation with mean and std in its metadata",
            "give the best.safetensors of a training run",
        ) from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise CheckpointError.at(
            checkpoint, f"has the normalisation {stored}", "three means and three positive stds"
        )
    return mean, std


def _references(checkpoint: Path, network: torch.nn.Module) -> int:
    references = getattr(network, "references", None)
    if not isinstance(references, int):
        raise CheckpointError.at(
            checkpoint, "its network does not say how many references it takes"
        )
    return references


def _tiling(tile: int) -> tuple[int, int]:
    """Side and overlap of the tiles that come nearest to the ones asked for; 0 = none."""
    if not tile:
        return 0, 0
    # A tile of one step would leave no room for the overlap.
    tile = max(_aligned(tile), 2 * ALIGNMENT)
    return tile, _aligned(tile // 4)


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
