"""Settings of a run whose folder was moved, together with data that lies in or beside it."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dvos.config.base import Settings, changes, placed


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
        if not isinstance(before, str) or not isinstance(now, str):
            return False
        return before == self.earlier(now) and os.path.exists(now)  # noqa: PTH110

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
