"""The stages of a run of the whole method: order, times, and what came of each."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from dvos.config.base import Settings, plain_values
from dvos.files import write_json
from dvos.runner import read_record

R = TypeVar("R")

# A stage that only finds its work done takes about this long; adding it to the
# time of the stage would say nothing.
_CHECK_SECONDS = 3.0


def command_line(command: str, settings: Settings, places: dict[str, object]) -> str:
    """The command that makes a run again: its options, and what else is not the default.

    Args:
        command: Its name.
        settings: Of the run.
        places: What is given as options, by the settings' names; ``folder`` has no name there.
    """
    words = ["dvos", command]
    for name, value in places.items():
        words += [f"--{name}", str(value)] if name != "folder" else [str(value)]
    given = settings.model_dump(exclude_defaults=True, exclude=set(places))
    for key, value in plain_values(given).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return shlex.join(words)


@dataclass
class Stage:
    """One stage in ``stages.json``: its time over all starts, and what came of it."""

    name: str
    seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    note: str = ""
    starts: int = 0
    finished: bool = False


@dataclass
class StageRecord:
    """``stages.json``: what was run, and its stages in order; times are in UTC."""

    command: str
    seed: int
    started: str
    finished: str | None = None
    stages: list[Stage] = field(default_factory=list)


class StageManifest:
    """The stages of a run: their order, times and what they said, kept in ``stages.json``.

    The times are those over all starts, so that the report of a run that was
    interrupted tells the same story as that of an unbroken one.

    Args:
        path: The ``stages.json`` to go on with or to begin.
        command: What the user typed, for the report.
        seed: The run's seed, for the report.
        announce: Called with a line as each stage begins and ends.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: str,
        seed: int,
        announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._path = path
        self.announce = announce
        record = read_record(path, StageRecord) or StageRecord(command, seed, _now())
        self._record = replace(record, command=command, seed=seed, finished=None)

    def run(self, name: str, work: Callable[[], R], note: str | Callable[[R], str]) -> R:
        """Do one stage and note its time, also if it is interrupted.

        Args:
            name: Its name, shown and stored.
            work: Does it, or finds it done.
            note: What came of it in a few words, or what tells it.
        """
        stages = self._record.stages
        stage = next((stage for stage in stages if stage.name == name), None)
        if stage is None:
            stage = Stage(name)
            stages.append(stage)
        self.announce(f"{name} ...")
        begun = time.monotonic()
        stage.starts += 1
        was_finished, stage.finished = stage.finished, False
        try:
            result = work()
            stage.note = note if isinstance(note, str) else note(result)
            stage.finished = True
        finally:
            seconds = time.monotonic() - begun
            if not was_finished or seconds > _CHECK_SECONDS:
                stage.seconds = round(stage.seconds + seconds, 2)
            write_json(self._path, asdict(self._record))
        minutes, rest = divmod(round(stage.seconds), 60)
        clock = f"{minutes} min {rest:02d} s" if minutes else f"{stage.seconds:.1f} s"
        self.announce(f"{name}: {stage.note} ({clock})")
        return result

    def finish(self) -> None:
        """Note that all stages are done."""
        self._record.finished = _now()
        write_json(self._path, asdict(self._record))

    @property
    def seconds(self) -> float:
        """Time of all stages together, over all starts."""
        return sum(stage.seconds for stage in self._record.stages)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
