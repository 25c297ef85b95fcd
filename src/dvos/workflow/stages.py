"""The stages of a demo run: their order, times and what they said, kept in ``stages.json``.

Every stage goes on by itself where it stopped; what is kept here is only how
long it took over all starts, so that the report of a run that was interrupted
tells the same story as that of an unbroken one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from dvos.files import write_json

__all__ = ["StageBook"]

logger = logging.getLogger(__name__)
R = TypeVar("R")

# A stage that only finds its work done takes about this long; adding it to the
# time of the stage would say nothing.
_CHECK_SECONDS = 3.0


@dataclass
class _Stage:
    name: str
    seconds: float = 0.0
    note: str = ""
    starts: int = 0
    finished: bool = False


@dataclass
class _Book:
    command: str
    seed: int
    started: str
    finished: str | None = None
    stages: list[_Stage] = field(default_factory=list)


class StageBook:
    """Times stages and keeps the times in a file.

    Args:
        path: The ``stages.json`` to go on with or to begin.
        command: What the user typed, for the report.
        seed: The run's seed, for the report.
        announce: Called with a line as each stage begins and ends.
    """

    def __init__(
        self, path: Path, *, command: str, seed: int, announce: Callable[[str], None]
    ) -> None:
        self._path = path
        self._announce = announce
        self._book = _Book(command=command, seed=seed, started=_now())
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._book.started = stored["started"]
            self._book.stages = [_Stage(**stage) for stage in stored["stages"]]
        self._book.finished = None

    def run(self, name: str, work: Callable[[], R], *, note: Callable[[R], str]) -> R:
        """Do one stage and note its time, also if it is interrupted.

        Args:
            name: Its name, shown and stored.
            work: Does it, or finds it done.
            note: Says in a few words what came of it.
        """
        stage = next((s for s in self._book.stages if s.name == name), None)
        if stage is None:
            stage = _Stage(name)
            self._book.stages.append(stage)
        self._announce(f"{name} ...")
        begun = time.monotonic()
        stage.starts += 1
        was_finished, stage.finished = stage.finished, False
        try:
            result = work()
            stage.note = note(result)
            stage.finished = True
        finally:
            seconds = time.monotonic() - begun
            if not was_finished or seconds > _CHECK_SECONDS:
                stage.seconds = round(stage.seconds + seconds, 2)
            self._save()
        self._announce(f"{name}: {stage.note} ({_clock(stage.seconds)})")
        return result

    def finish(self) -> None:
        """Note that all stages are done."""
        self._book.finished = _now()
        self._save()

    @property
    def seconds(self) -> float:
        """Time of all stages together, over all starts."""
        return sum(stage.seconds for stage in self._book.stages)

    def _save(self) -> None:
        write_json(self._path, asdict(self._book))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
