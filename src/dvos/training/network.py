"""Which network a run trains: how it is built, and the weights it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dvos.config.network import NetworkSettings
from dvos.errors import CheckpointError
from dvos.networks.dvos.pretrained import (
    IMAGENET_NORMALISATION,
    load_encoder_weights,
    load_imagenet_weights,
)
from dvos.networks.outputs import MASK, RECONSTRUCTION
from dvos.networks.paper.network import PUBLISHED_NORMALISATION
from dvos.networks.weights import build_network, load_network
from dvos.networks.xmem.network import XMEM_NORMALISATION
from dvos.training.outcome import NetworkDescription
from dvos.training.xmem.build import build_clip_xmem

__all__ = ["build_description", "build_trained_network"]


def build_description(settings: NetworkSettings, *, reconstructs: bool) -> NetworkDescription:
    """How the network of these settings is built, with random weights."""
    if settings.name == "paper":
        arguments = _paper_arguments(settings, reconstructs=reconstructs)
        mean, std = PUBLISHED_NORMALISATION["mean"], PUBLISHED_NORMALISATION["std"]
    elif settings.name == "xmem":
        arguments = settings.xmem.model_dump()
        mean, std = XMEM_NORMALISATION["mean"], XMEM_NORMALISATION["std"]
    else:
        arguments = _dvos_arguments(settings, reconstructs=reconstructs)
        mean, std = list(IMAGENET_NORMALISATION["mean"]), list(IMAGENET_NORMALISATION["std"])
    normalisation = {"mean": list(settings.mean or mean), "std": list(settings.std or std)}
    return NetworkDescription(settings.name, arguments, normalisation)


def _dvos_arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    return {
        "references": settings.references,
        "sees_query": settings.looks_at_query,
        "encoder": settings.encoder,
        "fusion": settings.fusion,
        "channels": list(settings.channels),
        "widths": list(settings.widths),
        "fused": list(settings.fused),
        "heads": {MASK: 1} | ({RECONSTRUCTION: 3} if reconstructs else {}),
        "frozen_statistics": settings.encoder_weights != "none",
        "reference_gradient": settings.reference_gradient,
    }


def _paper_arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    return {
        "references": settings.references,
        "sees_query": settings.looks_at_query,
        **settings.paper.model_dump(mode="json"),
        "reconstructs": reconstructs,
    }


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
        if settings.name == "xmem":
            return build_clip_xmem(settings, description), description
        network = build_network(description.name, **description.arguments)
    if settings.weights is not None:
        _start_from(settings, network)
        return network, description
    if description.name == "dvos" and isinstance(settings.encoder_weights, Path):
        load_encoder_weights(network.encoder, settings.encoder_weights)  # type: ignore[arg-type]
    elif description.name == "dvos" and settings.encoder_weights == "imagenet":
        return _with_imagenet_encoder(network, description)
    return network, description


def _with_imagenet_encoder(
    network: nn.Module, description: NetworkDescription
) -> tuple[nn.Module, NetworkDescription]:
    if not load_imagenet_weights(network.encoder):  # type: ignore[arg-type]
        # Random statistics must not be frozen: the encoder could not learn.
        network.encoder.set_frozen(False)  # type: ignore[union-attr,operator]
        arguments = {**description.arguments, "frozen_statistics": False}
        description = NetworkDescription(description.name, arguments, description.normalisation)
    return network, description


def _start_from(settings: NetworkSettings, network: nn.Module) -> None:
    """Copy the weights of an earlier run or a published checkpoint into ``network``."""
    assert settings.weights is not None
    earlier, info = load_network(settings.weights, sees_query=settings.looks_at_query)
    wanted = network.state_dict()
    # A run without reconstruction starts from weights that have that head, too.
    spare: tuple[str, ...] = type(network).PARTS[RECONSTRUCTION]  # type: ignore[attr-defined]
    state = {
        key: value
        for key, value in earlier.state_dict().items()
        if key in wanted or not key.startswith(spare)
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
