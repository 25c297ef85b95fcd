"""The runs of a comparison: a letter and a name for each."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvos.reporting.contents import RunContents
from dvos.reporting.learning import curve_column
from dvos.reporting.markup import Content, Html, element, table
from dvos.reporting.numbers import NOTHING, count_text, moment, score
from dvos.reporting.reading import as_number
from dvos.reporting.section import Section

__all__ = ["Run", "columns", "name_runs", "runs_section", "unlike"]


@dataclass(frozen=True)
class Run:
    """One of the runs compared.

    Attributes:
        letter: ``A`` for the first, to which the others are compared.
        name: The end of its folder's path, as much as tells it from the others.
        contents: What it left behind.
    """

    letter: str
    name: str
    contents: RunContents

    @property
    def label(self) -> str:
        """Letter and name, as in the names of lines."""
        return f"{self.letter} {self.name}"

    @property
    def heading(self) -> Html:
        """Letter and name, as in the head of a table."""
        return Html(f"{element('strong', self.letter)} {element('span', self.name)}")


def name_runs(contents: Sequence[RunContents]) -> tuple[Run, ...]:
    """Name each run by the end of its folder's path."""
    paths = [one.folder.resolve() for one in contents]
    depth = 1
    while len({_tail(path, depth) for path in paths}) < len(paths):
        depth += 1
    return tuple(
        Run(letter, _tail(path, depth), one)
        for letter, path, one in zip(string.ascii_uppercase, paths, contents, strict=False)
    )


def _tail(path: Path, depth: int) -> str:
    return "/".join(path.parts[-depth:])


def columns(runs: Sequence[Run]) -> tuple[Content, ...]:
    """Headings of a table's columns, one a run."""
    return tuple(run.heading for run in runs)


def unlike(values: Sequence[object]) -> bool:
    """Whether the runs differ."""
    return any(value != values[0] for value in values[1:])


def runs_section(runs: Sequence[Run]) -> Section:
    """Which run is which."""
    facts: tuple[tuple[str, Callable[[Run], str]], ...] = (
        ("Folder", lambda run: str(run.contents.folder)),
        ("Finished", _finished),
        ("Seed", _seed),
        ("Network", _network),
        ("Epochs", lambda run: count_text(as_number(run.contents.facts.get("epochs")))),
        ("Masks scored", _masks),
        ("Validation Dice, best", _validation),
    )
    rows = [(name, *(read(run) for run in runs)) for name, read in facts]
    rows = [row for row in rows if any(cell != NOTHING for cell in row[1:])]
    shown = table("The runs compared", ("", *columns(runs)), rows, numeric=())
    return Section(
        "runs",
        "Runs",
        f"Differences are told against run {runs[0].letter}, the one named first.",
        element("div", shown, cls="versus-table"),
        "",
    )


def _finished(run: Run) -> str:
    history = run.contents.history
    text = history.finished if history else ""
    return moment(text or str(run.contents.facts.get("updated") or NOTHING))


def _seed(run: Run) -> str:
    history, seed = run.contents.history, run.contents.facts.get("seed")
    found = history.seed if history and history.seed is not None else seed
    return NOTHING if found is None else str(found)


def _network(run: Run) -> str:
    network = run.contents.facts.get("network")
    facts = network if isinstance(network, dict) else run.contents.facts
    parameters = as_number(facts.get("parameters"))
    name = str(facts.get("name") or "")
    size = f"{count_text(parameters)} parameters" if parameters else ""
    return ", ".join(filter(None, (name, size))) or NOTHING


def _masks(run: Run) -> str:
    scores = run.contents.scores
    if scores is None or "masks" not in scores.values:
        return NOTHING
    missing = scores.values.get("missing", 0)
    text = count_text(scores.values["masks"])
    return f"{text}, {count_text(missing)} without prediction" if missing else text


def _validation(run: Run) -> str:
    name = curve_column(run.contents.records, "dice")
    values = [value for value in run.contents.records.get(name or "", []) if value == value]
    return score(max(values)) if values else NOTHING
