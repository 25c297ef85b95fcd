"""Where training runs: devices, precision and threads."""

from __future__ import annotations

import os
from typing import Any

import torch

from dvos.errors import RunError
from dvos.runner import worker_count

__all__ = ["build_fabric", "loader_workers"]


def build_fabric(*, device: str, devices: int, nodes: int, precision: str, threads: int) -> Any:
    """Start the processes of a run and find its devices.

    Under ``torchrun`` or SLURM the processes are there already; else one is
    started for each device of this node.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: Per node; under ``torchrun`` its own number counts.
        nodes: Number of them; likewise.
        precision: ``auto``, ``32-true`` or ``bf16-mixed``.
        threads: Of the CPU, per process; 0 for OMP_NUM_THREADS or the cores.

    Returns:
        The launched ``lightning_fabric.Fabric``.

    Raises:
        RunError: If there is no such device.
    """
    from lightning_fabric import Fabric

    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if not threads and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, worker_count(0) // devices)
    if threads:
        torch.set_num_threads(threads)
    if precision == "auto":
        halves = device in ("auto", "cuda") and torch.cuda.is_available()
        precision = "bf16-mixed" if halves and torch.cuda.is_bf16_supported() else "32-true"
    try:
        fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, precision=precision)
    except Exception as error:
        # Fabric words an absent accelerator in several unrelated types.
        reason = " ".join(str(error).split())
        raise RunError.at(
            "device", f"{devices} x {device} cannot be used ({reason})", remedy="set device=auto"
        ) from error
    fabric.launch()
    return fabric


def loader_workers(workers: int, device: torch.device, *, devices: int) -> int:
    """Processes that make clips for one device: ``workers``, or by the device for 0.

    A CPU is busy with the network itself and gets one; a GPU gets its share of
    the cores.
    """
    if workers:
        return workers
    return 1 if device.type == "cpu" else max(1, worker_count(0) // devices)
