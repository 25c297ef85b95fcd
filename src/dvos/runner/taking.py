"""One run at a time on a piece of work: whoever takes its folder or manifest keeps others out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from dvos.errors import RunError
from dvos.files import locked, make_folder

#: Places that the run at hand has taken; another thread's run is another one.
_TAKEN: ContextVar[frozenset[str]] = ContextVar("taken", default=frozenset())


@contextmanager
def taken(place: Path) -> Iterator[None]:
    """Keep other runs from a folder, or from the work of a manifest, while the block lasts.

    A run may take again what it has taken: a stage of a long run is a run of its own. On a file
    system without locks nothing is held.

    Args:
        place: A folder or file that exists.

    Raises:
        RunError: If another run is at work there.
    """
    path = os.path.realpath(place)
    if path in _TAKEN.get():
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(Path(path)))
        except BlockingIOError as error:
            remedy = "wait for it to end, or choose another place"
            raise RunError.at(place, "another run is at work here", "", remedy) from error
        except OSError:
            pass
        token = _TAKEN.set(_TAKEN.get() | {path})
        try:
            yield
        finally:
            _TAKEN.reset(token)


@contextmanager
def taken_folder(folder: Path) -> Iterator[None]:
    """Take a folder, which is made before and, if nothing came into it, removed after.

    Raises:
        OutputError: If it cannot be made or written.
        RunError: If another run is at work there.
    """
    with taken(make_folder(folder)):
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()
