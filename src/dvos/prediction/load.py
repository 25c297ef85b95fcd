"""Networks out of their files, ready to segment or to show their features.

Which network a file holds is told by its spec, which the caller finds in
:mod:`dvos.registry`. Importing this module loads no torch; its functions do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dvos.config.prediction import PredictorOptions
from dvos.errors import CheckpointError, FaultCollector, UsageError
from dvos.prediction.features import FeatureReader, NetworkFeatures
from dvos.prediction.predictor import FirstMask, Predictor

if TYPE_CHECKING:
    from dvos.networks.spec import NetworkSpec
    from dvos.prediction.network import LoadedNetwork


def load_predictor(
    checkpoint: Path,
    options: PredictorOptions,
    spec: NetworkSpec | None,
    *,
    first_mask: FirstMask | None = None,
    finder: Predictor | None = None,
) -> Predictor:
    """Load a trained network, ready to segment.

    Args:
        checkpoint: ``best.safetensors`` of a training run, a checkpoint of the
            published training, or an ``.onnx`` file of ``dvos convert``, which
            is run by onnxruntime on the CPU.
        options: How it segments.
        spec: Of the network in the file; None of an ONNX file.
        first_mask: Of a network that starts from masks, such as XMem, what
            clips start from; needed there, and there alone.
        finder: What finds the first mask, where that is ``auto``.

    Returns:
        The predictor. Its masks do not depend on ``options.batch``.

    Raises:
        CheckpointError: If the file is missing, damaged or holds a network
            that does not segment videos this way, as with a first mask only
            XMem does.
        UsageError: If the device does not exist, the network has no such
            option, a first mask or finder is missing, or what an ``.onnx``
            file needs is not installed.
    """
    if first_mask is not None and (spec is None or not spec.starts_from_masks):
        raise CheckpointError.at(
            checkpoint,
            "holds a network that finds objects by itself, and a first mask is given",
            "XMem, which follows the objects of a first mask",
            "leave out --first-mask, or give an XMem checkpoint",
        )
    if spec is None:
        from dvos.prediction.streaming import StreamingPredictor

        return StreamingPredictor(_load_onnx(checkpoint, options), options)
    loaded = _load(checkpoint, options.device, spec)
    predictor: Predictor = (
        spec.predictor(loaded, options, first_mask, finder)
        if spec.starts_from_masks
        else spec.predictor(loaded, options)
    )
    return predictor


def load_features(
    checkpoint: Path, device: str, spec: NetworkSpec | None, *, tile: int = 0
) -> FeatureReader:
    """Load a trained network as a reader of features.

    Args:
        checkpoint: ``best.safetensors`` of a training run.
        device: As ``PredictorOptions.device``.
        spec: Of the network in the file; None of an ONNX file, which is refused.
        tile: As ``PredictorOptions.tile``; a frame's features come in a piece for each tile.

    Raises:
        CheckpointError: If the file is missing or damaged, or holds a network
            that offers no features.
        UsageError: If the device does not exist.
    """
    if spec is None:
        raise CheckpointError.at(
            checkpoint,
            "an ONNX file offers no features",
            "the checkpoint that it was converted from",
        )
    loaded = _load(checkpoint, device, spec)
    if not offers_features(loaded.network):
        raise CheckpointError.at(
            checkpoint,
            f"holds a network of the kind {spec.name!r}, which offers no features",
            "one that does, as 'dvos'",
            "leave out what needs them: for pseudo-labels --set probe=false",
        )
    return NetworkFeatures(loaded, tile)


def offers_features(network: object) -> bool:
    """Whether a network, or the class in its spec, shows what its encoder sees."""
    return hasattr(network, "features")


def _load(checkpoint: Path, device: str, spec: NetworkSpec) -> LoadedNetwork:
    from dvos.networks.weights import load_network
    from dvos.prediction.network import LoadedNetwork, choose_device

    place = choose_device(device)
    network, info = load_network(checkpoint, spec.network, device=place)
    default = spec.normalisation.as_lists() if spec.starts_from_masks else None
    return LoadedNetwork(checkpoint, network, info.extra, place, default)


def _load_onnx(checkpoint: Path, options: PredictorOptions) -> LoadedNetwork:
    import torch

    from dvos.prediction.network import LoadedNetwork
    from dvos.prediction.onnx_network import load_onnx_network

    remedy = "leave it at auto, or give the checkpoint that the file was converted from"
    with FaultCollector(UsageError) as faults:
        if options.device not in ("auto", "cpu"):
            expected = f"auto or cpu for {checkpoint.name}"
            faults.add("device", f"is {options.device!r}", expected, remedy)
        if options.precision not in ("auto", "float32"):
            expected = f"auto or float32 for {checkpoint.name}"
            faults.add("precision", f"is {options.precision!r}", expected, remedy)
    network, description = load_onnx_network(checkpoint)
    return LoadedNetwork(checkpoint, network, description.extra, torch.device("cpu"))
