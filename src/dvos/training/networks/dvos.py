"""The compact network in training: its arguments by the settings, and its first weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dvos.config.network import NetworkSettings
from dvos.networks.dvos.efficientnet import (
    imagenet_weights_path,
    load_encoder_weights,
    load_imagenet_weights,
)
from dvos.networks.spec import MASK, RECONSTRUCTION
from dvos.training.network import start_from_weights


def arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    """Arguments of :class:`~dvos.networks.dvos.network.DvosNetwork`.

    The encoder's batch-norm statistics are frozen where it starts from trained ones; random ones
    must follow the batches, or it could not learn.

    Args:
        settings: Of the network.
        reconstructs: Whether it has a head for the query's colours.
    """
    source, shape = settings.encoder_weights, settings.dvos
    random = source == "none" or (
        source == "imagenet"
        and settings.weights is None
        and imagenet_weights_path(settings.encoder) is None
    )
    return {
        "references": settings.references,
        "sees_query": settings.looks_at_query,
        "encoder": settings.encoder,
        "fusion": shape.fusion,
        "channels": list(shape.channels),
        "widths": list(shape.widths),
        "fused": list(shape.fused),
        "heads": {MASK: 1} | ({RECONSTRUCTION: 3} if reconstructs else {}),
        "frozen_statistics": not random,
        "reference_gradient": shape.reference_gradient,
    }


def initialise(network: nn.Module, settings: NetworkSettings) -> nn.Module:
    """Put in the weights of an earlier run, or those that its encoder starts from.

    Raises:
        CheckpointError: If the weights named cannot be read or do not fit.
    """
    source, encoder = settings.encoder_weights, network.encoder
    if settings.weights is not None:
        start_from_weights(network, settings)
    elif isinstance(source, Path):
        load_encoder_weights(encoder, source)  # type: ignore[arg-type]
    elif source == "imagenet":
        load_imagenet_weights(encoder)  # type: ignore[arg-type]
    return network
