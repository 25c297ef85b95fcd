"""How a run ended: its result, its errors in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from dvos.errors import RunError
from dvos.training.run_folder import RunFolder

__all__ = ["TrainResult", "explained", "result_of"]


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run_folder: Holds everything the run wrote.
        best: The weights with the highest validation Dice.
        epochs: Epochs trained.
        best_epoch: The epoch of ``best``, from 1.
        dice: Its pooled validation Dice; NaN without validation clips.
        iou: Likewise.
        seconds: Of training and validation, over all starts.
        clips_per_second: Training clips by training time.
        already_finished: Whether there was nothing left to do.
    """

    run_folder: Path
    best: Path
    epochs: int
    best_epoch: int
    dice: float
    iou: float
    seconds: float
    clips_per_second: float
    already_finished: bool

    def __str__(self) -> str:
        text = f"{self.epochs} epochs at {self.clips_per_second:.1f} clips/s"
        if not math.isnan(self.dice):
            text += f", validation Dice {self.dice:.4f} in epoch {self.best_epoch}"
        return f"{text} ({self.best})"


def result_of(folder: RunFolder, *, already_finished: bool) -> TrainResult:
    """What run.json says about a finished run."""
    facts = folder.read_facts()
    best = facts["best"]
    return TrainResult(
        run_folder=folder.path,
        best=folder.best,
        epochs=facts["epochs"],
        best_epoch=best["epoch"],
        dice=math.nan if best["dice"] is None else best["dice"],
        iou=math.nan if best["iou"] is None else best["iou"],
        seconds=sum(facts["seconds"].values()),
        clips_per_second=facts["clips_per_second"],
        already_finished=already_finished,
    )


def explained(error: Exception, *, batch: int, accumulate: int) -> Exception:
    """The error of a full memory in words; any other error as it is.

    Args:
        error: What a step raised.
        batch: Clips of a step.
        accumulate: Parts they are run in.
    """
    text = str(error).lower()
    if "dataloader worker" in text:
        return RunError.at(
            "workers",
            "a process that makes clips was killed",
            remedy="it may have run out of memory: lower workers, batch or data.crop",
        )
    full = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    if full or "out of memory" in text or "can't allocate memory" in text:
        return RunError.at(
            "batch",
            f"{batch} clips in {accumulate} parts do not fit into memory",
            remedy="raise accumulate, or lower batch or data.crop, and start again",
        )
    return error
