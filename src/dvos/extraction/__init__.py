"""Frames from videos; cutouts and distractors from labelled stills.

Here stands what both share: random streams, and the run over the rows of a table.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.errors import FaultCollector, TableError
from dvos.files import refuse_foreign
from dvos.runner import (
    Row,
    Task,
    adopt,
    cluster_executor,
    gather,
    manifest_path,
    manifests_of,
    part_of,
    restore_names,
    run_tasks,
    shard_table,
)

T = TypeVar("T")


def named_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Random stream of a named thing, whatever the order or process it is met in."""
    text = "\0".join(map(str, names)).encode("utf-8", "surrogateescape")
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return np.random.default_rng([seed, key])


def check_outputs(table: Path, outputs: Iterable[tuple[Path, str]], setting: str) -> None:
    """See that no two rows of a table would write the same files.

    Args:
        table: The table.
        outputs: Of each row what is read, and the files it gives.
        setting: Column of the table that tells them apart.

    Raises:
        TableError: With a fault for each group of such rows.
    """
    sources = defaultdict(list)
    for source, output in outputs:
        sources[output].append(source)
    with FaultCollector(TableError) as faults:
        for output, names in sources.items():
            if len(names) > 1:
                faults.add(
                    table,
                    f"{' and '.join(map(str, names))} would both write {output}",
                    "names of their own",
                    f"give each its own {setting}",
                )


def check_foreign(manifest: Path, found: Iterable[Iterable[Path]]) -> None:
    """See that a first extraction writes over nothing that none beside it made.

    Args:
        manifest: Where its record is to be; with one it goes on, and nothing is checked.
        found: For each row the files that stand where its own will.

    Raises:
        OutputError: With the first such file of each row.
    """
    if manifest.exists():
        return
    records = b"".join(path.read_bytes() for path in manifest.parent.glob(".*.ledger.jsonl"))
    first = [min(files, default=None) for files in found]
    refuse_foreign(
        (x for x in first if x and json.dumps(x.name).encode()[1:-1] not in records),
        "dvos extract",
    )


def restore_earlier(manifest: Path, places: Iterable[tuple[Path, str]]) -> None:
    """Restore the names of what an earlier extraction wrote, see :mod:`dvos.runner.names`.

    Args:
        manifest: Its record; without one nothing is taken for its work.
        places: Folders, and how its files in each begin.
    """
    for folder, stem in places if manifest.exists() else ():
        if not stem.isascii():
            restore_names(folder, partial(_is_of, stem))


def _is_of(stem: str, name: str) -> bool:
    return name.startswith((f"{stem}_", f".{stem}."))


@dataclass(frozen=True)
class Extracted:
    """What a run gave.

    Attributes:
        own: A result for each row of its part.
        all: A result for each row of the table; None for one that other shards have still to do.
    """

    own: list[Row]
    all: list[Row | None]

    @property
    def missing(self) -> int:
        """Rows that other shards have still to do."""
        return self.all.count(None)


def run_extraction(
    function: Callable[[T], dict[str, Any]],
    tasks: Sequence[Task[T]],
    settings: FramesSettings | ObjectsSettings,
    tables: Sequence[Path],
    *,
    description: str,
    unit: str,
) -> Extracted:
    """Do the tasks of a shard, or all, in processes or on a cluster.

    What other shards have finished is not done again.

    Args:
        function: As of :func:`~dvos.runner.run_tasks`.
        tasks: One for each row.
        settings: Which part of them is done, and where.
        tables: Those that all rows together give; the record is named after the first. A shard
            that has work to do withdraws them, as they list what is being made.
        description: Shown before the progress.
        unit: What a row is, for the progress.

    Raises:
        DvosError: As :func:`~dvos.runner.run_tasks` does.
        UsageError: If the cluster cannot be reached.
    """
    table = tables[0]
    manifest = manifest_path(shard_table(table, settings.shard))
    known = manifests_of(table)
    part = part_of(tasks, settings.shard)
    others = [path for path in known if path != manifest]
    if others:
        adopt(part, manifest, others)

    def withdraw() -> None:
        # Without a record beside them they are none of this command.
        if settings.shard is not None and known:
            for path in tables:
                path.unlink(missing_ok=True)

    with ExitStack() as stack:
        executor = None
        if settings.scheduler is not None:
            executor = stack.enter_context(cluster_executor(settings.scheduler))
        own = run_tasks(
            function,
            part,
            manifest=manifest,
            description=description,
            workers=settings.workers,
            executor=executor,
            unit=unit,
            begin=withdraw,
        )
    return Extracted(
        own, list(own) if settings.shard is None else gather(tasks, manifests_of(table))
    )
