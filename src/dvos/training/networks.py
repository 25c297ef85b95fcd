"""The networks as they are trained: what each is built from, and the weights it starts from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvos.config.base import checked_intensity
from dvos.config.network import NetworkSettings, section_of
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError
from dvos.networks import spec as outputs
from dvos.networks.dvos import efficientnet
from dvos.networks.spec import NetworkSpec, Normalisation
from dvos.networks.weights import misfit, read_checkpoint, read_network_info, read_state
from dvos.networks.xmem.layers import ResNetBlock
from dvos.networks.xmem.network import XMem

#: Modules of the published ResNets that XMem has, too, one by another name; it ends at stride 16.
_USED, _UNUSED = ("conv1", "bn1", "layer1", "layer2", "layer3"), ("layer4.", "fc.")
_KEY_NAMES = {"layer1": "res2"}
#: The convolution of frame and masks, of 4 channels where other objects' masks are not seen.
_STEM = "value_encoder.conv1.weight"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in training, and what is stored beside its weights to build it again."""

    spec: NetworkSpec  # Of its kind.
    module: nn.Module  # The network itself.
    arguments: dict[str, Any]  # What ``spec.network`` took to build it, JSON values.
    normalisation: Normalisation  # Of its input.
    #: Further JSON values, as what the labels tell about objects.
    extra: dict[str, Any] = field(default_factory=dict)


def normalisation_of(spec: NetworkSpec, settings: NetworkSettings) -> Normalisation:
    """The normalisation of a network's input: as settings say, else the network's own."""
    own = spec.normalisation
    return Normalisation(settings.mean or own.mean, settings.std or own.std)


def arguments_of(spec: NetworkSpec, settings: TrainingSettings) -> dict[str, Any]:
    """What the network of a run's settings is built from."""
    return spec.arguments(settings.network, reconstructs=settings.losses.reconstruction > 0)


def tells_apart(settings: NetworkSettings) -> bool:
    """Whether a network is to tell objects apart, where its section of the settings says so."""
    return getattr(section_of(settings, settings.name), "objects", None) is True


def build_trained_network(spec: NetworkSpec, settings: TrainingSettings) -> TrainedNetwork:
    """Make a network with the weights it starts from; a CheckpointError if they do not fit."""
    arguments = arguments_of(spec, settings)
    # The generator is put back afterwards: a library leaves global state alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = spec.initialise(spec.network(**arguments), settings.network)
    return TrainedNetwork(spec, network, arguments, normalisation_of(spec, settings.network))


def intensity_of(weights: Path | None) -> str | None:
    """What images became for the network that a training starts from; None if no file tells."""
    if weights is None or weights.suffix != ".safetensors":
        return None
    # What is wrong with the file is told when its weights are read.
    with suppress(CheckpointError, KeyError, TypeError, ValueError, AttributeError):
        return checked_intensity(read_network_info(weights).extra["intensity"])
    return None


State = dict[str, Tensor]


def parts_of(network: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Prefixes of the parameters' names by part, of the networks whose class names its parts."""
    parts: Mapping[str, tuple[str, ...]] = getattr(type(network), "PARTS", {})
    return parts


def start_from_weights(
    network: nn.Module, settings: NetworkSettings, adapt: Callable[[State], State] | None = None
) -> nn.Module:
    """Copy ``network.weights``, if given, into a network: an earlier run's, or published ones.

    ``adapt`` turns weights that fit otherwise into those of this network. It is a CheckpointError
    if the file cannot be read or holds another network, or other widths.
    """
    if settings.weights is None:
        return network
    info, earlier = read_checkpoint(settings.weights, sees_query=settings.looks_at_query)
    wanted = network.state_dict()
    # A head for reconstruction need not be used, and one for objects need not be there.
    parts = parts_of(network)
    own = parts.get(outputs.OBJECTS, ())
    spare = (*parts.get(outputs.RECONSTRUCTION, ()), *own)
    state = {key: value for key, value in wanted.items() if own and key.startswith(own)}
    for key, value in earlier.items():
        fits = key in wanted and wanted[key].shape == value.shape
        if fits or not key.startswith(spare):
            state[key] = value
    with suppress(LookupError, RuntimeError, TypeError):  # told below
        state = state if adapt is None else adapt(state)
    if misfit(wanted, state):
        found, expected = f"holds the network {info.name}", f"weights of {settings.name}"
        remedy = "set network.weights to such a file"
        if info.name == settings.name:
            found += f" of other widths: {info.arguments}"
            expected, remedy = "the network of these settings", "set network to the same values"
        raise CheckpointError.at(settings.weights, found, expected, remedy)
    network.load_state_dict(state)
    return network


def dvos_arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    """Arguments of the compact network; ``reconstructs`` gives it a head for colours."""
    source = settings.encoder_weights
    path = efficientnet.imagenet_weights_path(settings.encoder)
    absent = settings.weights is None and path is None
    heads = {outputs.MASK: 1} | ({outputs.RECONSTRUCTION: 3} if reconstructs else {})
    if tells_apart(settings):
        # A frame alone shows no motion.
        told = outputs.ObjectChannels
        heads[outputs.OBJECTS] = len(told) if settings.references else int(told.MOTION_X)
    return {
        "references": settings.references,
        "sees_query": settings.looks_at_query,
        "encoder": settings.encoder,
        **settings.dvos.model_dump(mode="json", exclude={"preset", "objects"}),
        "heads": heads,
        # Random ones must follow the batches, or the encoder could not learn.
        "frozen_statistics": source != "none" and not (source == "imagenet" and absent),
    }


def initialise_dvos(network: nn.Module, settings: NetworkSettings) -> nn.Module:
    """Put in the weights of an earlier run, or those that its encoder starts from."""
    source, encoder = settings.encoder_weights, network.encoder
    if settings.weights is not None:
        start_from_weights(network, settings)
    elif isinstance(source, Path):
        efficientnet.load_encoder_weights(encoder, source)  # type: ignore[arg-type]
    elif source == "imagenet":
        efficientnet.load_imagenet_weights(encoder)  # type: ignore[arg-type]
    return network


def paper_arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    """Arguments of the published network; ``reconstructs`` as of the compact one."""
    return {
        "references": settings.references,
        "sees_query": settings.looks_at_query,
        **settings.paper.model_dump(mode="json", exclude={"preset"}),
        "reconstructs": reconstructs,
    }


def xmem_arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    """Arguments of XMem, which reconstructs nothing."""
    del reconstructs
    return settings.xmem.model_dump(exclude={"preset"})


def initialise_xmem(network: XMem, settings: NetworkSettings) -> nn.Module:
    """Put in what it starts from; one of single objects begins by not looking at others."""

    def with_others(state: State) -> State:
        stem = state.get(_STEM)
        if stem is None or stem.shape[1] != 4 or network.single_object:
            return state
        return {**state, _STEM: torch.cat((stem, torch.zeros_like(stem[:, :1])), 1)}

    if settings.weights is not None:
        return start_from_weights(network, settings, with_others)
    scratch = []
    for name, encoder in (("resnet50", network.key_encoder), ("resnet18", network.value_encoder)):
        path = getattr(settings.backbone_weights, name)
        if path is not None:
            load_backbone(encoder, path, name=name)
            continue
        quieten_residuals(encoder)
        scratch.append(name)
    if scratch:
        logging.getLogger(__name__).warning(
            "XMem starts from scratch (%s): good results take very long; give network.weights, "
            "or network.backbone_weights.%s",
            "random encoders" if len(scratch) == 2 else f"a random {scratch[0]}",
            " and ".join(scratch),
        )
    return network


def load_backbone(encoder: nn.Module, path: Path, *, name: str) -> None:
    """Fill an encoder from a state dict of a ResNet under its published (torchvision) names.

    What no ResNet has keeps its values; channels of the first convolution beyond the colours, which
    are masks, begin as orthogonal rows, as in the published training. It is a CheckpointError if
    the file cannot be read or does not fit.
    """
    names = {module: module for module in _USED} | (_KEY_NAMES if name == "resnet50" else {})
    own = encoder.state_dict()
    filled: dict[str, Tensor] = {}
    excess = []
    for key, tensor in read_state(path).items():
        module, _, rest = key.partition(".")
        if key.startswith(_UNUSED):
            continue
        mine = f"{names.get(module, module)}.{rest}"
        if mine not in own:
            excess.append(key)
            continue
        if tensor.ndim == own[mine].ndim == 4 and tensor.shape[1] == 3 < own[mine].shape[1]:
            masks = nn.init.orthogonal_(torch.empty_like(own[mine][:, 3:]))
            tensor = torch.cat((tensor, masks), 1)
        filled[mine] = tensor
    prefixes = tuple(f"{module}." for module in names.values())
    missing = [
        key
        for key in own
        if key.startswith(prefixes) and key not in filled and not key.endswith("batches_tracked")
    ]
    wrong = missing + excess + [k for k, x in filled.items() if x.shape != own[k].shape]
    if wrong:
        raise CheckpointError.at(
            path,
            f"is no {name}: {len(wrong)} weights do not fit, first {wrong[0]}",
            f"the state dict of {name} as torchvision publishes it",
            f"give network.backbone_weights.{name} another file",
        )
    encoder.load_state_dict(own | filled)


def quieten_residuals(encoder: nn.Module) -> None:
    """Let residual blocks begin as their shortcuts (Goyal et al. 2017, arXiv 1706.02677, 5.1)."""
    for module in encoder.modules():
        if isinstance(module, ResNetBlock):
            nn.init.zeros_(module.get_parameter(f"bn{module.depth}.weight"))
