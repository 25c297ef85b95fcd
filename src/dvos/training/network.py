"""The network that a run trains: built by its spec, with the weights it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dvos.config.network import NetworkSettings
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError
from dvos.networks.spec import RECONSTRUCTION, NetworkSpec, Normalisation
from dvos.networks.weights import read_checkpoint


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in training, and what is stored beside its weights to build it again.

    Attributes:
        spec: Of its kind.
        module: The network itself.
        arguments: What ``spec.network`` took to build it, JSON values.
        normalisation: Of its input.
        extra: Further JSON values, as what the labels tell about objects.
    """

    spec: NetworkSpec
    module: nn.Module
    arguments: dict[str, Any]
    normalisation: Normalisation
    extra: dict[str, Any] = field(default_factory=dict)


def normalisation_of(spec: NetworkSpec, settings: NetworkSettings) -> Normalisation:
    """The normalisation of a network's input: as settings say, else the network's own."""
    own = spec.normalisation
    return Normalisation(settings.mean or own.mean, settings.std or own.std)


def arguments_of(spec: NetworkSpec, settings: TrainingSettings) -> dict[str, Any]:
    """What the network of a run's settings is built from."""
    return spec.arguments(settings.network, reconstructs=settings.losses.reconstruction > 0)


def build_trained_network(spec: NetworkSpec, settings: TrainingSettings) -> TrainedNetwork:
    """Make a network with the weights it starts from.

    Args:
        spec: Of the network.
        settings: Its widths, where its weights come from, and the seed of those that are random.

    Raises:
        CheckpointError: If weights to start from are damaged or do not fit.
    """
    arguments = arguments_of(spec, settings)
    # The generator is put back afterwards: a library leaves global state alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = spec.initialise(spec.network(**arguments), settings.network)
    return TrainedNetwork(spec, network, arguments, normalisation_of(spec, settings.network))


def start_from_weights(network: nn.Module, settings: NetworkSettings) -> nn.Module:
    """Copy ``network.weights``, if given, into a network: an earlier run's, or published ones.

    Raises:
        CheckpointError: If the file cannot be read or holds a network of other widths.
    """
    if settings.weights is None:
        return network
    info, earlier = read_checkpoint(settings.weights, sees_query=settings.looks_at_query)
    wanted = network.state_dict()
    # A run without reconstruction starts from weights that have that head, too.
    parts: dict[str, tuple[str, ...]] = getattr(type(network), "PARTS", {})
    spare = parts.get(RECONSTRUCTION, ())
    state = {
        key: value for key, value in earlier.items() if key in wanted or not key.startswith(spare)
    }
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError.at(
            settings.weights,
            f"holds the network {info.name} of other widths: {info.arguments}",
            "the network of these settings",
            "set network to the same values",
        ) from error
    return network
