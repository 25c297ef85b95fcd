"""Which network a run trains: how it is built, and the weights it starts from."""

from __future__ import annotations

import torch
from torch import nn

from dvos.config.network import NetworkSettings
from dvos.errors import CheckpointError
from dvos.networks.dvos.network import MASK, RECONSTRUCTION
from dvos.networks.dvos.pretrained import IMAGENET_NORMALISATION, load_imagenet_weights
from dvos.networks.weights import build_network, load_network
from dvos.training.outcome import NetworkDescription

__all__ = ["build_description", "build_trained_network"]


def build_description(settings: NetworkSettings, *, reconstructs: bool) -> NetworkDescription:
    """How the network of these settings is built, with random weights."""
    heads = {MASK: 1} | ({RECONSTRUCTION: 3} if reconstructs else {})
    default = IMAGENET_NORMALISATION
    return NetworkDescription(
        settings.name,
        {
            "references": settings.references,
            "channels": list(settings.channels),
            "widths": list(settings.widths),
            "fused": list(settings.fused),
            "heads": heads,
            "frozen_statistics": settings.encoder_weights == "imagenet",
            "reference_gradient": settings.reference_gradient,
        },
        {
            "mean": list(settings.mean or default["mean"]),
            "std": list(settings.std or default["std"]),
        },
    )


def build_trained_network(
    settings: NetworkSettings, description: NetworkDescription, *, seed: int
) -> tuple[nn.Module, NetworkDescription]:
    """Make a network with the weights it starts from.

    Args:
        settings: Name the weights.
        description: How to build it.
        seed: Of the random weights.

    Returns:
        The network, and the description that fits the weights it got.

    Raises:
        CheckpointError: If weights to start from are damaged or do not fit.
    """
    # The generator is put back afterwards: a library leaves global state alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(description.name, **description.arguments)
    if settings.weights is not None:
        return _started_from(settings, network, description)
    if settings.encoder_weights == "imagenet" and not load_imagenet_weights(network.encoder):  # type: ignore[arg-type]
        # Random statistics must not be frozen: the encoder could not learn.
        network.encoder.set_frozen(False)  # type: ignore[union-attr,operator]
        arguments = {**description.arguments, "frozen_statistics": False}
        description = NetworkDescription(description.name, arguments, description.normalisation)
    return network, description


def _started_from(
    settings: NetworkSettings, network: nn.Module, description: NetworkDescription
) -> tuple[nn.Module, NetworkDescription]:
    assert settings.weights is not None
    earlier, info = load_network(settings.weights)
    try:
        network.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise CheckpointError.at(
            settings.weights,
            f"holds the network {info.name} of other widths: {info.arguments}",
            "the network of these settings",
            "set network to the same values",
        ) from error
    return network, description
