"""The networks as they are trained: what each is built from, starts from, and is moved by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dvos.config.base import checked_intensity
from dvos.config.network import NetworkSettings, section_of
from dvos.config.training import OptimiserSettings, TrainingSettings
from dvos.errors import CheckpointError, ConfigError, FaultCollector
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
#: Of the learning rate, for an encoder that starts from pretrained weights.
_PRETRAINED_FACTOR = 0.3
#: Most that pictures are enlarged by, as of ``data.scale``.
LARGEST_SCALE = 8


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
    with suppress(TypeError, ValueError, AttributeError):
        return None if (told := _told(weights, "intensity")) is None else checked_intensity(told)
    return None


def scale_of(weights: Path | None) -> float | None:
    """The size, of their own, at which a network was shown pictures; None if no file tells."""
    told = _told(weights, "scale")
    return float(told) if type(told) in (int, float) and 0 < told <= LARGEST_SCALE else None


def scene_of(weights: Path | None) -> str | None:
    """The preset of scenes that a network was made for; None if no file tells."""
    return told if isinstance(told := _told(weights, "scene"), str) else None


def _told(weights: Path | None, name: str) -> Any:
    """What a file of weights says beside its network; None where it says nothing."""
    if weights is not None and weights.suffix == ".safetensors":
        with suppress(CheckpointError):  # told when its weights are read
            return read_network_info(weights).extra.get(name)
    return None


State = dict[str, Tensor]


def parts_of(network: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Prefixes of the parameters' names by part, of the networks whose class names its parts."""
    return cast("Mapping[str, tuple[str, ...]]", getattr(type(network), "PARTS", {}))


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
    source, path = settings.encoder_weights, efficientnet.imagenet_weights_path(settings.encoder)
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
        else:
            quieten_residuals(encoder)
            scratch.append(name)
    if scratch:
        encoders = "random encoders" if len(scratch) == 2 else f"a random {scratch[0]}"
        told = "XMem starts from scratch (%s): good results take very long; give network.weights,"
        told += " or network.backbone_weights.%s"
        logging.getLogger(__name__).warning(told, encoders, " and ".join(scratch))
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
        found = f"is no {name}: {len(wrong)} weights do not fit, first {wrong[0]}"
        wanted = f"the state dict of {name} as torchvision publishes it"
        remedy = f"give network.backbone_weights.{name} another file"
        raise CheckpointError.at(path, found, wanted, remedy)
    encoder.load_state_dict(own | filled)


def quieten_residuals(encoder: nn.Module) -> None:
    """Let residual blocks begin as their shortcuts (Goyal et al. 2017, arXiv 1706.02677, 5.1)."""
    for module in encoder.modules():
        if isinstance(module, ResNetBlock):
            nn.init.zeros_(module.get_parameter(f"bn{module.depth}.weight"))


def build_optimiser(
    trained: TrainedNetwork, settings: OptimiserSettings
) -> tuple[torch.optim.Optimizer, list[nn.Module]]:
    """AdamW over what is not frozen, and the modules that keep their statistics."""
    factor, freeze = settings.encoder_lr_factor, list(settings.freeze)
    if factor is None:
        # Statistics are frozen exactly where an encoder starts from pretrained weights.
        factor = _PRETRAINED_FACTOR if trained.arguments.get("frozen_statistics") else 1.0
    if factor == 0:
        freeze.append("encoder")
    frozen = freeze_parts(trained.module, freeze)
    return build_adamw(trained.module, settings, encoder=factor), frozen


def build_adamw(
    network: nn.Module, settings: OptimiserSettings, *, encoder: float = 1.0
) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101), with decay of kernels and matrices: norms and biases need none."""
    lr, slow = settings.lr, parts_of(network).get("encoder", ())
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        factor = encoder if name.startswith(slow) else 1.0
        if parameter.requires_grad:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    decay = settings.weight_decay
    options = [
        {"params": each, "lr": lr * k, "highest_lr": lr * k, "weight_decay": decay * decays}
        for (k, decays), each in groups.items()
    ]
    # The rate is kept as the optimiser's default, too: those of the groups are told from it.
    return torch.optim.AdamW(options, lr=lr, betas=settings.betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its highest."""
    for group in optimiser.param_groups:
        group["lr"] = group["highest_lr"] * factor


def check_moments(optimiser: torch.optim.Optimizer) -> None:
    """Raise ValueError if what an optimiser took up of a parameter has another shape than it."""
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if name != "step" and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise ValueError(f"{name} of another shape")


def freeze_parts(network: nn.Module, parts: Iterable[str]) -> list[nn.Module]:
    """Freeze parts by ``PARTS``; gives their modules with statistics, for evaluation mode."""
    parameters = dict(network.named_parameters())
    known = {
        part: prefixes
        for part, prefixes in parts_of(network).items()
        if any(name.startswith(prefixes) for name in parameters)
    }
    there_if = "a reconstruction is there only where losses.reconstruction is above 0"
    chosen = dict.fromkeys(parts)
    with FaultCollector(ConfigError) as faults:
        for part in (part for part in chosen if part not in known):
            found = f"{part} is no part of this network"
            remedy = there_if if part == "reconstruction" else ""
            faults.add("optimiser.freeze", found, "some of " + ", ".join(known), remedy)
    prefixes = tuple(prefix for part in chosen for prefix in known[part])
    for name, parameter in parameters.items():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        found, remedy = "leaves nothing to train", "leave a part out of it"
        raise ConfigError.at("optimiser.freeze", found, remedy=remedy)
    return [
        module
        for name, module in network.named_modules()
        if f"{name}.".startswith(prefixes) and hasattr(module, "running_mean")
    ]


def leave_without_gradient(network: nn.Module, parts: Iterable[str]) -> None:
    """Ask for no gradient of parts, where they are there: processes wait for those asked for."""
    prefixes = tuple(prefix for part in parts for prefix in parts_of(network).get(part, ()))
    for name, parameter in network.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)


class WeightAverage:
    """Exponential running average of a network's floating-point state; the rest is copied.

    Of the old average ``decay`` is kept at each step, of the n-th at most (1 + n) / (10 + n), so
    that the random start is forgotten at once. ``start`` are weights that training started from, by
    the network's keys, and the share of them in what is applied (Wortsman et al., CVPR 2022, arXiv
    2109.01903); none of what they lack.
    """

    def __init__(
        self, network: nn.Module, decay: float, start: tuple[Mapping[str, Tensor], float] = ({}, 0)
    ) -> None:
        self.decay = decay
        self._start, self._share = start
        self.updates = 0
        self.weights = {key: value.clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network as it is after a step."""
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = network.state_dict()
        floats = [key for key, value in state.items() if value.is_floating_point()]
        for key in state.keys() - floats:
            self.weights[key].copy_(state[key])
        averages, values = ([x[key] for key in floats] for x in (self.weights, state))
        torch._foreach_lerp_(averages, values, 1 - kept)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Give the network the average for the time of a block."""
        own = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        for key, value in network.state_dict().items() if self._share else ():
            kept = self._start.get(key)
            if kept is not None and kept.shape == value.shape and value.is_floating_point():
                value.lerp_(kept.to(value), self._share)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """All a resumed run needs."""
        return {"updates": self.updates, "state": self.weights}

    def load_state_dict(self, stored: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        if misfit(self.weights, stored["state"]):
            raise ValueError("the average of other weights")
        self.updates = int(stored["updates"])
        for key, value in stored["state"].items():
            self.weights[key].copy_(value)
