"""``dvos train``: from settings to a finished run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from dvos.config.base import plain_values
from dvos.config.show import settings_yaml
from dvos.config.training import ScheduleSettings, TrainingSettings
from dvos.files import make_folder
from dvos.networks.spec import NetworkSpec
from dvos.training.checkpoint import read_state
from dvos.training.data import build_training_clips, build_validation_clips
from dvos.training.datasets import TrainingClips
from dvos.training.devices import build_fabric, cpu_threads, loader_workers
from dvos.training.facts import data_digests, hardware, versions
from dvos.training.freezing import freeze_parts, prefixes_of
from dvos.training.loop import Training
from dvos.training.network import TrainedNetwork, build_trained_network, normalisation_of
from dvos.training.object_size import build_object_sizes
from dvos.training.optimiser import build_adamw
from dvos.training.outcome import TrainResult, result_of
from dvos.training.processes import cpu_processes
from dvos.training.ranks import Rank, Ranks
from dvos.training.run_folder import RunFolder
from dvos.training.schedule import TrainingPlan, warm_up_cosine, warm_up_steps
from dvos.training.trackers import check_trackers, open_trackers

__all__ = ["build_clips", "build_training", "take_part", "train"]

_LOGGER = logging.getLogger(__name__)

#: Of the learning rate, for an encoder that starts from pretrained weights.
_PRETRAINED_FACTOR = 0.3


def train(settings: TrainingSettings, spec: NetworkSpec) -> TrainResult:
    """Train a network, or go on with a run that was stopped.

    A finished run of the same settings and data is left as it is.

    Args:
        settings: Of the run.
        spec: Of the network that ``settings.network`` names.

    Raises:
        DvosError: With a fault for each thing wrong with settings, data,
            weights or the earlier run in the folder; RunError too if the loss
            is no number or the memory does not suffice.
    """
    check_trackers(settings.trackers)
    folder = RunFolder(make_folder(settings.out))
    config = settings_yaml(TrainingSettings, settings)
    digests: dict[str, str] = {}
    for part in (settings.data, settings.network, settings.losses):
        digests |= data_digests(part)
    state = folder.earlier(config, digests) if settings.resume else None
    if state is not None and folder.read_facts().get("status") == "finished":
        _LOGGER.info("%s is finished already", folder.path)
        return result_of(folder, already_finished=True)
    count = _processes(settings, spec, folder.read_facts() if state is not None else {})
    if count == 1:
        return _train(settings, spec, folder, digests, state, rank=None)
    threads = cpu_threads(settings.threads, processes=count)
    with Ranks((settings, spec, state is not None), count=count, threads=threads) as rank:
        return _train(settings, spec, folder, digests, state, rank=rank)


def take_part(settings: TrainingSettings, spec: NetworkSpec, rank: Rank, *, goes_on: bool) -> None:
    """Train as a further process of a run that another one started and writes.

    Args:
        settings: As the first process has them.
        spec: Likewise.
        rank: Which of the processes this is.
        goes_on: Whether the run goes on with the state in its folder.
    """
    folder = RunFolder(settings.out)
    state = read_state(folder.state) if goes_on else None
    _train(settings, spec, folder, {}, state, rank=rank)


def _train(
    settings: TrainingSettings,
    spec: NetworkSpec,
    folder: RunFolder,
    digests: dict[str, str],
    state: dict[str, Any] | None,
    *,
    rank: Rank | None,
) -> TrainResult:
    threads = torch.get_num_threads()
    try:
        fabric = build_fabric(
            device=settings.device,
            devices=settings.devices or 1,
            nodes=settings.nodes,
            precision=settings.precision,
            threads=settings.threads,
            rank=rank,
        )
        run = build_training(settings, spec, folder, fabric, digests, rank=rank)
        # Every process has looked for an earlier state before the first clears it.
        fabric.barrier()
        if state is not None:
            run.restore(state)
        elif fabric.is_global_zero:
            folder.begin(settings_yaml(TrainingSettings, settings))
        if fabric.is_global_zero:
            run.trackers = open_trackers(
                settings.trackers,
                folder,
                config=settings_yaml(TrainingSettings, settings),
                settings=plain_values(settings),
                epochs=len(run.progress.records),
            )
        return run.run()
    finally:
        torch.set_num_threads(threads)


def build_training(
    settings: TrainingSettings,
    spec: NetworkSpec,
    folder: RunFolder,
    fabric: Any,
    digests: dict[str, str],
    *,
    rank: Rank | None = None,
) -> Training:
    """Data, network and all else of a run that has not begun."""
    plan = _plan(settings)
    target, norm = spec.target(settings), normalisation_of(spec, settings.network)
    training = build_training_clips(settings, target, norm)
    validation = build_validation_clips(settings, target, norm)
    objective = spec.objective(settings, norm)
    trained = build_trained_network(
        spec, settings.network, reconstructs=_reconstructs(settings), seed=settings.seed
    )
    network = trained.module
    chosen = settings.optimiser
    factor = _encoder_factor(settings, trained)
    frozen = freeze_parts(network, [*chosen.freeze, *(["encoder"] if factor == 0 else [])])
    optimiser = build_adamw(
        network,
        lr=chosen.lr,
        weight_decay=chosen.weight_decay,
        betas=chosen.betas,
        rates=dict.fromkeys(prefixes_of(network, "encoder"), factor),
    )
    if rank is not None:
        # Only now: while the other processes still start, faults are told at once.
        rank.connect(fabric)
    return Training(
        trained,
        optimiser,
        fabric=fabric,
        training=training,
        validation=validation,
        folder=folder,
        plan=plan,
        objective=objective,
        rate=_rate(settings.schedule, plan.steps),
        ema_decay=settings.ema_decay,
        clip_norm=chosen.clip_norm,
        workers=loader_workers(settings.workers, fabric.device, devices=settings.devices or 1),
        patience=settings.patience,
        save_steps=settings.save_steps,
        pictures=settings.pictures,
        keep_epochs=settings.keep_epochs,
        seed=settings.seed,
        facts={
            "seed": settings.seed,
            "versions": versions(),
            "hardware": hardware(fabric.device, devices=fabric.world_size),
            "network": {"name": spec.name, "parameters": _size(network)},
            "data": digests,
        },
        frozen=frozen,
        objects=build_object_sizes(settings.data, seed=settings.seed),
    )


def build_clips(settings: TrainingSettings, spec: NetworkSpec) -> TrainingClips:
    """The endless training clips of a run.

    Raises:
        DvosError: One fault for each file, table or setting that is wrong.
    """
    norm = normalisation_of(spec, settings.network)
    return build_training_clips(settings, spec.target(settings), norm)


def _processes(settings: TrainingSettings, spec: NetworkSpec, facts: dict[str, Any]) -> int:
    arguments = spec.arguments(settings.network, reconstructs=_reconstructs(settings))
    return cpu_processes(
        os.environ,
        device=settings.device,
        devices=settings.devices,
        nodes=settings.nodes,
        threads=settings.threads,
        # Each process has batch statistics of its own share, where they are learnt.
        gains=spec.splits and arguments.get("frozen_statistics", True),
        plan=_plan(settings),
        hardware=facts.get("hardware", {}),
    )


def _reconstructs(settings: TrainingSettings) -> bool:
    return settings.losses.reconstruction > 0


def _plan(settings: TrainingSettings) -> TrainingPlan:
    return TrainingPlan(
        settings.epochs, settings.clips_per_epoch, settings.batch, settings.accumulate
    )


def _rate(settings: ScheduleSettings, steps: int) -> Callable[[int], float]:
    if settings.shape == "steps":
        chosen = settings.model_dump(include={"warm_up", "drops", "drop"})
        return partial(warm_up_steps, steps=steps, **chosen)
    return partial(warm_up_cosine, steps=steps, warm_up=settings.warm_up, final=settings.final)


def _encoder_factor(settings: TrainingSettings, trained: TrainedNetwork) -> float:
    if settings.optimiser.encoder_lr_factor is not None:
        return settings.optimiser.encoder_lr_factor
    # Statistics are frozen exactly where an encoder starts from pretrained weights.
    pretrained = trained.arguments.get("frozen_statistics", False)
    return _PRETRAINED_FACTOR if pretrained else 1.0


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
