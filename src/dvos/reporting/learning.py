"""Section on how the training went: losses, validation scores, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dvos.reporting.contents import RunContents
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.markup import Html, join, paragraph
from dvos.reporting.numbers import count_text, duration, score
from dvos.reporting.section import Section, plots

__all__ = ["curve_column", "curves_section"]

_VALIDATION = ("validation_", "valid_", "val_")
_TRAINING = "train_"
_RATES = ("lr", "learning_rate")
_QUALITIES = ("dice", "iou", "pooled_dice", "pooled_iou")
#: Columns that are neither a loss nor a score.
_OTHER = ("epoch", "seconds", "time", "step", "steps", "clips")


def curves_section(contents: RunContents) -> Section:
    """Curves over the epochs, from records.csv."""
    records = {
        name: column
        for name, column in contents.records.items()
        if any(math.isfinite(value) for value in column)
    }
    body = None
    if "epoch" in records and len(records) > 1:
        drawn = plots(
            _plot(records, _totals(records), "Loss", _from_nought(records, _totals(records))),
            _plot(
                records,
                _parts(records),
                "Parts of the training loss",
                _from_nought(records, _parts(records)),
            ),
            _plot(records, _qualities(records), "Validation scores", (None, 1.0)),
            _plot(records, _rates(records), "Learning rate", (0.0, None)),
        )
        body = join(_summary(records), drawn)
    return Section(
        "curves",
        "Training curves",
        "How the loss fell and the scores on clips kept for validation rose, epoch by epoch.",
        body,
        "there is no records.csv with epochs",
    )


def curve_column(records: dict[str, list[float]], kind: str) -> str | None:
    """The column of ``records.csv`` that holds a curve.

    Args:
        records: The columns.
        kind: ``dice`` (of the validation), ``validation_loss``, ``train_loss`` or ``rate``.

    Returns:
        Its name, or None where there is none or where epochs are not numbered.
    """
    totals = dict(_totals(records))
    found = {
        "dice": next((name for label, name in _qualities(records) if "Dice" in label), None),
        "validation_loss": totals.get("validation"),
        "train_loss": totals.get("training"),
        "rate": next((name for _, name in _rates(records)), None),
    }
    return found[kind] if "epoch" in records else None


def _bare(name: str) -> str:
    for prefix in (*_VALIDATION, _TRAINING):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _is_validation(name: str) -> bool:
    return name.startswith(_VALIDATION)


def _totals(records: dict[str, list[float]]) -> list[tuple[str, str]]:
    names = [name for name in records if _bare(name) == "loss"]
    return [("validation" if _is_validation(name) else "training", name) for name in names]


def _parts(records: dict[str, list[float]]) -> list[tuple[str, str]]:
    known = {*_OTHER, *_RATES, "loss"}
    parts: list[tuple[str, str]] = []
    for name in records:
        bare = _bare(name)
        plain_score = bare in _QUALITIES and not name.startswith(_TRAINING)
        if bare in known or plain_score or _is_validation(name) or not _is_loss(name):
            continue
        parts.append((bare.removesuffix("_loss").removeprefix("loss_").replace("_", " "), name))
    return parts


def _is_loss(name: str) -> bool:
    return name.startswith(_TRAINING) or "loss" in name


def _qualities(records: dict[str, list[float]]) -> list[tuple[str, str]]:
    found = []
    for name in records:
        bare = _bare(name)
        if bare in _QUALITIES and not name.startswith(_TRAINING):
            found.append(
                (bare.replace("_", " ").replace("dice", "Dice").replace("iou", "IoU"), name)
            )
    return found


def _rates(records: dict[str, list[float]]) -> list[tuple[str, str]]:
    return [("learning rate", name) for name in records if name in _RATES]


def _plot(
    records: dict[str, list[float]],
    lines: Sequence[tuple[str, str]],
    title: str,
    limits: tuple[float | None, float | None] = (None, None),
) -> tuple[str, Html] | None:
    if not lines:
        return None
    epochs = records["epoch"]
    series = [Series(label, epochs, records[name]) for label, name in lines]
    drawn = line_plot(series, title=title, x_label="epoch", y_limits=limits, whole_x=True)
    return title, drawn


def _from_nought(
    records: dict[str, list[float]], lines: Sequence[tuple[str, str]]
) -> tuple[float | None, float | None]:
    values = [value for _, name in lines for value in records[name]]
    return (None if any(value < 0 for value in values) else 0.0, None)


def _summary(records: dict[str, list[float]]) -> Html:
    epochs = [value for value in records["epoch"] if math.isfinite(value)]
    text = f"{count_text(len(epochs))} epoch{'' if len(epochs) == 1 else 's'}"
    seconds = [value for value in records.get("seconds", []) if math.isfinite(value)]
    if seconds:
        text += f" in {duration(sum(seconds))}"
    dice = next((records[name] for label, name in _qualities(records) if "Dice" in label), [])
    pairs = zip(dice, records["epoch"], strict=False)
    reached = [(value, epoch) for value, epoch in pairs if math.isfinite(value + epoch)]
    if reached:
        best, epoch = max(reached, key=lambda pair: pair[0])
        text += f"; highest validation Dice {score(best)}, at epoch {count_text(epoch)}"
    return paragraph(text + ".")
