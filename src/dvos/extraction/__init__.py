"""Frames from videos; cutouts and distractors from labelled stills.

Here stands what both share: random streams, and the run over the rows of a table.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from dvos import runner
from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.errors import FaultCollector, TableError
from dvos.files import make_folder, real_path, refuse_foreign, stem_of
from dvos.runner import Row, Task, manifest_path, manifests_of, part_of

T = TypeVar("T")


def named_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Random stream of a named thing, whatever the order or process it is met in."""
    text = "\0".join(map(str, names)).encode("utf-8", "surrogateescape")
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return np.random.default_rng([seed, key])


@dataclass(frozen=True)
class Work(Generic[T]):
    """What a row of a table asks for: files in ``folders`` whose names begin with the source's."""

    source: Path
    folders: tuple[Path, ...]
    first: str  # How the first file ends, in messages
    files: str  # How those in the first folder end, as a pattern
    task: Callable[[int], Task[T]]  # Makes the task, of so many threads, 0 for one per core
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


@dataclass(frozen=True)
class Extracted:
    """A result for each row of a run's ``own`` part, and of the whole table."""

    own: list[Row]
    all: list[Row | None]  # None for rows that other shards have still to do

    @property
    def missing(self) -> int:
        """Rows that other shards have still to do."""
        return self.all.count(None)


def run_extraction(
    function: Callable[[T], dict[str, Any]],
    work: Sequence[Work[T]],
    settings: FramesSettings | ObjectsSettings,
    tables: Sequence[Path],
    *,
    source: Path,
    column: str,
    unit: str,
) -> Extracted:
    """Do the work of a shard, or all, in processes or on a cluster.

    What other shards have finished is not done again. The record is named after the first of the
    tables that all rows together give; a shard that has work to do withdraws these, as they list
    what is being made. ``source`` and ``column`` say in messages what the rows come from, and which
    column of it tells their outputs apart; ``unit`` is what a row is.

    A TableError names rows that would write the same files, an OutputError what stands in the way
    that no extraction made; others are those of :func:`~dvos.runner.run_tasks`.
    """
    _check_outputs(source, work, column)
    own = part_of(work, settings.shard)
    manifest = manifest_path(runner.shard_table(tables[0], settings.shard))
    _check_place(manifest, own)
    for table in tables:
        make_folder(table.parent)
    # Several processes share the cores: each works with one thread.
    count = min(runner.worker_count(settings.workers), len(own))
    tasks = [one.task(0 if count == 1 and settings.scheduler is None else 1) for one in work]
    known = manifests_of(tables[0])
    part = part_of(tasks, settings.shard)
    if others := [path for path in known if path != manifest]:
        runner.adopt(part, manifest, others)

    def withdraw() -> None:
        # Without a record beside them they are none of this command.
        if settings.shard is not None and known:
            for path in tables:
                path.unlink(missing_ok=True)

    with runner.cluster_executor(settings.scheduler) as executor:
        done = runner.run_tasks(
            function,
            part,
            manifest=manifest,
            description="extract frames" if unit == "video" else "extract objects",
            workers=settings.workers,
            executor=executor,
            unit=unit,
            begin=withdraw,
        )
    if settings.shard is None:
        return Extracted(done, list(done))
    return Extracted(done, runner.gather(tasks, manifests_of(tables[0])))


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
                runner.restore_names(folder, one.is_of)
        return
    records = b"".join(path.read_bytes() for path in manifest.parent.glob(".*.ledger.jsonl"))
    first = [min(one.present(), default=None) for one in work]
    foreign = (x for x in first if x and json.dumps(x.name).encode()[1:-1] not in records)
    refuse_foreign(foreign, "dvos extract")
