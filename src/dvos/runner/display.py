"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import count
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
    with open_display(description, total, unit) as advance:
        for item in items:
            yield item
            advance()


_displays = 0


@contextmanager
def open_display(
    description: str, total: int | None, unit: str, done: int = 0
) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, plain lines elsewhere, nothing inside another display.

    Gives what is to be called for each item.
    """
    global _displays
    _displays += 1
    try:
        if _displays > 1:
            yield lambda: None
        elif sys.stderr.isatty():
            with _bar(description, total, unit, done) as advance:
                yield advance
        else:
            lines = _Lines(description, total, unit, done)
            yield lines.advance
            if lines.shown != lines.done:
                lines.show()
    finally:
        _displays -= 1


class _Lines:
    """Plain lines, for logs: the first item, the last, and one every few seconds."""

    def __init__(self, description: str, total: int | None, unit: str, done: int) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._before = self.done = done
        self._started = time.monotonic()
        self._shown_at = -_LINE_INTERVAL
        self.shown = -1
        if done:
            self.show(f", {done} of them finished before")

    def advance(self) -> None:
        self.done += 1
        if time.monotonic() - self._shown_at >= _LINE_INTERVAL or self.done == self._total:
            self.show()

    def show(self, note: str = "") -> None:
        self._shown_at = time.monotonic()
        self.shown = self.done
        of = "" if self._total is None else f"/{self._total}"
        text = f"{self._description}: {self.done}{of} {self._unit}s{note}"
        elapsed, fresh = time.monotonic() - self._started, self.done - self._before
        if fresh and elapsed > 0:
            text += f", {fresh / elapsed:.3g} {self._unit}s/s"
            if self._total is not None and self.done < self._total:
                minutes, seconds = divmod(round((self._total - self.done) * elapsed / fresh), 60)
                hours, minutes = divmod(minutes, 60)
                clock = f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
                text += f", {f'{hours} h {minutes:02d} min' if hours else clock} left"
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _bar(description: str, total: int | None, unit: str, done: int) -> Iterator[Callable[[], None]]:
    from rich import progress as rich
    from rich.console import Console

    bar = rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[rate]}"),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    row = bar.add_task(description, total=total, completed=done, rate=f"{unit}s")
    fresh, started = count(1), time.monotonic()

    def advance() -> None:
        rate = next(fresh) / max(time.monotonic() - started, 1e-6)
        bar.update(row, advance=1, rate=f"{rate:.3g} {unit}s/s")

    with bar:
        yield advance
