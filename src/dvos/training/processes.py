"""How many processes a run on a CPU has, where the settings leave it open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed

from dvos.runner import worker_count
from dvos.training.facts import memory_gib
from dvos.training.schedule import TrainingPlan

__all__ = ["by_slurm", "cpu_processes", "processes_of"]

#: More would each have a clip of a usual batch, and spend their time on sums.
_MOST = 4

#: GiB of the machine's memory for each: network, optimiser, average and the
#: process that makes its clips take 1.2 by default, decoded stills up to 1 more.
_MEMORY = 3.0

#: A shorter run ends sooner in one process: further ones take seconds to start.
_FEW_CLIPS = 500


def by_slurm(environment: Mapping[str, str]) -> bool:
    """Whether SLURM started this process as one of its tasks.

    Within an interactive job (by name, as lightning-fabric has it) SLURM's
    variables are of the shell and say nothing.
    """
    return "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in (
        "bash",
        "interactive",
    )


def cpu_processes(
    environment: Mapping[str, str],
    *,
    device: str,
    devices: int,
    nodes: int,
    threads: int,
    gains: bool,
    plan: TrainingPlan,
    hardware: Mapping[str, Any],
) -> int:
    """Processes that this one makes a run on the CPU with, itself included.

    Args:
        environment: Variables of this process.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: Asked for; 0 for as many as serve best.
        nodes: Asked for.
        threads: Asked for; 0 for none.
        gains: Whether the network learns the same in several processes, faster.
        plan: Of the run.
        hardware: What an unfinished run ran on, from run.json; else empty.

    Returns:
        1 too where others start the processes, and on other devices.
    """
    others = "TORCHELASTIC_RUN_ID" in environment or by_slurm(environment)
    if others or nodes > 1 or not _on_cpu(device) or distributed.is_initialized():
        return 1
    # Who says how many threads there are to be has parted the cores already.
    if devices or threads or "OMP_NUM_THREADS" in environment or not gains:
        return devices or 1
    return processes_of(
        cores=worker_count(0),
        memory=memory_gib() or math.inf,
        batch=plan.batch,
        accumulate=plan.accumulate,
        clips=plan.clips,
        earlier=hardware["devices"] if hardware.get("device") == "cpu" else 0,
    )


def _on_cpu(device: str) -> bool:
    found = torch.cuda.is_available() or torch.backends.mps.is_available()
    return device == "cpu" or (device == "auto" and not found)


def processes_of(
    *, cores: int, memory: float, batch: int, accumulate: int, clips: int, earlier: int = 0
) -> int:
    """Processes that a CPU with so many cores serves a run best with.

    A network of this size gains little from further threads, and much from
    further processes of one thread each.

    Args:
        cores: That the processes share.
        memory: Of the machine, GiB.
        batch: Clips of a step, which the processes share alike.
        accumulate: Parts they are run in.
        clips: Of the whole run.
        earlier: With which an unfinished run was begun, as the same number goes
            on with the same bits; 0 for none.
    """
    most = min(cores, _MOST, int(memory / _MEMORY))
    fits = [count for count in range(1, most + 1) if batch % (accumulate * count) == 0]
    if earlier in fits:
        return earlier
    return 1 if clips < _FEW_CLIPS else max(fits, default=1)
