"""Where training runs: devices, precision and threads."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from typing import Any

import torch

from dvos.errors import Fault, RunError
from dvos.runner import worker_count
from dvos.training.processes import by_slurm
from dvos.training.ranks import Rank

__all__ = ["build_fabric", "cpu_threads", "loader_workers"]


def build_fabric(
    *,
    device: str,
    devices: int,
    nodes: int,
    precision: str,
    threads: int,
    rank: Rank | None = None,
) -> Any:
    """Find the devices of a run and connect its processes.

    Under ``torchrun`` or SLURM the processes are there already; else Fabric
    starts one for each device of this node by the command line again. With
    ``rank`` they are those of :mod:`dvos.training.ranks`, still to be connected.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: Per node; under ``torchrun`` its own number counts, under SLURM
            it must be that of tasks per node.
        nodes: Number of them; likewise.
        precision: ``auto``, ``32-true`` or ``bf16-mixed``.
        threads: Of the CPU, per process; 0 for OMP_NUM_THREADS or the cores.
        rank: Which of the processes on one machine's CPU this is.

    Returns:
        The ``lightning_fabric.Fabric``, launched unless a rank is given.

    Raises:
        RunError: If there is no such device, or SLURM started another number of
            tasks than there are devices.
    """
    from lightning_fabric import Fabric

    place: dict[str, Any] = {}
    if rank is not None:
        from dvos.training.one_machine import Connected, OneMachine

        device, devices, nodes = "cpu", rank.count, 1
        place = {"strategy": Connected(), "plugins": [OneMachine(rank.number, rank.count)]}
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    else:
        _check_slurm(os.environ, devices=devices, nodes=nodes)
    threads = cpu_threads(threads, processes=devices)
    if threads:
        torch.set_num_threads(threads)
    if precision == "auto":
        halves = device in ("auto", "cuda") and torch.cuda.is_available()
        precision = "bf16-mixed" if halves and torch.cuda.is_bf16_supported() else "32-true"
    try:
        fabric = Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            precision=precision,
            **place,
        )
    except Exception as error:
        # Fabric words an absent accelerator in several unrelated types.
        reason = " ".join(str(error).split())
        raise RunError.at(
            "device", f"{devices} x {device} cannot be used ({reason})", remedy="set device=auto"
        ) from error
    if rank is not None:
        return fabric
    fabric.launch()
    if fabric.world_size > 1:
        # Gloo's threads abort a process that ends while they still run.
        atexit.register(_leave_group)
    return fabric


def cpu_threads(threads: int, *, processes: int) -> int:
    """Threads of each process: those asked for, or its share of the cores.

    0 stands for OMP_NUM_THREADS, which torch itself goes by.
    """
    if threads or "OMP_NUM_THREADS" in os.environ:
        return threads
    return max(1, worker_count(0) // processes)


def _check_slurm(environment: Mapping[str, str], *, devices: int, nodes: int) -> None:
    """Compare settings with SLURM's tasks, before processes wait for each other."""
    if not by_slurm(environment):
        return
    tasks = int(environment["SLURM_NTASKS"])
    told_nodes = int(environment.get("SLURM_NNODES", nodes))
    per_node = environment.get("SLURM_NTASKS_PER_NODE")
    faults = []
    if per_node is None and tasks > 1:
        remedy = f"give sbatch --ntasks-per-node={max(1, tasks // told_nodes)}, not --ntasks"
        faults.append(Fault("SLURM_NTASKS_PER_NODE", "is not set", "", remedy))
    for name, value, told in (
        ("devices", devices, int(per_node or tasks // told_nodes)),
        ("nodes", nodes, told_nodes),
    ):
        if value != told:
            what = "tasks per node" if name == "devices" else "nodes"
            remedy = f"set {name}={told}, or change the job; start it with srun"
            faults.append(Fault(name, f"is {value}", f"{told}, as SLURM has {told} {what}", remedy))
    if faults:
        raise RunError(faults)


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def loader_workers(workers: int, device: torch.device, *, devices: int) -> int:
    """Processes that make clips for one device: ``workers``, or by the device for 0.

    A CPU is busy with the network itself and gets one; a GPU gets its share of
    the cores.
    """
    if workers:
        return workers
    return 1 if device.type == "cpu" else max(1, worker_count(0) // devices)
