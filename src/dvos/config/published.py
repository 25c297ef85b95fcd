"""Settings files of the published code turned into ours: ``dvos config import``.

The rules, one for each published key, stand in
:mod:`dvos.config.published_keys` and :mod:`dvos.config.published_training`. A
key is carried over or told in a note, never dropped silently. A rule under
``group.*`` holds for every key of the group that has none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dvos.config.base import Settings
from dvos.config.commands import settings_model
from dvos.config.published_keys import KINDS
from dvos.config.published_rules import Kind, Rule, To
from dvos.config.show import settings_yaml
from dvos.config.strict_yaml import read_yaml
from dvos.errors import ConfigError, Fault, FaultCollector


@dataclass(frozen=True)
class Imported:
    """A published settings file in our terms.

    Attributes:
        source: The published file.
        command: Our command that does its work.
        settings: The command's settings.
        notes: One line for each published key without an exact counterpart,
            and for what differs.
    """

    source: Path
    command: str
    settings: Settings
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The settings as YAML with comments, ready for ``--config``."""
        head = f"# dvos {self.command}; imported from {self.source.name}\n"
        return head + settings_yaml(type(self.settings), self.settings)


def import_published(path: Path) -> Imported:
    """Turn one of the four published YAML files into our settings.

    Args:
        path: A settings file of the published frames extractor, objects
            extractor, simulator or training.

    Raises:
        ConfigError: If the file is no YAML, none of the four kinds, or holds
            values that cannot be carried over; all of these at once.
    """
    values = read_yaml(path)
    kind = _recognise(path, values)
    flat = dict(_leaves(values))
    ours: dict[str, Any] = {}
    origins: dict[str, str] = {}
    notes: list[str] = []
    with FaultCollector(ConfigError) as faults:
        for key, value in flat.items():
            rule = kind.rules.get(key) or kind.rules.get(key.rpartition(".")[0] + ".*")
            if rule is None:
                notes.append(f"{key}: no key of the published code; left out")
                continue
            try:
                notes += _apply(rule, key, value, flat, ours, origins)
            except (ValueError, TypeError, ArithmeticError, LookupError) as error:
                faults.add(f"{path}: {key}", f"found {value!r}", str(error))
    known = kind.rules.keys() - kind.optional
    absent = [key for key in kind.rules if key in known and key not in flat and key[-2:] != ".*"]
    notes += [f"{key}: not in the file; our default holds" for key in absent if _told(key, flat)]
    notes += kind.notes
    values = _nested({**kind.fixed, **ours})
    model = settings_model(kind.command)
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_faults(path, error, origins)) from error
    return Imported(Path(path), kind.command, settings, tuple(notes))


def _recognise(path: Path, values: Mapping[str, Any]) -> Kind:
    for kind in KINDS:
        if all(key in values for key in kind.marks):
            return kind
    kinds = "; ".join(f"{kind.name} (with {', '.join(kind.marks)})" for kind in KINDS)
    found = ", ".join(map(str, list(values)[:8])) or "nothing"
    raise ConfigError.at(
        path,
        f"is no settings file of the published code (its keys: {found})",
        f"one of: {kinds}",
        "a file of our own needs no import: give it with --config",
    )


def _apply(
    rule: Rule,
    key: str,
    value: Any,
    flat: Mapping[str, Any],
    ours: dict[str, Any],
    origins: dict[str, str],
) -> list[str]:
    """Carry one key over; give the notes that it asks for."""
    if isinstance(rule, To):
        converted = rule.convert(value, flat)
        carried = dict.fromkeys(rule.keys, converted) if rule.keys else converted
        ours.update(carried)
        origins.update(dict.fromkeys(carried, key))
        return [f"{key}: {rule.note}"] if rule.note else []
    note = rule.text(value, flat)
    return [f"{key}: {note}"] if note else []


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _told(key: str, flat: Mapping[str, Any]) -> bool:
    # A missing part of an absent or empty group (swap_color: null) is no news.
    parent = key.rpartition(".")[0]
    return parent not in flat and not any(name.startswith(f"{key}.") for name in flat)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def _faults(path: Path, error: ValidationError, origins: Mapping[str, str]) -> Iterator[Fault]:
    for item in error.errors(include_url=False):
        key = ".".join(map(str, item["loc"]))
        trial = key
        while trial and trial not in origins:
            trial = trial.rpartition(".")[0]
        where = f"{path}: {origins[trial]}" if trial else f"{path}"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            yield Fault(str(path), f"gives no value for our {key}", "a whole published file")
        else:
            yield Fault(where, f"{message} (for our {key or 'settings'})")
