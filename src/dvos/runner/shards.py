"""Work on one table shared out between runs, each of a shard I/N or of the whole.

Each has a table and a manifest of its own, and does not do again what another has finished.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from glob import escape
from pathlib import Path
from typing import TypeVar

from dvos.config.base import shard_numbers
from dvos.errors import RunError
from dvos.files import locked, make_folder
from dvos.runner.manifest import Manifest, Row, Task

#: Places that the run at hand has taken; another thread's run is another one.
_TAKEN: ContextVar[frozenset[str]] = ContextVar("taken", default=frozenset())


@contextmanager
def taken(place: Path) -> Iterator[None]:
    """Keep other runs from a folder, or from the work of a manifest, while the block lasts.

    A stage of a long run may take it again. A RunError if another run is at work there. On a file
    system without locks nothing is held.
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
    """Take a folder, which is made before and, if nothing came into it, removed after."""
    with taken(make_folder(folder)):
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()


T = TypeVar("T")

_ENDING = ".ledger.jsonl"


def part_of(items: Sequence[T], shard: str | None) -> list[T]:
    """The items of a shard I/N, every N-th from the I-th on; all of them without one."""
    if shard is None:
        return list(items)
    index, count = shard_numbers(shard)
    return list(items[index - 1 :: count])


def shard_table(table: Path, shard: str | None) -> Path:
    """The table that lists a shard's part, beside that of the whole; without a shard the latter."""
    if shard is None:
        return table
    index, count = shard_numbers(shard)
    return table.with_name(f"{table.stem}_shard-{index}-of-{count}{table.suffix}")


def manifest_path(table: Path) -> Path:
    """Where the record of finished work stands: hidden, beside the table it leads to."""
    return table.with_name(f".{table.name}{_ENDING}")


def manifests_of(table: Path) -> list[Path]:
    """Manifests of all runs on a table, of the whole and of shards, as far as they are there."""
    name = f".{escape(table.stem)}_shard-*-of-*{escape(table.suffix)}{_ENDING}"
    whole = manifest_path(table)
    return [*([whole] if whole.is_file() else []), *sorted(table.parent.glob(name))]


def adopt(
    tasks: Iterable[Task[T]],
    manifest: Path,
    others: Iterable[Path],
    is_sound: Callable[[T], bool] = lambda _: True,
) -> list[Task[T]]:
    """Take over what runs in the same folder have finished; gives the tasks that are left."""
    own = Manifest(manifest)
    books = (own, *map(Manifest, others))
    left = []
    for task in tasks:
        for book in books:
            result = book.finished(task)
            if result is not None and is_sound(task.item):
                if book is not own:
                    own.append(task, result)
                break
        else:
            left.append(task)
    return left


def gather(tasks: Iterable[Task[T]], manifests: Iterable[Path]) -> list[Row | None]:
    """What each task gave, whichever run finished it; None for one that none has."""
    books = list(map(Manifest, manifests))
    return [
        next((row for book in books if (row := book.finished(task)) is not None), None)
        for task in tasks
    ]
