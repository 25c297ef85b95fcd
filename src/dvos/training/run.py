"""``dvos train``: from settings to a finished run folder."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import nn

from dvos.config.network import NetworkSettings
from dvos.config.show import settings_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError
from dvos.files import make_folder
from dvos.networks.dvos.network import MASK, RECONSTRUCTION
from dvos.networks.dvos.pretrained import IMAGENET_NORMALISATION, load_imagenet_weights
from dvos.networks.weights import build_network, load_network
from dvos.training.data import build_training_data, build_validation_data
from dvos.training.devices import build_fabric, loader_workers
from dvos.training.facts import data_digests, hardware, versions
from dvos.training.loop import Training
from dvos.training.losses import ClipLoss
from dvos.training.optimiser import build_adamw
from dvos.training.outcome import NetworkDescription, TrainResult, result_of
from dvos.training.run_folder import RunFolder
from dvos.training.schedule import TrainingPlan, warm_up_cosine

__all__ = ["build_description", "build_trained_network", "train"]

_LOGGER = logging.getLogger(__name__)


def train(settings: TrainingSettings) -> TrainResult:
    """Train a network, or go on with a run that was stopped.

    A finished run of the same settings and data is left as it is.

    Raises:
        DvosError: With a fault for each thing wrong with settings, data,
            weights or the earlier run in the folder; RunError too if the loss
            is no number or the memory does not suffice.
    """
    folder = RunFolder(make_folder(settings.out))
    config = settings_yaml(TrainingSettings, settings)
    digests = data_digests(settings.data) | data_digests(settings.network)
    state = folder.earlier(config, digests) if settings.resume else None
    if state is not None and folder.read_facts().get("status") == "finished":
        _LOGGER.info("%s is finished already", folder.path)
        return result_of(folder, already_finished=True)
    fabric = build_fabric(
        device=settings.device,
        devices=settings.devices,
        nodes=settings.nodes,
        precision=settings.precision,
        threads=settings.threads,
    )
    run = build_training(settings, folder, fabric, digests)
    # Every process has looked for an earlier state before the first clears it.
    fabric.barrier()
    if state is not None:
        run.restore(state)
    elif fabric.is_global_zero:
        folder.begin(config)
    return run.run()


def build_training(
    settings: TrainingSettings, folder: RunFolder, fabric: Any, digests: dict[str, str]
) -> Training:
    """Data, network and all else of a run that has not begun."""
    description = build_description(
        settings.network, reconstructs=settings.losses.reconstruction > 0
    )
    references = settings.network.references
    seed, norm = settings.seed, description.normalisation
    training = build_training_data(settings.data, references=references, seed=seed, **norm)
    validation = build_validation_data(settings.data, references=references, seed=seed, **norm)
    network, description = build_trained_network(settings.network, description, seed=settings.seed)
    chosen = settings.optimiser
    optimiser = build_adamw(
        network,
        lr=chosen.lr,
        weight_decay=chosen.weight_decay,
        betas=chosen.betas,
        rates={"encoder.": chosen.encoder_lr_factor},
    )
    plan = TrainingPlan(
        settings.epochs, settings.clips_per_epoch, settings.batch, settings.accumulate
    )
    return Training(
        network,
        optimiser,
        fabric=fabric,
        training=training,
        validation=validation,
        folder=folder,
        description=description,
        plan=plan,
        loss=ClipLoss(**settings.losses.model_dump()),
        rate=partial(warm_up_cosine, steps=plan.steps, **settings.schedule.model_dump()),
        ema_decay=settings.ema_decay,
        clip_norm=chosen.clip_norm,
        workers=loader_workers(settings.workers, fabric.device, devices=settings.devices),
        patience=settings.patience,
        save_steps=settings.save_steps,
        pictures=settings.pictures,
        seed=settings.seed,
        facts={
            "seed": settings.seed,
            "versions": versions(),
            "hardware": hardware(fabric.device, devices=fabric.world_size),
            "network": {"name": description.name, "parameters": _size(network)},
            "data": digests,
        },
    )


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


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
