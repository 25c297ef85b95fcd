"""What workers log, handed back with their results and said by the process that the user sees."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_ROOT = logging.getLogger("dvos")
#: Of this process, or the one that it was forked from; numbers of processes occur on each machine.
_TOKEN = secrets.token_hex(8)


def _process() -> str:
    return f"{os.getpid()} {_TOKEN}"


@dataclass(frozen=True)
class Words:
    """What was logged: logger, level and text of each line, by what makes lines the same."""

    process: str = field(default_factory=_process)
    lines: dict[str, tuple[str, int, str]] = field(default_factory=dict)


@contextmanager
def words_kept() -> Iterator[Words]:
    """Keep what is logged in the block, perhaps by a worker whose log nobody shows."""
    handler = _Kept()
    _ROOT.addHandler(handler)
    try:
        yield handler.words
    finally:
        _ROOT.removeHandler(handler)


def say(words: Words, said: set[str]) -> None:
    """Log what another process handed back, but for what is in ``said``, which grows by it."""
    if words.process == _process():
        return  # said at once
    for same, (logger, level, text) in words.lines.items():
        if same not in said:
            logging.getLogger(logger).log(level, "%s", text)
    said.update(words.lines)


class _Kept(logging.Handler):
    """Keeps lines; ``once`` of a record names what is told of one file for all like it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words = Words()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        same = getattr(record, "once", text)
        self.words.lines.setdefault(same, (record.name, record.levelno, text))
