"""The networks there are: each as one spec, put together of what its rooms offer.

Whoever runs the method looks a network up here and hands its spec on. A further network is one more
entry of :data:`NETWORKS`; see ``docs/how-to/extend.md``. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dvos.config.load import load_settings
from dvos.config.network import NetworkSettings
from dvos.config.prediction import PredictionOptions, PredictorOptions
from dvos.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import nn

    from dvos.networks.spec import NetworkSpec
    from dvos.networks.weights import NetworkInfo
    from dvos.prediction.features import FeatureReader
    from dvos.prediction.predictor import FirstMask, Predictor
    from dvos.training.clips.files import FrameClip


def _own_spec(name: str) -> NetworkSpec:
    """The spec of a network of this package."""
    from dvos.networks.dvos.efficientnet import IMAGENET_NORMALISATION
    from dvos.networks.dvos.network import DvosNetwork
    from dvos.networks.paper.network import PUBLISHED_NORMALISATION, PaperNetwork
    from dvos.networks.spec import NetworkSpec
    from dvos.networks.xmem.network import XMEM_NORMALISATION, XMem
    from dvos.prediction.streaming import StreamingPredictor, dvos_predictor
    from dvos.prediction.xmem import XMemPredictor
    from dvos.training import networks, objective, targets
    from dvos.training.tracking import build_tracking_objective

    if name == "dvos":
        return NetworkSpec(
            name=name,
            network=DvosNetwork,
            normalisation=IMAGENET_NORMALISATION,
            arguments=networks.dvos_arguments,
            initialise=networks.initialise_dvos,
            target=targets.QueryTarget,
            objective=objective.build_query_objective,
            predictor=dvos_predictor,
            learn_tracks=_learn_tracks,
            scales_up=True,
        )
    if name == "paper":
        return NetworkSpec(
            name=name,
            network=PaperNetwork,
            normalisation=PUBLISHED_NORMALISATION,
            arguments=networks.paper_arguments,
            initialise=networks.start_from_weights,
            target=targets.QueryTarget,
            objective=objective.build_query_objective,
            predictor=StreamingPredictor,
            learn_tracks=_learn_tracks,
        )
    return NetworkSpec(
        name=name,
        network=XMem,
        normalisation=XMEM_NORMALISATION,
        arguments=networks.xmem_arguments,
        initialise=networks.initialise_xmem,
        target=targets.TrackTarget,
        objective=build_tracking_objective,
        predictor=XMemPredictor,
        splits=False,
        starts_from_masks=True,
    )


def _learn_tracks(
    checkpoint: Path, clips: Sequence[FrameClip], device: str
) -> dict[str, float] | None:
    from dvos.prediction.tracks.learning import learn_tracks

    return learn_tracks(predictor_of(checkpoint, PredictorOptions(device=device)), clips)


#: Every network by the name that settings and checkpoints use: its spec, or what gives it.
NETWORKS: dict[str, NetworkSpec | Callable[[], NetworkSpec]] = {
    name: partial(_own_spec, name) for name in ("dvos", "paper", "xmem")
}


def network_spec(name: str) -> NetworkSpec:
    """The spec of a network; a ConfigError if there is no network of this name."""
    check_name(name)
    entry = NETWORKS[name]
    return entry() if callable(entry) else entry


def check_network(settings: NetworkSettings) -> None:
    """A ConfigError if there is no network of the name in settings, or it has not their options."""
    check_name(settings.name)
    # The networks of this package have no options, so that no torch is needed to tell.
    if settings.options or not callable(NETWORKS[settings.name]):
        training_spec(settings)


def training_spec(settings: NetworkSettings) -> NetworkSpec:
    """The spec of the network that settings name; a ConfigError tells of options that are wrong."""
    spec, options = network_spec(settings.name), settings.options
    if spec.settings is None:
        if options:
            found = f"holds {', '.join(options)}, but the network {spec.name} has no options"
            raise ConfigError.at("network.options", found, remedy="leave it out")
        return spec
    try:
        load_settings(spec.settings, options=options)
    except ConfigError as error:
        raise ConfigError(
            replace(fault, where=f"network.options: {fault.where}") for fault in error.faults
        ) from error
    return spec


def spec_of(checkpoint: Path) -> NetworkSpec | None:
    """The spec of a checkpoint's network; None for ONNX. A CheckpointError if it is not known."""
    from dvos.networks.onnx_graph import ONNX_SUFFIX
    from dvos.networks.weights import read_network_info

    if checkpoint.suffix.lower() == ONNX_SUFFIX:
        return None
    name = read_network_info(checkpoint).name
    if name not in NETWORKS:
        found = f"holds the network {name!r}"
        raise CheckpointError.at(checkpoint, found, f"one of {_known()}", "update dvos")
    return network_spec(name)


def load_network(
    checkpoint: Path, *, device: str = "cpu", sees_query: bool = False
) -> tuple[nn.Module, NetworkInfo]:
    """:func:`dvos.networks.weights.load_network` of whichever network the file holds."""
    from dvos.networks import weights

    spec = spec_of(Path(checkpoint))
    if spec is None:
        found = "is an ONNX file, which holds a graph"
        raise CheckpointError.at(checkpoint, found, "a weights file of torch")
    return weights.load_network(checkpoint, spec.network, device=device, sees_query=sees_query)


def predictor_of(
    checkpoint: Path,
    options: PredictorOptions,
    *,
    first_mask: FirstMask | None = None,
    first_mask_checkpoint: Path | None = None,
) -> Predictor:
    """Load a trained network, whichever it is, ready to segment.

    ``checkpoint`` is ``best.safetensors``, a checkpoint of a published training, or an ``.onnx``
    file. A network that starts from masks, such as XMem, needs ``first_mask``, and the network that
    finds it where that is ``auto``. A CheckpointError if a file does not do, a UsageError if the
    device or an option does not exist, or a first mask or what an ``.onnx`` file needs is missing.
    """
    finder = None
    if first_mask_checkpoint is not None:
        spec = spec_of(first_mask_checkpoint)
        if spec is not None and spec.starts_from_masks:
            found = "is XMem, which finds no first mask"
            wanted = "a network that segments without one, as 'dvos' or 'paper'"
            remedy = "give the best.safetensors of such a training as --first-mask-checkpoint"
            raise CheckpointError.at(first_mask_checkpoint, found, wanted, remedy)
        finder = predictor_of(first_mask_checkpoint, PredictorOptions(device=options.device))
    spec = spec_of(checkpoint)
    if first_mask is not None and (spec is None or not spec.starts_from_masks):
        found = "holds a network that finds objects by itself, and a first mask is given"
        wanted = "XMem, which follows the objects of a first mask"
        remedy = "leave out --first-mask, or give an XMem checkpoint"
        raise CheckpointError.at(checkpoint, found, wanted, remedy)
    if spec is None:
        from dvos.prediction.streaming import onnx_predictor

        return onnx_predictor(checkpoint, options)
    from dvos.prediction.network import LoadedNetwork

    masks = (first_mask, finder) if spec.starts_from_masks else ()
    loaded = LoadedNetwork.read(checkpoint, options.device, spec)
    return cast("Predictor", spec.predictor(loaded, options, *masks))


def predictor_for(options: PredictionOptions) -> Predictor:
    """As :func:`predictor_of`, of what the options of ``predict`` and ``evaluate`` name."""
    return predictor_of(
        options.checkpoint,
        options,
        first_mask=options.first_mask,
        first_mask_checkpoint=options.first_mask_checkpoint,
    )


def features_of(checkpoint: Path, device: str = "auto", *, tile: int = 0) -> FeatureReader:
    """A reader of the features of a trained network; an ONNX file, without spec, has none."""
    from dvos.prediction.features import FeatureReader, offers_features
    from dvos.prediction.network import LoadedNetwork

    spec = spec_of(checkpoint)
    if spec is None:
        wanted = "the checkpoint that it was converted from"
        raise CheckpointError.at(checkpoint, "an ONNX file offers no features", wanted)
    loaded = LoadedNetwork.read(checkpoint, device, spec)
    if not offers_features(loaded.network):
        found = f"holds a network of the kind {spec.name!r}, which offers no features"
        remedy = "leave out what needs them: for pseudo-labels --set probe=false"
        raise CheckpointError.at(checkpoint, found, "one that does, as 'dvos'", remedy)
    return FeatureReader(loaded, tile)


def check_name(name: str) -> None:
    """See that there is a network of this name; a ConfigError if there is none."""
    if name not in NETWORKS:
        raise ConfigError.at("network.name", f"there is no network {name!r}", f"one of {_known()}")


def _known() -> str:
    return ", ".join(sorted(NETWORKS))
