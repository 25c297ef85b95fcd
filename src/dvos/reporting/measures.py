"""The figures of ``scores.json`` as a reader meets them: name, meaning, which way is better."""

from __future__ import annotations

from dataclasses import dataclass

from dvos.reporting.contents import Figures, Interval
from dvos.reporting.numbers import interval, score, significant

__all__ = ["MEASURES", "Measure", "interval_basis", "interval_note", "known"]


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        keys: Its keys in ``scores.json``, of this version first.
        name: As a heading has it.
        meaning: What it says, one line.
        headline: Whether it stands at the top of the page.
        lower: Whether less is better.
    """

    keys: tuple[str, ...]
    name: str
    meaning: str
    headline: bool = True
    lower: bool = False

    def text(self, value: float | None) -> str:
        """The value in digits: scores with three decimals, errors of counts with three digits."""
        return significant(value) if self.lower else score(value)


MEASURES = (
    Measure(("pooled_dice",), "Dice, pooled", "all pixels of all masks together"),
    Measure(("mean_dice",), "Dice, mean", "of the single masks"),
    Measure(("pooled_iou",), "IoU, pooled", "intersection over union, all pixels"),
    Measure(("mean_iou",), "IoU, mean", "of the single masks"),
    Measure(
        ("precision", "pooled_precision"), "Precision", "share of the predicted area that is true"
    ),
    Measure(("recall", "pooled_recall"), "Recall", "share of the true area that is found"),
    Measure(("boundary_f",), "Boundary F", "how well outlines agree"),
    Measure(("region_j",), "Region J", "mean IoU of the masks, without smoothing", headline=False),
    Measure(("j_and_f",), "J and F", "mean of region J and boundary F", headline=False),
    Measure(
        ("temporal_stability",),
        "Temporal stability",
        "agreement with the mask before, moved as the frame moved",
    ),
    Measure(
        ("relative_stability",),
        "Relative stability",
        "steadiness of the masks against that of the truth",
        headline=False,
    ),
    Measure(("average_precision",), "Average precision", "single objects, IoU from 0.5 to 0.95"),
    Measure(
        ("average_precision_50",), "Average precision 50", "single objects, IoU 0.5", headline=False
    ),
    Measure(("instance_f1",), "Objects, F1", "single objects found, IoU 0.5"),
    Measure(("count_mae",), "Count error", "objects a frame, mean absolute error", lower=True),
)


def known(figures: Figures) -> list[tuple[Measure, float, Interval | None]]:
    """The figures that are there, in the order of :data:`MEASURES`, with their intervals."""
    found = []
    for measure in MEASURES:
        key = next((key for key in measure.keys if key in figures.values), None)
        if key is not None:
            found.append((measure, figures.values[key], figures.intervals.get(key)))
    return found


def interval_note(found: Interval) -> str:
    """An interval in words: ``95 % interval 0.84 to 0.88 over 6 images``."""
    level, over = _level(found), _over(found)
    parts = (level, "interval", interval(found.low, found.high), over)
    return " ".join(filter(None, parts))


def interval_basis(found: Interval) -> str:
    """What an interval rests on: ``95 % over 6 images``."""
    return " ".join(filter(None, (_level(found), _over(found)))) or "not told what of"


def _level(found: Interval) -> str:
    return f"{100 * found.level:.3g} %" if found.level else ""


def _over(found: Interval) -> str:
    if not (found.unit and found.units):
        return ""
    return f"over {found.units} {found.unit}{'' if found.units == 1 else 's'}"
