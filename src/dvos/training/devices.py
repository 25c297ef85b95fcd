"""Where training runs: devices, precision, threads, and how many processes a CPU gets.

Under ``torchrun`` or SLURM the processes of a run are there already; on GPUs lightning-fabric
starts one for each device, by the command line again; on a CPU they are those of
:mod:`dvos.training.launch`.
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed

from dvos.config.training import TrainingSettings
from dvos.errors import FaultCollector, RunError
from dvos.networks.best_device import best_device
from dvos.runner import worker_count
from dvos.training.launch import Rank, leave_group
from dvos.training.records import memory_gib
from dvos.training.schedule import TrainingPlan

#: More processes would each have a clip of a usual batch, and spend their time on sums.
_MOST = 4
#: GiB of the machine's memory for each: network, optimiser, average and the
#: process that makes its clips take 1.2 by default, decoded stills up to 1 more.
_MEMORY = 3.0
#: A shorter run ends sooner in one process: further ones take seconds to start.
_FEW_CLIPS = 500


def build_fabric(settings: TrainingSettings, rank: Rank | None = None) -> Any:
    """Find the devices of a run and connect its processes.

    Args:
        settings: Name the device, how many of them, precision and threads. Under ``torchrun`` its
            own number of devices counts; under SLURM it must be that of tasks per node.
        rank: Place of this process among those of a launcher, still to be connected.

    Returns:
        The ``lightning_fabric.Fabric``, launched unless a rank is given.

    Raises:
        RunError: If there is no such device, or SLURM started another number of
            tasks than there are devices.
    """
    from lightning_fabric import Fabric

    device = best_device().type if settings.device == "auto" else settings.device
    devices, nodes = settings.devices or 1, settings.nodes
    place: dict[str, Any] = {}
    if rank is not None:
        device, devices, nodes = "cpu", rank.count, 1
        place = rank.place()
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif _by_slurm():
        _check_slurm(devices=devices, nodes=nodes)
    threads = cpu_threads(settings.threads, processes=devices)
    if threads:
        torch.set_num_threads(threads)
    precision = settings.precision
    if precision == "auto":
        halves = device == "cuda" and torch.cuda.is_available()
        precision = "bf16-mixed" if halves and torch.cuda.is_bf16_supported() else "32-true"
    try:
        fabric = Fabric(
            accelerator=device, devices=devices, num_nodes=nodes, precision=precision, **place
        )
    except Exception as error:
        # Fabric words an absent accelerator in several unrelated types.
        reason = " ".join(str(error).split())
        raise RunError.at(
            "device", f"{devices} x {device} cannot be used ({reason})", remedy="set device=auto"
        ) from error
    if settings.deterministic and fabric.device.type == "cuda":
        # Looked at when cuBLAS is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if rank is not None:
        return fabric
    fabric.launch()
    if fabric.world_size > 1:
        # Gloo's threads abort a process that ends while they still run.
        atexit.register(leave_group)
    return fabric


def cpu_threads(threads: int, *, processes: int) -> int:
    """Threads of each process: those asked for, or its share of the cores.

    0 stands for OMP_NUM_THREADS, which torch itself goes by.
    """
    if threads or "OMP_NUM_THREADS" in os.environ:
        return threads
    return max(1, worker_count(0) // processes)


def loader_workers(settings: TrainingSettings, device: torch.device) -> int:
    """Processes that make clips for one device: ``workers``, or by the device for 0.

    A CPU is busy with the network itself and gets one; a GPU gets its share of
    the cores.
    """
    if settings.workers:
        return settings.workers
    return 1 if device.type == "cpu" else max(1, worker_count(0) // (settings.devices or 1))


def cpu_processes(
    settings: TrainingSettings, *, gains: bool, hardware: Mapping[str, Any] | None = None
) -> int:
    """Processes that this one makes a run on the CPU with, itself included.

    Where settings leave it open, as many as serve the run best: a network of this size gains
    little from further threads, and much from further processes of one thread each.

    Args:
        settings: Of the run.
        gains: Whether the network learns the same in several processes, faster.
        hardware: What an unfinished run ran on, from run.json: the same number
            of processes goes on with the same bits.

    Returns:
        1 too where others start the processes, and on other devices.
    """
    others = "TORCHELASTIC_RUN_ID" in os.environ or _by_slurm()
    if others or settings.nodes > 1 or distributed.is_initialized():
        return 1
    device = best_device().type if settings.device == "auto" else settings.device
    if device != "cpu":
        return 1
    if "forkserver" not in multiprocessing.get_all_start_methods():
        # Windows, which passes no pipe on to processes that it starts.
        if settings.devices > 1:
            found = f"is {settings.devices}, and this system trains on a CPU in one process"
            raise RunError.at("devices", found, "1", "leave it at 0; threads use the cores")
        return 1
    # Who says how many threads there are to be has parted the cores already.
    if settings.devices or settings.threads or "OMP_NUM_THREADS" in os.environ or not gains:
        return settings.devices or 1
    most = min(worker_count(0), _MOST, int((memory_gib() or math.inf) / _MEMORY))
    parts = settings.accumulate
    fits = [count for count in range(1, most + 1) if settings.batch % (parts * count) == 0]
    earlier = hardware or {}
    if earlier.get("device") == "cpu" and earlier.get("devices") in fits:
        return int(earlier["devices"])
    return 1 if TrainingPlan.of(settings).clips < _FEW_CLIPS else max(fits, default=1)


def _by_slurm() -> bool:
    """Whether SLURM started this process as one of its tasks.

    Within an interactive job (by name, as lightning-fabric has it) SLURM's
    variables are of the shell and say nothing.
    """
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and not interactive


def _check_slurm(*, devices: int, nodes: int) -> None:
    """Compare settings with SLURM's tasks, before processes wait for each other."""
    tasks = int(os.environ["SLURM_NTASKS"])
    slurm_nodes = int(os.environ.get("SLURM_NNODES", nodes))
    per_node = os.environ.get("SLURM_NTASKS_PER_NODE")
    slurm_devices = int(per_node or tasks // slurm_nodes)
    with FaultCollector(RunError) as faults:
        if per_node is None and tasks > 1:
            remedy = f"give sbatch --ntasks-per-node={max(1, tasks // slurm_nodes)}, not --ntasks"
            faults.add("SLURM_NTASKS_PER_NODE", "is not set", "", remedy)
        for name, value, expected, what in (
            ("devices", devices, slurm_devices, "tasks per node"),
            ("nodes", nodes, slurm_nodes, "nodes"),
        ):
            if value != expected:
                remedy = f"set {name}={expected}, or change the job; start it with srun"
                reason = f"{expected}, as SLURM has {expected} {what}"
                faults.add(name, f"is {value}", reason, remedy)


def explained(error: Exception, plan: TrainingPlan) -> Exception:
    """The error of a full memory, or of a process that it killed, in words; any other as it is."""
    text = str(error).lower()
    lower = "lower workers, batch or data.crop"
    if "bus error" in text or "shared memory" in text or "</torch_" in text:
        found = "the machine's shared memory (/dev/shm) is too small for batches of clips"
        remedy = "give a container more of it (docker run --shm-size=2g, or --ipc=host), or "
        return RunError.at("workers", found, remedy=remedy + lower)
    # The connection breaks where a process is killed before it is at work.
    if "dataloader worker" in text or isinstance(error, (EOFError, ConnectionError)):
        remedy = f"it may have run out of memory: {lower}"
        if "exited unexpectedly" in text:
            remedy += "; a script that trains needs if __name__ == '__main__' around its call"
        return RunError.at("workers", "a process that makes clips was killed", remedy=remedy)
    full = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    if full or "out of memory" in text or "can't allocate memory" in text:
        return RunError.at(
            "batch",
            f"{plan.batch} clips in {plan.accumulate} parts do not fit into memory",
            remedy="raise accumulate, or lower batch or data.crop, and start again",
        )
    return error
