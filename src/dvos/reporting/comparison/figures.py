"""Scores of the runs side by side, and how far their differences can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from dvos.reporting.comparison.match import Matched, differing_truth
from dvos.reporting.comparison.paired import Paired, paired_difference
from dvos.reporting.comparison.runs import Run, columns
from dvos.reporting.contents import Interval
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.markup import Html, element, join, paragraph, table
from dvos.reporting.measures import MEASURES, Measure, interval_basis, known
from dvos.reporting.numbers import NOTHING, count_text, difference, significant
from dvos.reporting.section import Section, plots

__all__ = ["figures_section", "paired_section"]

Found = tuple[float, Interval | None]


def figures_section(runs: Sequence[Run]) -> Section:
    """Every figure of ``scores.json``, a column for each run."""
    found = [_by_measure(run) for run in runs]
    rows = [
        (measure.name, *_cells(measure, [one.get(measure.name) for one in found], runs[0]))
        for measure in MEASURES
        if any(measure.name in one for one in found)
    ]
    body = None
    if rows:
        shown = table(
            "Figures side by side, the best of each marked",
            ("Figure", *columns(runs)),
            rows,
            numeric=(),
        )
        body = join(_notes(runs), element("div", shown, cls="versus-table"))
    return Section(
        "figures",
        "Figures side by side",
        "Below each figure its interval, where the run has one, and the difference to run"
        f" {runs[0].letter}. More is better, but for errors. Runs scored on the same frames are"
        " best told apart frame by frame, in the next section.",
        body,
        "no run has scores.json",
    )


def _by_measure(run: Run) -> dict[str, Found]:
    scores = run.contents.scores
    if scores is None:
        return {}
    return {measure.name: (value, found) for measure, value, found in known(scores)}


def _cells(measure: Measure, found: Sequence[Found | None], first: Run) -> list[Html]:
    texts = {index: measure.text(one[0]) for index, one in enumerate(found) if one}
    order = sorted(texts, key=lambda k: _worth(measure, found[k]), reverse=True)
    # Equal to the last digit shown is equal: neither is marked.
    best = order[0] if len(order) > 1 and texts[order[0]] != texts[order[1]] else None
    cells = []
    for index, one in enumerate(found):
        if one is None:
            cells.append(element("span", NOTHING))
            continue
        value, spread = one
        mark = element("span", "best", cls="best") if index == best else None
        figure = element("strong" if mark else "span", texts[index], cls="figure")
        lines = [join(figure, " " if mark else None, mark)]
        if spread:
            ends = f"{measure.text(spread.low)} to {measure.text(spread.high)}"
            lines.append(element("span", ends, cls="under"))
        if index and found[0]:
            step = value - found[0][0]
            told = _signed(step) if measure.lower else difference(step)
            lines.append(element("span", f"{told} to {first.letter}", cls="under"))
        cells.append(join(*lines))
    return cells


def _worth(measure: Measure, one: Found | None) -> float:
    value = one[0] if one else 0.0
    return -value if measure.lower else value


def _signed(step: float) -> str:
    return significant(step) if step <= 0 else f"+{significant(step)}"


def _notes(runs: Sequence[Run]) -> Html | None:
    notes = [f"{run.letter} has no scores.json." for run in runs if run.contents.scores is None]
    drawn: dict[str, list[str]] = {}
    for run in runs:
        found = run.contents.scores and run.contents.scores.intervals.get("pooled_dice")
        if found:
            drawn.setdefault(interval_basis(found), []).append(run.letter)
    notes += [f"Intervals of {', '.join(letters)}: {text}." for text, letters in drawn.items()]
    return paragraph(" ".join(notes)) if notes else None


def paired_section(runs: Sequence[Run], matched: Sequence[Matched]) -> Section:
    """Dice of the frames that all runs were scored on, frame by frame."""
    scored = [one for one in matched if one.complete]
    body = None
    if scored:
        pairs = [paired_difference(scored, index) for index in range(1, len(runs))]
        body = join(
            _warning(scored),
            paragraph(_verdict(runs, pairs)),
            _paired_table(runs, pairs),
            _course(runs, scored),
        )
    return Section(
        "frame-by-frame",
        "Frame by frame",
        "Hard frames are hard for every run. Comparing the runs on each frame takes that away, so"
        " that smaller differences can be told from chance than by the intervals above.",
        body,
        "no frame with a Dice is in the scores.csv of every run",
    )


def _warning(scored: Sequence[Matched]) -> Html | None:
    unlike = differing_truth(scored)
    if not unlike:
        return None
    text = (
        f"The truth of {count_text(unlike)} of {count_text(len(scored))} frames is not the same in"
        " all runs: their scores do not compare."
    )
    return paragraph(element("strong", text), cls="warning")


def _verdict(runs: Sequence[Run], pairs: Sequence[Paired]) -> str:
    first = runs[0].letter
    sentences = []
    for run, pair in zip(runs[1:], pairs, strict=True):
        if pair.low is None or pair.high is None:
            sentences.append(f"One frame is too little to tell {run.letter} from {first}.")
        elif pair.low <= 0 <= pair.high:
            sentences.append(f"{run.letter} cannot be told from {first}: the interval holds 0.")
        else:
            side = "above" if pair.low > 0 else "below"
            sentences.append(f"The mean Dice of {run.letter} is {side} that of {first}.")
    return " ".join(sentences)


def _paired_table(runs: Sequence[Run], pairs: Sequence[Paired]) -> Html:
    rows = []
    for run, pair in zip(runs[1:], pairs, strict=True):
        ends = NOTHING if pair.low is None else f"{difference(pair.low)} to {difference(pair.high)}"
        rows.append(
            (
                join(run.heading),
                difference(pair.mean),
                ends,
                f"{pair.units} {pair.unit}{'' if pair.units == 1 else 's'}",
                count_text(pair.frames),
                count_text(pair.above),
                count_text(pair.below),
            )
        )
    first = runs[0].letter
    header = ("Run", "Difference", "95 % interval", "over", "Frames", "above", "below")
    caption = f"Mean Dice against {first} on the same frames"
    return table(caption, header, rows, numeric=range(1, 7))


def _course(runs: Sequence[Run], scored: Sequence[Matched]) -> Html | None:
    if len(scored) < 3:
        return None
    across = [float(index + 1) for index in range(len(scored))]
    series = [
        Series(run.label, across, [one.dice(index) for one in scored])
        for index, run in enumerate(runs)
    ]
    title = "Dice of each frame, in the order of the table of scores"
    drawn = line_plot(series, title=title, x_label="frame", y_limits=(None, None), whole_x=True)
    return plots((title, drawn))
