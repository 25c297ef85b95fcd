"""The record of each epoch: records.csv and its plot, losses.png."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from dvos.files import atomic_path, write_text

__all__ = ["Record", "columns_of", "draw_losses", "write_records"]

#: One epoch; NaN where there is no value.
Record = dict[str, float]


def columns_of(losses: Sequence[str]) -> list[str]:
    """Columns of records.csv for a run with these losses: the total, then each part."""
    return [
        "epoch",
        *(f"train_{name}" for name in losses),
        *(f"val_{name}" for name in losses),
        "dice",
        "iou",
        "lr",
        "seconds",
    ]


def write_records(path: Path, records: Sequence[Record], losses: Sequence[str]) -> None:
    """Write one row an epoch, atomically; a value that was not measured is left empty."""
    columns = columns_of(losses)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([_cell(record.get(column, math.nan)) for column in columns])
    write_text(path, text.getvalue())


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def draw_losses(path: Path, records: Sequence[Record], losses: Sequence[str]) -> None:
    """Plot losses and scores over the epochs into an image file, atomically.

    Args:
        path: Image file.
        records: One an epoch.
        losses: The total and the parts; of the latter the training's are drawn.
    """
    # Without pyplot: it keeps global state and chooses a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in records]
    for axes, columns in (
        (left, ("train_loss", "val_loss", *(f"train_{name}" for name in losses[1:]))),
        (right, ("dice", "iou")),
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
    left.set_title("loss")
    right.set_title("validation, pooled over pixels")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
