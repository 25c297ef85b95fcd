"""A predictor from a checkpoint and plain choices."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

import torch

from dvos.errors import CheckpointError, UsageError
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.weights import NETWORKS, NetworkInfo, load_network
from dvos.prediction.encoding import NetworkFeatures, OffersFeatures
from dvos.prediction.streaming import StreamingNetwork, StreamingPredictor
from dvos.prediction.tiles import ALIGNMENT

__all__ = ["build_feature_reader", "build_predictor", "choose_device", "offers_features"]

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_GPU_BATCH = 4


def build_predictor(
    checkpoint: Path,
    *,
    device: str,
    scale: float,
    tile: int,
    threshold: float,
    augment: str,
    precision: str,
    batch: int,
    reference_interval: int | None,
) -> StreamingPredictor:
    """See :func:`dvos.prediction.predictor.load_predictor`."""
    place = choose_device(device)
    network, info = load_network(checkpoint, device=place)
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
    mean, std = _normalisation(checkpoint, info)
    tile, overlap = _tiling(tile)
    on_gpu = place.type == "cuda"
    if precision == "auto":
        precision = "bfloat16" if on_gpu else "float32"
    return StreamingPredictor(
        cast("StreamingNetwork", network),
        references=_references(checkpoint, network),
        interval=reference_interval or int(info.extra.get("reference_interval", 1)),
        mean=mean,
        std=std,
        device=place,
        scale=scale,
        tile=tile,
        overlap=overlap,
        threshold=threshold,
        flips=augment == "flips",
        batch=batch or (_GPU_BATCH if on_gpu else 1),
        autocast=_PRECISIONS[precision],
    )


def build_feature_reader(checkpoint: Path, *, device: str, tile: int) -> NetworkFeatures:
    """See :func:`dvos.prediction.features.load_features`."""
    place = choose_device(device)
    network, info = load_network(checkpoint, device=place)
    if not hasattr(network, "features"):
        raise CheckpointError.at(
            checkpoint,
            f"holds a network of the kind {info.name!r}, which offers no features",
            "one that does, as 'dvos'",
            "leave out what needs them: for pseudo-labels --set opinion=false",
        )
    if isinstance(network, DvosNetwork):
        network = network.for_inference()
    mean, std = _normalisation(checkpoint, info)
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


def _normalisation(checkpoint: Path, info: NetworkInfo) -> tuple[list[float], list[float]]:
    stored: Any = info.extra.get("normalisation")
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
