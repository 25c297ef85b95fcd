"""Curves of all runs in one plot: learning, and counts over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dvos.reporting.comparison.runs import Run
from dvos.reporting.contents import CountRow
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.learning import curve_column
from dvos.reporting.markup import Html, element, join, paragraph
from dvos.reporting.section import Section, plots

__all__ = ["counts_section", "curves_section"]

#: Clips with a plot of their own.
_PLOTTED = 4

_CURVES = (
    ("Validation Dice", "dice"),
    ("Validation loss", "validation_loss"),
    ("Training loss", "train_loss"),
    ("Learning rate", "rate"),
)


def curves_section(runs: Sequence[Run]) -> Section:
    """Learning curves, a line for each run."""
    drawn = [_curve(runs, title, kind) for title, kind in _CURVES]
    return Section(
        "curves",
        "Learning curves",
        "Epoch by epoch, a line for each run. Dice compares where the validation clips are the"
        " same, a loss only where it is put together in the same way.",
        plots(*drawn) if any(drawn) else None,
        "no run has a records.csv with epochs",
    )


def _curve(runs: Sequence[Run], title: str, kind: str) -> tuple[str, Html] | None:
    series = []
    for index, run in enumerate(runs):
        records = run.contents.records
        name = curve_column(records, kind)
        if name and any(map(math.isfinite, records[name])):
            # The same style in every plot, also where a run has no such curve.
            series.append(Series(run.label, records["epoch"], records[name], style=f"s{index}"))
    if not series:
        return None
    return title, line_plot(series, title=title, x_label="epoch", whole_x=True)


def counts_section(runs: Sequence[Run]) -> Section:
    """Counts of the clips that several runs have, a line for each run."""
    clips = [clip for clip in runs[0].contents.counts if _courses(runs, clip)]
    parts: list[Html] = []
    for clip in clips[:_PLOTTED]:
        if len(clips) > 1:
            parts.append(element("h3", clip))
        parts.append(_counts(runs, clip))
    if len(clips) > _PLOTTED:
        parts.append(paragraph(f"Plots are shown of the first {_PLOTTED} of {len(clips)} clips."))
    return Section(
        "counts",
        "Counts over time",
        "Objects in each frame as each run counts them, evened out over time with the interval"
        " where the run has it.",
        join(parts) if parts else None,
        f"no clip in the counts.csv of run {runs[0].letter} is in that of another",
    )


def _courses(runs: Sequence[Run], clip: str) -> list[tuple[int, Run, list[CountRow]]]:
    found = [
        (index, run, rows)
        for index, run in enumerate(runs)
        if len(rows := run.contents.counts.get(clip, [])) > 1
        and any(row.count is not None for row in rows)
    ]
    return found if len(found) > 1 else []


def _counts(runs: Sequence[Run], clip: str) -> Html:
    courses = _courses(runs, clip)
    timed = all(row.time_s is not None for _, _, rows in courses for row in rows)
    series = [_line(run, rows, timed=timed, style=f"s{index}") for index, run, rows in courses]
    title = f"Count, {clip}"
    label = "time, s" if timed else "frame"
    return plots((title, line_plot(series, title=title, x_label=label, y_limits=(0.0, None))))


def _line(run: Run, rows: Sequence[CountRow], *, timed: bool, style: str) -> Series:
    across = [float(row.time_s or 0.0) if timed else float(row.frame_index) for row in rows]
    smooth = any(row.smooth is not None for row in rows)
    values = _numbers([row.smooth if smooth else row.count for row in rows])
    low, high = _numbers([row.low for row in rows]), _numbers([row.high for row in rows])
    if not smooth:
        return Series(run.label, across, values, style=style)
    return Series(run.label, across, values, low, high, style=style)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
