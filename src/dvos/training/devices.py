"""Where training runs: devices, precision, threads, processes, and the plan that suits them.

Under ``torchrun`` or SLURM the processes of a run are there already; lightning-fabric starts one
for each GPU, by the command line again; on a CPU they are those of :mod:`dvos.training.launch`.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed

from dvos.config.load import load_settings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, FaultCollector, RunError
from dvos.networks.devices import best_device, is_out_of_memory
from dvos.networks.spec import NetworkSpec
from dvos.runner.tasks import worker_count
from dvos.training.launch import Rank, leave_group
from dvos.training.records import TrainingPlan, memory_gib
from dvos.training.run_folder import RunFolder
from dvos.training.workers import FEW_CLIPS

#: More processes would each have a clip of a usual batch, and spend their time on sums.
_MOST = 4
#: GiB of the machine's memory for each: it and its clips' take 1.2, decoded stills up to 1 more.
_MEMORY = 3.0
#: Of a GPU, which takes a batch of the defaults in the time of a few launches and learns more from
#: larger ones: clips of a step and their side, by the GiB of memory that it has at least.
_PLANS = ((24.0, 32, 256), (12.0, 16, 256), (6.0, 16, 160))
#: Clips of an epoch; 15 epochs of them are 20,000.
_CLIPS_PER_EPOCH = 1344


def settle_plan(settings: TrainingSettings, spec: NetworkSpec) -> TrainingSettings:
    """The settings with ``batch``, ``data.crop`` and ``clips_per_epoch`` chosen for the device.

    Only what was not given is chosen, of networks that say so, and on CUDA devices; a line tells
    what. A run that goes on keeps the plan it began with, whatever the device now.
    """
    given, data = settings.model_fields_set, settings.data
    free = {"batch", "clips_per_epoch"} - given
    if "data" not in given or "crop" not in data.model_fields_set:
        free |= {"crop"}
    if not spec.scales_up or not free:
        return settings
    earlier = earlier_settings(settings)
    chosen, own = _plan(settings) if earlier is None else _values(earlier), _values(settings)
    changed = {name: chosen[name] for name in free if chosen[name] != own[name]}
    if not changed:
        return settings
    if earlier is None:
        told = ", ".join(f"{name} {value}" for name, value in sorted(changed.items()))
        message = "chosen for this GPU: %s; give them to train otherwise"
        logging.getLogger(__name__).info(message, told)
    crop = changed.pop("crop", data.crop)
    update: dict[str, Any] = {**changed, "data": data.model_copy(update={"crop": crop})}
    return settings.model_copy(update=update)


def _values(settings: TrainingSettings) -> dict[str, int]:
    own = {name: getattr(settings, name) for name in ("batch", "clips_per_epoch")}
    return {**own, "crop": settings.data.crop}


def earlier_settings(settings: TrainingSettings) -> TrainingSettings | None:
    """Settings of the run in the folder that this one goes on with, if any."""
    folder = RunFolder(settings.out)
    if not settings.resume or not folder.config.is_file():
        return None
    try:
        return load_settings(TrainingSettings, config=folder.config)
    except ConfigError:
        return None  # told of when the run is looked for


def _plan(settings: TrainingSettings) -> dict[str, int]:
    """What suits the device: on a CPU the settings' own values."""
    if settings.device in ("auto", "cuda") and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        devices = (settings.devices or 1) * settings.nodes
        if _by_torchrun():
            devices = int(os.environ["WORLD_SIZE"])
        for least, batch, crop in _PLANS:
            if memory >= least:
                # Of all devices together, in equal shares and parts.
                shares = settings.accumulate * devices
                whole = max(1, batch // shares) * shares
                return {"batch": whole, "clips_per_epoch": _CLIPS_PER_EPOCH, "crop": crop}
    return _values(settings)


def build_fabric(settings: TrainingSettings, rank: Rank | None = None) -> Any:
    """The ``lightning_fabric.Fabric`` of a run, launched unless a rank among a launcher's is given.

    Under ``torchrun`` its own number of devices counts; under SLURM that of the settings must be
    that of tasks per node. A RunError if it is not, or there is no such device.
    """
    from lightning_fabric import Fabric

    device, devices, nodes = _device(settings), settings.devices or 1, settings.nodes
    place: dict[str, Any] = {}
    if rank is not None:
        device, devices, nodes = "cpu", rank.count, 1
        place = rank.place()
    elif _by_torchrun():
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
        found = f"{devices} x {device} cannot be used ({' '.join(str(error).split())})"
        raise RunError.at("device", found, remedy="set device=auto") from error
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


def _device(settings: TrainingSettings) -> str:
    return best_device().type if settings.device == "auto" else settings.device


def cpu_threads(threads: int, *, processes: int) -> int:
    """Threads of each process, asked for or its share of the cores; 0 for OMP_NUM_THREADS."""
    if threads or "OMP_NUM_THREADS" in os.environ:
        return threads
    return max(1, worker_count(0) // processes)


def loader_workers(settings: TrainingSettings, device: torch.device) -> int:
    """Processes that make clips for a device: as set, one beside a CPU's own work, or its share."""
    if settings.workers:
        return settings.workers
    return 1 if device.type == "cpu" else max(1, worker_count(0) // (settings.devices or 1))


def cpu_processes(
    settings: TrainingSettings, *, gains: bool, hardware: Mapping[str, Any] | None = None
) -> int:
    """Processes that this one makes a run on the CPU with, itself included; 1 on other devices.

    Where settings leave it open, as many as serve the run best: a network of this size gains
    little from further threads, and much from further processes of one thread each. ``gains`` says
    whether it does; of what an unfinished run ran on, ``hardware`` of run.json, the number is kept,
    which goes on with the same bits.
    """
    if has_other_processes(settings) or distributed.is_initialized() or _device(settings) != "cpu":
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
    return 1 if TrainingPlan.of(settings).clips < FEW_CLIPS else max(fits, default=1)


def has_other_processes(settings: TrainingSettings) -> bool:
    """Whether others start the processes of the run, of which this is one."""
    several = settings.nodes > 1 or (_device(settings) != "cpu" and settings.devices > 1)
    return several or _by_torchrun() or _by_slurm()


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _by_slurm() -> bool:
    """Whether SLURM, outside an interactive job as Fabric has it, began this process as a task."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and not interactive


def _check_slurm(*, devices: int, nodes: int) -> None:
    """Compare settings with SLURM's tasks, before processes wait for each other."""
    tasks = int(os.environ["SLURM_NTASKS"])
    slurm_nodes = int(os.environ.get("SLURM_NNODES", nodes))
    per_node = os.environ.get("SLURM_NTASKS_PER_NODE")
    named = (
        ("devices", devices, int(per_node or tasks // slurm_nodes), "tasks per node"),
        ("nodes", nodes, slurm_nodes, "nodes"),
    )
    with FaultCollector(RunError) as faults:
        if per_node is None and tasks > 1:
            remedy = f"give sbatch --ntasks-per-node={max(1, tasks // slurm_nodes)}, not --ntasks"
            faults.add("SLURM_NTASKS_PER_NODE", "is not set", "", remedy)
        for name, value, wanted, what in named:
            if value != wanted:
                remedy = f"set {name}={wanted}, or change the job; start it with srun"
                faults.add(name, f"is {value}", f"{wanted}, as SLURM has {wanted} {what}", remedy)


def explained(error: Exception, plan: TrainingPlan) -> Exception:
    """The error of a full memory, of a process that it killed, or of a single value, in words.

    Any other as it is.
    """
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
    if "more than 1 value per channel" in text:
        found = "leaves normalisation a single value of a channel, of which it learns no spread"
        remedy = "raise batch or data.crop, or lower accumulate"
        return RunError.at("batch", found, remedy=remedy)
    if is_out_of_memory(error):
        found = f"{plan.batch} clips in {plan.accumulate} parts do not fit into memory"
        remedy = "raise accumulate, or lower batch or data.crop, and start again"
        return RunError.at("batch", found, remedy=remedy)
    return error
