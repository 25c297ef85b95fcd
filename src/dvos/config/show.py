"""Settings as commented YAML: what ``dvos config show`` prints and run folders keep.

A run folder may be moved, together with data that lies in or beside it.
"""

import hashlib
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dvos.config.base import PresetSettings, Settings, changes, placed, plain_values, weights_name
from dvos.config.load import load_settings
from dvos.errors import Fault, UsageError
from dvos.files import write_text

_WIDTH = 96


def settings_yaml(settings: BaseModel, *, full: bool = False) -> str:
    """Settings as YAML that reads back to equal ones, with each field's documentation above it.

    A key without a value is commented out; with ``full`` a preset's values are told, not its name.
    """
    return "\n".join(_lines(settings, 0, full=full)) + "\n"


def check_run_settings(path: Path, settings: Settings) -> None:
    """Keep a run's settings in its folder; a UsageError if a run with other ones was begun there.

    Settings that affect nothing may change from start to start, and the folder may be moved with
    what lies in and beside it; the file is then written anew.
    """
    settings = placed(settings)
    if path.exists():
        earlier = placed(load_settings(type(settings), config=path))
        if earlier == settings:
            return
        changed, _ = run_changes(earlier, settings)
        if changed:
            remedy = "choose another --out, or delete the folder"
            raise UsageError(
                Fault(f"{path}: {key}", f"the run in this folder has {old}", f"{new}", remedy)
                for key, old, new in changed
            )
    write_text(path, settings_yaml(settings))


@dataclass(frozen=True)
class Move:
    """From where to where a run folder went: the folder around all that can have gone with it."""

    before: Path
    now: Path

    @classmethod
    def of(cls, before: Path, now: Path) -> Self:
        """The move of a run folder, by its absolute paths; nowhere if these are equal."""
        while before.name and before.name == now.name:
            before, now = before.parent, now.parent
        return cls(before, now)

    def is_same(self, before: Any, now: Any) -> bool:
        """Whether plain values of settings are equal, or name what is there since it was moved."""
        if before == now:
            return True
        if isinstance(before, dict) and isinstance(now, dict):
            return before.keys() == now.keys() and all(
                self.is_same(value, now[key]) for key, value in before.items()
            )
        if isinstance(before, list) and isinstance(now, list):
            return len(before) == len(now) and all(map(self.is_same, before, now))
        texts = isinstance(before, str) and isinstance(now, str)
        return texts and before == self.earlier(now) and os.path.exists(now)  # noqa: PTH110

    def earlier(self, place: str) -> str:
        """Where what lies at ``place`` lay before."""
        path = Path(place).absolute()
        return str(self.before / path.relative_to(self.now)) if self._moved(path) else place

    def has_content(self, place: str, digest: str, known: Mapping[str, str]) -> bool:
        """Whether what lies at ``place``, of this digest, is as it was ``known`` before, by place.

        Tables name what lies outside their own folder by its whole path.
        """
        path = Path(place).absolute()
        before = known.get(place, known.get(self.earlier(place), digest))
        if before == digest or not self._moved(path) or not path.is_file():
            return before == digest
        new, old = (os.fsencode(one / "_")[:-1] for one in (self.now, self.before))
        data = path.read_bytes().replace(new, old)
        return before == hashlib.blake2b(data, digest_size=16).hexdigest()

    def _moved(self, path: Path) -> bool:
        return self.before != self.now and path.is_relative_to(self.now)


def run_changes(before: Settings, now: Settings) -> tuple[list[tuple[str, Any, Any]], Move]:
    """The :func:`changes` of the settings of one run, and the move of its folder, their ``out``.

    A path in or beside the folder is the same wherever both were moved.
    """
    before, now = placed(before), placed(now)
    move = Move.of(*(getattr(one, "out", Path("/")) for one in (before, now)))
    return [one for one in changes(before, now) if not move.is_same(one[1], one[2])], move


def _lines(settings: BaseModel, depth: int, *, full: bool) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(settings).model_fields.items():
        for line in textwrap.wrap(field.description or "", _WIDTH - len(indent) - 2):
            yield f"{indent}# {line}"
        value = getattr(settings, name, PydanticUndefined)
        if value is PydanticUndefined:
            yield f"{indent}# {name}:  (required)"
        elif isinstance(value, PresetSettings) and not full and value.preset_name is not None:
            yield f"{indent}{name}: {value.preset_name}"
        elif isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1, full=full)
        else:
            # Where the package lies is no one else's business.
            value = weights_name(value) if isinstance(value, Path) else value
            form: Any = {"default_flow_style": True, "width": 10**6, "allow_unicode": True}
            text = yaml.safe_dump(plain_values(value), **form)
            yield f"{indent}{name}: " + text.removesuffix("\n").removesuffix("\n...")
