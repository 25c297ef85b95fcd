"""Rules that turn published keys into ours.

A rule is :class:`To` (carried over, converted where units or forms differ) or
:class:`Without` (no counterpart; the text says what stands in its place).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Flat = Mapping[str, Any]
Convert = Callable[[Any, Flat], Any]


def same(value: Any, _: Flat) -> Any:
    """The value as it is."""
    return value


@dataclass(frozen=True)
class To:
    """The key is carried over to ``keys``; ``note`` says what differs.

    Without ``keys``, ``convert`` gives a mapping of our keys to values.
    """

    keys: tuple[str, ...]
    convert: Convert = same
    note: str = ""


@dataclass(frozen=True)
class Without:
    """The key has no counterpart; ``text`` gives the note, "" for none where nothing is lost."""

    text: Callable[[Any, Flat], str]


Rule = To | Without


@dataclass(frozen=True)
class Kind:
    """A published settings file.

    Attributes:
        name: As a user would call it.
        command: Our command.
        marks: Top-level keys by which it is recognised.
        rules: By dotted published key.
        fixed: Our settings that reproduce what the published code fixes.
        notes: What differs whatever the keys say.
        optional: Keys of ``rules`` that the published code reads but its
            shipped file lacks.
    """

    name: str
    command: str
    marks: tuple[str, ...]
    rules: Mapping[str, Rule]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()


def to(*keys: str, convert: Convert = same, note: str = "") -> To:
    """Rule: carried over to ``keys``."""
    return To(keys, convert, note)


def without(text: str) -> Without:
    """Rule: no counterpart, as ``text`` explains."""
    return Without(lambda _value, _flat: text)


def unless(harmless: Any, text: str) -> Without:
    """A note, but none where the value asks for nothing."""
    return Without(lambda value, _flat: "" if value == harmless else text)


def number(value: Any, _: Flat) -> float:
    """The value as a number."""
    # YAML reads 1e-3, without a point, as text.
    return float(value)
