"""Progress on standard error: a bar on a terminal, plain lines elsewhere, never still for long."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_LINE_INTERVAL = 5.0  # seconds between two plain lines
#: Seconds that the rate is measured over, and between two of its marks.
_RECENT = 60.0
_MARK_INTERVAL = 0.5


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


class _Display:
    """How far some work is, and what is said of it."""

    def __init__(self, description: str, total: int | None, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.before = self.done = done
        self.note = ""
        self._started = time.monotonic()
        self._marks = deque([(self._started, done)])

    def advance(self) -> None:
        """Count an item."""
        self.done += 1
        now = time.monotonic()
        if now - self._marks[-1][0] >= _MARK_INTERVAL:
            self._marks.append((now, self.done))
        while len(self._marks) > 1 and now - self._marks[0][0] > _RECENT:
            self._marks.popleft()
        self.show()

    def show(self) -> None:
        """Show how far it is now."""

    def pace(self) -> str:
        """Recent rate, and the time left by it; before the first item, the time since the start."""
        now = time.monotonic()
        since, done = self._marks[0]
        if self.done == done or now <= since:
            waited = round(now - self._started)
            return f"{waited} s" if waited else ""
        rate = (self.done - done) / (now - since)
        text = f"{rate:.3g} {self.unit}s/s"
        if self.total is not None and self.done < self.total:
            text += f", {_clock((self.total - self.done) / rate)} left"
        return text


_shown: _Display | None = None


def note(text: str) -> None:
    """Say beside the display that is open, if one is, where the work stands."""
    if _shown is not None:
        _shown.note = text


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what the block is at: beside the display that is open, or, if it takes long, alone."""
    if _shown is None:
        with open_display(what, None, ""):
            yield
        return
    shown, before = _shown, _shown.note
    shown.note = what
    if isinstance(shown, _Bar):
        shown.show()
    try:
        yield
    finally:
        # What was said in the block stays.
        shown.note = before if shown.note == what else shown.note


@contextmanager
def open_display(
    description: str, total: int | None, unit: str, done: int = 0
) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, lines elsewhere; nothing inside another, or of no items at all.

    Gives what counts an item.
    """
    global _shown
    if _shown is not None or total == 0:
        yield lambda: None
        return
    kind = _Bar if sys.stderr.isatty() else _Lines
    _shown = display = kind(description, total, unit, done)
    try:
        with display.opened():
            yield display.advance
    finally:
        _shown = None


class _Lines(_Display):
    """Plain lines, for logs: the first item, the last, and one every few seconds."""

    _shown_at = -_LINE_INTERVAL
    _shown_done = -1

    @contextmanager
    def opened(self) -> Iterator[None]:
        closed = threading.Event()
        if self.before:
            self._print(f", {self.before} of them finished before")
        elif not self.unit:
            self._shown_at = time.monotonic()
        watch = threading.Thread(target=self._watch, args=(closed,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            closed.set()
            watch.join()
        if self.unit and self._shown_done != self.done:
            self._print()

    def _watch(self, closed: threading.Event) -> None:
        while not closed.wait(_LINE_INTERVAL / 10):
            if time.monotonic() - max(self._shown_at, self._started) >= _LINE_INTERVAL:
                self._print()

    def show(self) -> None:
        if time.monotonic() - self._shown_at >= _LINE_INTERVAL or self.done == self.total:
            self._print()

    def _print(self, finished: str = "") -> None:
        self._shown_at, self._shown_done = time.monotonic(), self.done
        of = "" if self.total is None else f"/{self.total}"
        counted = f"{self.done}{of} {self.unit}s{finished}" if self.unit else ""
        parts = [part for part in (counted, self.note, self.pace()) if part]
        print(f"{self.description}: {', '.join(parts)}", file=sys.stderr, flush=True)


class _Bar(_Display):
    """A bar whose clock runs."""

    @contextmanager
    def opened(self) -> Iterator[None]:
        from rich import progress as rich
        from rich.console import Console

        count = [rich.MofNCompleteColumn()] if self.unit else []
        columns = [rich.TextColumn("{task.description}"), rich.BarColumn(), *count]
        columns += [rich.TextColumn("{task.fields[said]}"), rich.TimeElapsedColumn()]
        self._bar = rich.Progress(*columns, console=Console(stderr=True), transient=not self.unit)
        first = f"{self.unit}s" if self.unit else ""
        self._row = self._bar.add_task(
            self.description, total=self.total, completed=self.done, said=first
        )
        with self._bar:
            yield
            self.show()

    def show(self) -> None:
        said = ", ".join(part for part in (self.note, self.pace()) if part)
        self._bar.update(self._row, completed=self.done, said=said)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
