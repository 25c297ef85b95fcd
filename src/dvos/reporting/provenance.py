"""Sections on how the run came about: stages, settings, environment, files, the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from dvos.reporting.contents import History, RunContents, Stage
from dvos.reporting.figures import bar
from dvos.reporting.markup import Html, element, join, paragraph, table
from dvos.reporting.numbers import bytes_text, duration, moment, significant
from dvos.reporting.section import Section, details

__all__ = ["environment_section", "files_section", "reproduce_section", "run_section"]

#: Entries of run.json that have a section of their own.
_SHOWN_ELSEWHERE = ("clips_by_source", "command")
_MOMENTS = ("started", "updated", "finished")


def run_section(contents: RunContents) -> Section:
    """Stages with their times, and the settings."""
    parts: list[Html | None] = []
    if contents.history and contents.history.stages:
        parts += [_when(contents.history), _stages(contents.history.stages)]
    for name, text in contents.settings.items():
        code = element("pre", element("code", text), attributes={"tabindex": "0"})
        parts.append(details(f"Settings: {name}", code))
    return Section(
        "run",
        "What was run",
        "The steps from the labelled stills to the scores, how long each took, and the settings"
        " with all defaults filled in.",
        join(parts) if parts else None,
        "there is neither stages.json nor a settings file",
    )


def _when(history: History) -> Html | None:
    parts = []
    if history.started:
        parts.append(f"Started {moment(history.started)}")
    if history.finished:
        parts.append(f"finished {moment(history.finished)}")
    return paragraph(", ".join(parts) + ".") if parts else None


def _stages(stages: tuple[Stage, ...]) -> Html:
    total = sum(stage.seconds or 0.0 for stage in stages)
    rows: list[tuple[str | Html, ...]] = []
    for stage in stages:
        share = (stage.seconds or 0.0) / total if total else 0.0
        rows.append((stage.name, duration(stage.seconds), bar(share), stage.note))
    rows.append((element("strong", "All stages"), element("strong", duration(total)), "", ""))
    return table("Stages in order", ("Stage", "Time", "", "Made"), rows, numeric=(1,))


def environment_section(contents: RunContents) -> Section:
    """Versions, hardware, seed and data hashes, as the training noted them."""
    facts = {key: value for key, value in contents.facts.items() if key not in _SHOWN_ELSEWHERE}
    single = {key: value for key, value in facts.items() if not isinstance(value, dict)}
    groups = {key: value for key, value in facts.items() if isinstance(value, dict) and value}
    parts: list[Html] = []
    if single:
        parts.append(_facts("Training run", single))
    for key, group in groups.items():
        shown = _facts(_title(key), group)
        # Hashes of hundreds of files are for looking up, not for reading through.
        parts.append(
            details(f"{_title(key)}, {len(group)} entries", shown) if len(group) > 24 else shown
        )
    return Section(
        "environment",
        "Environment",
        "What the result depends on besides the settings: software versions, hardware, seed and"
        " fingerprints of the data.",
        join(element("div", parts, cls="facts")) if parts else None,
        "there is no run.json of a training",
    )


def _facts(caption: str, facts: dict[str, Any]) -> Html:
    # Names stay as they are in the file: packages, keys and paths to look for.
    rows = [
        (element("span", key, cls="fact"), element("span", _value(key, value), cls="fact"))
        for key, value in _flat(facts)
    ]
    return table(caption, ("Entry", "Value"), rows, numeric=())


def _flat(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}: ")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _title(key: str) -> str:
    # Only for our own keys: packages and files keep their spelling.
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]


def _value(key: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        seconds = key.endswith(("seconds", "_s"))
        return duration(value) if seconds else significant(value, 4)
    if isinstance(value, list):
        return ", ".join(_value("", entry) for entry in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value('', entry)}" for name, entry in value.items())
    return moment(str(value)) if key in _MOMENTS else str(value)


def files_section(contents: RunContents, page: Path) -> Section:
    """The run's files, linked where the page lies among them."""
    rows: list[tuple[str | Html, ...]] = []
    # Links hold as long as page and run are moved together.
    linked = page.resolve().parent == contents.folder.resolve()
    for entry in contents.files:
        name = entry.path.relative_to(contents.folder).as_posix()
        label = name if entry.size is not None else f"{name}/"
        link = element("a", label, attributes={"href": f"./{quote(name)}"}) if linked else label
        size = bytes_text(entry.size) if entry.size is not None else "folder"
        rows.append((link, entry.purpose, size))
    place = element("code", str(contents.folder))
    shown = table("Files of the run", ("File", "Holds", "Size"), rows, numeric=(2,))
    return Section(
        "files",
        "Files",
        join("What the run wrote; names are relative to ", place, "."),
        shown if rows else None,
        "none of the known files of a run is there",
    )


def reproduce_section(contents: RunContents) -> Section:
    """The command that gives the same result again."""
    history = contents.history
    command = (
        history.command if history and history.command else str(contents.facts.get("command") or "")
    )
    seed = history.seed if history and history.seed is not None else contents.facts.get("seed")
    parts: list[Html] = []
    if command:
        parts.append(element("pre", element("code", command), attributes={"tabindex": "0"}))
    if command and seed is not None:
        parts.append(
            paragraph(
                f"With seed {_value('seed', seed)}, the same data and the versions named above. The"
                " same seed gives the same clips; another processor or version may round the"
                " training differently and so change the last digits of the scores."
            )
        )
    return Section(
        "reproduce",
        "How to reproduce",
        "The command of this run; started with another --out it does everything anew.",
        join(parts) if parts else None,
        "neither stages.json nor run.json names the command",
    )
