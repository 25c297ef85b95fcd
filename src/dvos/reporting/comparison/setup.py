"""What differs in how the runs were made: settings, times, hardware, software, data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dvos.errors import FaultCollector
from dvos.reporting.comparison.runs import Run, columns, unlike
from dvos.reporting.markup import Content, Html, element, join, paragraph, table
from dvos.reporting.numbers import NOTHING, count_text, duration, significant
from dvos.reporting.reading import REMEDY, as_number
from dvos.reporting.section import Section, details

__all__ = ["environment_section", "flat_settings", "settings_section", "times_section"]

_MISSING = "not set"


def settings_section(runs: Sequence[Run], faults: FaultCollector) -> Section:
    """Settings that are not the same in all runs."""
    found = [flat_settings(run, faults) for run in runs]
    stages = [set(one) for one in found]
    common = [name for name in found[0] if all(name in one for one in stages)]
    parts: list[Html] = []
    same = 0
    for stage in common:
        rows, alike = _differing([one[stage] for one in found])
        same += alike
        if rows:
            header = ("Setting", *columns(runs))
            parts.append(table(f"Settings of {stage} that differ", header, rows, numeric=()))
    if common:
        told = f"{count_text(same)} settings are the same."
        parts.append(paragraph(told if parts else f"No setting differs; {told}"))
    alone = sorted({name for one in stages for name in one} - set(common))
    if alone and common:
        parts.append(paragraph(f"Not compared, as a run lacks them: {', '.join(alone)}."))
    return Section(
        "settings",
        "Settings that differ",
        "From the settings files of the runs, defaults filled in. Where a run writes to is left"
        " out.",
        join(parts) if common else None,
        "no settings file is there in every run",
    )


def flat_settings(run: Run, faults: FaultCollector) -> dict[str, dict[str, str]]:
    """A run's settings by stage and dotted key, in the order of their files."""
    found: dict[str, dict[str, str]] = {}
    for name, text in run.contents.settings.items():
        where = run.contents.folder / name
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            faults.add(where, f"no YAML ({' '.join(str(error).split())})", remedy=REMEDY)
            continue
        if isinstance(value, dict):
            found[_stage(name)] = dict(_flat(value))
    return found


def _stage(name: str) -> str:
    # A run folder of a training is compared with the "train" of a whole demo.
    path = Path(name)
    if len(path.parts) > 1:
        return path.parts[0]
    return "train" if path.stem == "config" else path.stem


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_text(entry) for entry in value) + "]"
    return str(value)


def _differing(found: Sequence[Mapping[str, str]]) -> tuple[list[tuple[Content, ...]], int]:
    keys = dict.fromkeys(key for one in found for key in one if key != "out")
    rows: list[tuple[Content, ...]] = []
    same = 0
    for key in keys:
        values = [one.get(key, _MISSING) for one in found]
        if not unlike(values):
            same += 1
        else:
            rows.append((_key(key), *(_code(value) for value in values)))
    return rows, same


def _key(text: str) -> Html:
    # A long key may be broken after a dot, not within its words.
    parts = text.split(".")
    broken = [(f"{part}.", element("wbr")) for part in parts[:-1]]
    return element("code", broken, parts[-1])


def _code(text: str) -> Html:
    return element("code", text)


def times_section(runs: Sequence[Run]) -> Section:
    """How long each stage took."""
    stages = dict.fromkeys(
        stage.name for run in runs if run.contents.history for stage in run.contents.history.stages
    )
    rows: list[tuple[Content, ...]] = [
        (name, *(duration(_stage_seconds(run, name)) for run in runs)) for name in stages
    ]
    for title, read in _RATES:
        cells = [read(run) for run in runs]
        if any(cell != NOTHING for cell in cells):
            rows.append((title, *cells))
    header = ("", *columns(runs))
    numeric = range(1, len(header))
    return Section(
        "times",
        "Times",
        "Wall time of each stage over all starts. Times compare on the same hardware only.",
        table("Times of the stages", header, rows, numeric=numeric) if rows else None,
        "no run has noted times",
    )


def _stage_seconds(run: Run, name: str) -> float | None:
    history = run.contents.history
    stages = history.stages if history else ()
    return next((stage.seconds for stage in stages if stage.name == name), None)


def _seconds(run: Run, part: str) -> float | None:
    noted = run.contents.facts.get("seconds")
    if isinstance(noted, dict):
        return as_number(noted.get(part))
    return as_number(noted) if part == "training" else None


_RATES: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("Training alone", lambda run: duration(_seconds(run, "training"))),
    ("Validation", lambda run: duration(_seconds(run, "validation"))),
    (
        "Training clips a second",
        lambda run: significant(as_number(run.contents.facts.get("clips_per_second"))),
    ),
)


def environment_section(runs: Sequence[Run]) -> Section:
    """Hardware, and what differs in software and data."""
    parts = [
        _group(runs, "hardware", "Hardware", whole=True),
        _group(runs, "versions", "Software versions that differ"),
        _group(runs, "data", "Data with another fingerprint", names=lambda key: Path(key).name),
    ]
    shown = [part for part in parts if part]
    return Section(
        "environment",
        "Hardware, software and data",
        "As the trainings noted them.",
        join(shown) if shown else None,
        "no run has a run.json of a training",
    )


def _group(
    runs: Sequence[Run],
    key: str,
    caption: str,
    *,
    whole: bool = False,
    names: Callable[[str], str] = str,
) -> Html | None:
    noted = [run.contents.facts.get(key) for run in runs]
    found = [
        {names(str(name)): _noted(value) for name, value in one.items()}
        if isinstance(one, dict)
        else {}
        for one in noted
    ]
    keys = dict.fromkeys(name for one in found for name in one)
    lines = [(name, [one.get(name, NOTHING) for one in found]) for name in keys]
    if not lines:
        return None
    chosen = [(name, values) for name, values in lines if whole or unlike(values)]
    alike = [(name, values[0]) for name, values in lines if not unlike(values)]
    rows = [(_fact(name), *map(_fact, values)) for name, values in chosen]
    shown = table(caption, ("Entry", *columns(runs)), rows, numeric=()) if rows else None
    if whole or not alike:
        return shown
    same = table(f"The same in all runs: {key}", ("Entry", "Value"), alike, numeric=())
    return join(shown, details(f"The same in all runs: {key}, {len(alike)}", same))


def _noted(value: object) -> str:
    return "none" if value is None else _text(value)


def _fact(text: str) -> Html:
    return element("span", text, cls="fact")
