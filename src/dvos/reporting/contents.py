"""What a run left behind, as plain data."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dvos.reporting.numbers import difference, interval, plural, score, significant

#: What a section shows, by the names its template knows; None where there is nothing to show.
Shown: TypeAlias = dict[str, Any] | None

#: The numbers of a table by column, all of one length; NaN where a cell is empty.
Columns = dict[str, list[float]]


def column(columns: Columns, name: str) -> list[float]:
    """A column, all NaN where the table lacks it."""
    rows = len(next(iter(columns.values()), []))
    return columns.get(name) or [math.nan] * rows


def known(columns: Columns, name: str) -> list[float]:
    """The values of a column that are there."""
    return [value for value in columns.get(name, []) if math.isfinite(value)]


def time_axis(clips: Sequence[Columns]) -> tuple[list[list[float]], str]:
    """Places of the frames of clips on a common axis, and its name: time if all is known."""
    timed = all(len(known(rows, "time_s")) == len(rows["frame_index"]) for rows in clips)
    name = "time_s" if timed else "frame_index"
    return [rows[name] for rows in clips], "time, s" if timed else "frame"


def as_mapping(value: object) -> dict[str, Any]:
    """An object of a JSON file; empty for anything else."""
    return value if isinstance(value, dict) else {}


def as_number(value: object) -> float | None:
    """A finite number of a JSON file; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A whole number may be larger than any real one.
    return float(value) if abs(value) < 1e308 else None


def flat_items(values: dict[Any, Any], separator: str = ".") -> Iterator[tuple[str, object]]:
    """Keys, joined by a separator, and values of mappings in mappings; empty ones are values."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            inner = flat_items(value, separator)
            yield from ((f"{key}{separator}{name}", entry) for name, entry in inner)
        else:
            yield str(key), value


class Stage(NamedTuple):
    """One step of a run."""

    name: str
    seconds: float | None  # Wall time over all starts; None if it was not noted.
    note: str  # What it made and whether it was interrupted, one line.


class History(NamedTuple):
    """``stages.json``: what was run, when and how; texts are empty where not noted."""

    stages: tuple[Stage, ...] = ()
    started: str = ""
    finished: str = ""
    command: str = ""
    seed: int | None = None


class Interval(NamedTuple):
    """An interval of a figure."""

    low: float  # Lower end.
    high: float  # Upper end.
    level: float | None  # Confidence level, as 0.95; None where it was not noted.
    unit: str  # What was drawn again to get it (``clip``, ``image``); may be empty.
    units: int | None  # How many of them there were; None where it was not noted.

    def words(self, middle: str = "") -> str:
        """What it rests on, ``95 % over 6 images``, with something after the level."""
        level = f"{100 * self.level:.3g} %" if self.level else ""
        over = f"over {plural(self.units, self.unit)}" if self.unit and self.units else ""
        return " ".join(filter(None, (level, middle, over))) or "not told what of"

    @property
    def note(self) -> str:
        """In words: ``95 % interval 0.84 to 0.88 over 6 images``."""
        return self.words(f"interval {interval(self.low, self.high)}")


@dataclass(frozen=True)
class Figures:
    """Figures of some masks: their values and intervals by name."""

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores(Figures):
    """``scores.json``; all empty where there is none."""

    clips: dict[str, dict[str, float]] = field(default_factory=dict)  # Of each, the lowest first.
    counts: dict[str, float] = field(default_factory=dict)  # Of object counts against the truth.
    instances: dict[str, float] = field(default_factory=dict)  # Figures of single objects, by name.
    domains: dict[str, Figures] = field(default_factory=dict)  # Of each, the lowest first.
    domain_mean: Figures | None = None  # Their mean over domains; None without domains.
    void: str = "auto"  # The setting by which true masks were read.


class VideoPlace(NamedTuple):
    """A frame inside a video file; ``frame_index`` counts from 0."""

    video: Path
    frame_index: int


class ScoredMask(NamedTuple):
    """A row of ``scores.csv``; None: the frame is not known, no prediction was there."""

    image: Path | VideoPlace | None
    mask: Path
    prediction: Path | None
    iou: float | None
    dice: float | None

    @property
    def predicted(self) -> bool:
        """Whether the prediction is there."""
        return self.prediction is not None and os.path.isfile(self.prediction)  # noqa: PTH113


class ClipFrame(NamedTuple):
    """A frame of a synthetic clip."""

    fid: int
    image: Path
    mask: Path | None


class OutputFile(NamedTuple):
    """A result worth knowing of; ``size`` is in bytes, None for a folder."""

    path: Path
    purpose: str
    size: int | None


class Total(NamedTuple):
    """A row of ``totals.csv``; numbers are by their columns, None where a cell is empty."""

    clip: str
    region: str
    numbers: dict[str, float | None]


class Measure(NamedTuple):
    """One figure of ``scores.json`` as a reader meets it."""

    key: str
    name: str  # As a heading has it.
    meaning: str  # What it says, one line.
    lower: bool = False  # Whether less is better.

    def text(self, value: float | None) -> str:
        """The value in digits: scores with three decimals, errors of counts with three digits."""
        return significant(value) if self.lower else score(value)

    def ends(self, found: Interval) -> str:
        """Both ends of an interval of it, in digits."""
        return f"{self.text(found.low)} to {self.text(found.high)}"

    def step(self, value: float) -> str:
        """A difference of two values, with its sign."""
        sign = "+" if value > 0 else ""
        return f"{sign}{significant(value)}" if self.lower else difference(value)


_STABILITY = "agreement with the mask before, moved as the frame moved"
_STEADINESS = "steadiness of the masks against that of the truth"

#: Every figure, in the order of the page.
MEASURES = (
    Measure("pooled_dice", "Dice, pooled", "all pixels of all masks together"),
    Measure("mean_dice", "Dice, mean", "of the single masks"),
    Measure("pooled_iou", "IoU, pooled", "intersection over union, all pixels"),
    Measure("mean_iou", "IoU, mean", "of the single masks"),
    Measure("precision", "Precision", "share of the predicted area that is true"),
    Measure("recall", "Recall", "share of the true area that is found"),
    Measure("boundary_f", "Boundary F", "how well outlines agree"),
    Measure("region_j", "Region J", "mean IoU of the masks, without smoothing"),
    Measure("j_and_f", "J and F", "mean of region J and boundary F"),
    Measure("temporal_stability", "Temporal stability", _STABILITY),
    Measure("relative_stability", "Relative stability", _STEADINESS),
    Measure("average_precision", "Average precision", "single objects, IoU from 0.5 to 0.95"),
    Measure("average_precision_50", "Average precision 50", "single objects, IoU 0.5"),
    Measure("instance_f1", "Objects, F1", "single objects found, IoU 0.5"),
    Measure("count_mae", "Count error", "objects a frame, mean absolute error", lower=True),
)

#: Curves of ``records.csv`` that runs are compared by.
CURVES = {
    "Validation Dice": "dice",
    "Validation loss": "val_loss",
    "Training loss": "train_loss",
    "Learning rate": "lr",
}

Found: TypeAlias = tuple[float, Interval | None]


def known_figures(figures: Figures) -> dict[Measure, Found]:
    """Value and interval of the figures that are there, in the order of :data:`MEASURES`."""
    values, intervals = figures.values, figures.intervals
    return {one: (values[one.key], intervals.get(one.key)) for one in MEASURES if one.key in values}
