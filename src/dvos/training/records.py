"""The record of each epoch: records.csv and its plot, losses.png."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from dvos.files import atomic_path, write_text

__all__ = ["COLUMNS", "Record", "draw_losses", "write_records"]

#: Columns of records.csv; a value that was not measured is left empty.
COLUMNS = (
    "epoch",
    "train_loss",
    "train_bce",
    "train_soft_dice",
    "train_reconstruction",
    "val_loss",
    "val_bce",
    "val_soft_dice",
    "val_reconstruction",
    "dice",
    "iou",
    "lr",
    "seconds",
)

#: One epoch; NaN where there is no value.
Record = dict[str, float]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write one row an epoch, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerow([_cell(record.get(column, math.nan)) for column in COLUMNS])
    write_text(path, text.getvalue())


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def draw_losses(path: Path, records: Sequence[Record]) -> None:
    """Plot losses and scores over the epochs into an image file, atomically."""
    # Without pyplot: it keeps global state and chooses a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in records]
    for axes, columns in (
        (losses, ("train_loss", "val_loss", "train_bce", "train_soft_dice")),
        (scores, ("dice", "iou")),
    ):
        for column in columns:
            values = [record.get(column, math.nan) for record in records]
            if not all(math.isnan(value) for value in values):
                axes.plot(epochs, values, marker=".", label=column.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    losses.set_title("loss")
    scores.set_title("validation, pooled over pixels")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
