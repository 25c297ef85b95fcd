"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two plain lines.
_LINE_INTERVAL = 5.0


def progress(
    items: Iterable[T], *, description: str, total: int | None = None, unit: str = "item"
) -> Iterator[T]:
    """Give ``items`` one by one, showing progress on standard error."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with open_display(description, total, unit) as display:
        for item in items:
            yield item
            display.advance()


class Display:
    """Shows how far the work is; this one nothing, as inside another display."""

    def advance(self) -> None:
        """Count one item."""


class _Lines(Display):
    """Plain lines, for logs: the first item, the last, and one every few seconds."""

    def __init__(self, description: str, total: int | None, unit: str, done: int) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._done = done
        self._before = done
        self._started = time.monotonic()
        self._shown_at = -_LINE_INTERVAL
        self._shown = -1
        if done:
            self._show(f", {done} of them finished before")

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._shown_at >= _LINE_INTERVAL or self._done == self._total:
            self._show()

    def close(self) -> None:
        """Show the last count if it was not."""
        if self._shown != self._done:
            self._show()

    def _show(self, note: str = "") -> None:
        self._shown_at = time.monotonic()
        self._shown = self._done
        of = "" if self._total is None else f"/{self._total}"
        text = f"{self._description}: {self._done}{of} {self._unit}s{note}"
        elapsed = time.monotonic() - self._started
        fresh = self._done - self._before
        if fresh and elapsed > 0:
            text += f", {fresh / elapsed:.3g} {self._unit}s/s"
            if self._total is not None and self._done < self._total:
                text += f", {_duration((self._total - self._done) * elapsed / fresh)} left"
        print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


_displays = 0


@contextmanager
def open_display(
    description: str, total: int | None, unit: str, done: int = 0
) -> Iterator[Display]:
    """A bar on a terminal, plain lines elsewhere, nothing inside another display."""
    global _displays
    _displays += 1
    try:
        if _displays > 1:
            yield Display()
        elif sys.stderr.isatty():
            with _bar(description, total, unit, done) as bar:
                yield bar
        else:
            lines = _Lines(description, total, unit, done)
            yield lines
            lines.close()
    finally:
        _displays -= 1


@contextmanager
def _bar(description: str, total: int | None, unit: str, done: int) -> Iterator[Display]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Bar(Display):
        def __init__(self) -> None:
            self._fresh = 0
            self._started = time.monotonic()

        def advance(self) -> None:
            self._fresh += 1
            rate = self._fresh / max(time.monotonic() - self._started, 1e-6)
            bar.update(row, advance=1, rate=f"{rate:.3g} {unit}s/s")

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    row = bar.add_task(description, total=total, completed=done, rate=f"{unit}s")
    with bar:
        yield Bar()
