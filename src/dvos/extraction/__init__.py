"""Frames from videos; cutouts and distractors from labelled stills.

Here stands what both share: random streams, and the run over the rows of a table.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from dvos.config.base import placed
from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.errors import FaultCollector, OutputError, TableError
from dvos.files import composed, make_folder, real_path, refuse_foreign, stem_of
from dvos.runner.manifest import Manifest, Row, Task, restore_names
from dvos.runner.shards import adopt, gather, manifest_path, manifests_of, part_of, shard_table
from dvos.runner.tasks import cluster_executor, run_tasks, worker_count
from dvos.tables import AnnotatedRow, VideoRow
from dvos.tables.cells import read_records

T = TypeVar("T")
TableRow = TypeVar("TableRow", VideoRow, AnnotatedRow)
Settings = TypeVar("Settings", FramesSettings, ObjectsSettings)


def named_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Random stream of a named thing, whatever the order or process it is met in."""
    text = "\0".join(map(str, names)).encode("utf-8", "surrogateescape")
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return np.random.default_rng([seed, key])


@dataclass(frozen=True)
class Job(Generic[TableRow, Settings]):
    """One row to take apart with so many threads, 0 for one per core."""

    row: TableRow
    settings: Settings
    fingerprint: str  # Of all that its files depend on
    threads: int


@dataclass(frozen=True)
class Work(Generic[T]):
    """What a row of a table asks for: files in ``folders`` whose names begin with the source's."""

    source: Path
    folders: tuple[Path, ...]
    first: str  # How the first file ends, in messages
    files: str  # How those in the first folder end, as a pattern
    task: Task[T]
    is_begun: bool = False  # Whether an earlier run left it half-done

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return stem_of(self.source)

    def is_of(self, name: str) -> bool:
        """Whether a file of this name is one of its own."""
        return name.startswith((f"{self.stem}_", f".{self.stem}."))

    def present(self) -> Iterator[Path]:
        """Files that stand where its own will."""
        pattern = f"{escape(self.stem)}{self.files}"
        return iter(()) if self.is_begun else self.folders[0].glob(pattern)


def run_extraction(
    function: Callable[[T], dict[str, Any]],
    make: Callable[[Settings, TableRow, int], Work[T]],
    rows: Sequence[TableRow],
    source: Path,
    settings: Settings,
    tables: Sequence[Path],
) -> tuple[list[tuple[TableRow, Row]], list[tuple[TableRow, Row | None]]]:
    """Do the work of a shard, or all, in processes or on a cluster.

    Given are the rows of the run's own part, and of the whole table, each with its result, None for
    what other shards have still to do. ``make`` gives a row's work for so many threads, 0 for one
    per core. What other shards have finished is not done again. The record is named after the first
    of the tables that all rows together give; a shard that has work to do withdraws these, as they
    list what is being made. Messages name the ``source`` of the rows.

    A TableError names rows that would write the same files, an OutputError what stands in the way
    that no extraction made; others are those of :func:`~dvos.runner.tasks.run_tasks`.
    """
    if settings.scheduler is not None:
        # Workers on other machines start in other folders.
        rows = [replace(row, **{n: placed(x) for n, x in vars(row).items()}) for row in rows]
    own = part_of(rows, settings.shard)
    # Several processes share the cores: each works with one thread.
    alone = settings.scheduler is None and min(worker_count(settings.workers), len(own)) == 1
    work = [make(settings, row, 0 if alone else 1) for row in rows]
    of_videos = isinstance(settings, FramesSettings)
    # Which column tells the outputs of rows apart.
    column = "FramesDir" if of_videos else "OutDir"
    _check_outputs(source, work, column)
    manifest = manifest_path(shard_table(tables[0], settings.shard))
    _check_place(manifest, part_of(work, settings.shard))
    _check_tables(tables, settings.shard)
    _check_sources(tables[0], manifest, work, column)
    for table in tables:
        make_folder(table.parent)
    tasks = [one.task for one in work]
    known = manifests_of(tables[0])
    part = part_of(tasks, settings.shard)
    if others := [path for path in known if path != manifest]:
        adopt(part, manifest, others)

    def withdraw() -> None:
        # Without a record beside them they are none of this command.
        if settings.shard is not None and known:
            for path in tables:
                path.unlink(missing_ok=True)

    with cluster_executor(settings.scheduler) as executor:
        done = run_tasks(
            function,
            part,
            manifest=manifest,
            description="extract frames" if of_videos else "extract objects",
            workers=settings.workers,
            executor=executor,
            unit="video" if of_videos else "still",
            begin=withdraw,
        )
    whole = done if settings.shard is None else gather(tasks, manifests_of(tables[0]))
    return list(zip(own, done, strict=True)), list(zip(rows, whole, strict=True))


def _check_outputs(source: Path, work: Sequence[Work[Any]], column: str) -> None:
    """See that no two rows of a table would write the same files."""
    sources = defaultdict(list)
    for one in work:
        sources[f"{real_path(one.folders[0])}/{one.stem}{one.first}"].append(str(one.source))
    with FaultCollector(TableError) as faults:
        for output, names in sources.items():
            if len(names) > 1:
                found = f"{' and '.join(names)} would both write {output}"
                faults.add(source, found, "names of their own", f"give each its own {column}")


def _check_place(manifest: Path, work: Sequence[Work[Any]]) -> None:
    """See that a first extraction writes over nothing; a later one restores changed names."""
    if manifest.exists():
        for one in work:
            for folder in one.folders if not one.stem.isascii() else ():
                restore_names(folder, one.is_of)
        return
    records = _records(manifest.parent)
    first = [min(one.present(), default=None) for one in work]
    refuse_foreign((x for x in first if x and not _is_noted(x, records)), "dvos extract")


def _check_tables(tables: Sequence[Path], shard: str | None) -> None:
    """See that no table is written over that no extraction made.

    The record beside the first tells of that one; of the others, which extractions into one folder
    may share, what they list does.
    """
    parts = [shard_table(table, shard) for table in tables]
    known = {tables[0]: bool(manifests_of(tables[0]))}
    if shard is not None:  # one with nothing to do leaves no record of its own
        known[parts[0]] = manifest_path(parts[0]).exists() or _is_bare(parts[0])
    with FaultCollector(OutputError) as faults:
        for table in tables:
            if not table.suffix:  # as of the folder that frames or patches go to
                found, expected = "is the name of a folder", "that of a CSV table"
                faults.add(table, found, expected, f"give {table.name}.csv")
    records = _records(tables[0].parent)
    others = {*tables[1:], *parts[1:]}
    foreign = [first for first, is_known in known.items() if not is_known]
    foreign += (x for x in sorted(others) if not _is_own(x, records, is_known=any(known.values())))
    refuse_foreign(foreign, "dvos extract")


def _is_bare(table: Path) -> bool:
    """Whether a table has a header such as ours, and no row that could be a user's."""
    with suppress(TableError):
        return table.is_file() and [row[:1] for row in read_records(table)] == [["Image"]]
    return False


def _records(folder: Path) -> bytes:
    """What all extractions have noted in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob(".*.ledger.jsonl")))


def _is_noted(path: Path, records: bytes) -> bool:
    return json.dumps(composed(path.name)).encode()[1:-1] in records


def _is_own(table: Path, records: bytes, *, is_known: bool) -> bool:
    """Whether a table whose first column are files lists those of extractions.

    Where the extraction ``is_known``, some do: damaged records may lack others.
    """
    with suppress(TableError):  # one of ours can be read
        rows = read_records(table)[1:] if table.is_file() else []
        noted = [bool(row) and _is_noted(Path(row[0]), records) for row in rows]
        return any(noted) or not noted if is_known else bool(records) and all(noted)
    return False


def _check_sources(table: Path, manifest: Path, work: Sequence[Work[Any]], column: str) -> None:
    """See that neither files nor a table of other sources are written over, as in a loop."""
    with FaultCollector(OutputError) as faults:
        for book in map(Manifest, manifest.parent.glob(".*.ledger.jsonl")):
            for one in work:
                if (other := book.other_source(one.task)) is not None:
                    found = f"{one.folders[0]} holds what was extracted of {other}"
                    remedy = f"give another {column}, or rename it"
                    faults.add(one.source, found, "a name of its own", remedy)
        if table.exists() and Manifest(manifest).knows_none([one.task for one in work]):
            found = "lists what was extracted of other files"
            faults.add(table, found, "", "choose another place, remove it, or give all together")
