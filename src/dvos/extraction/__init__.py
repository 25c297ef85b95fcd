"""Frames from videos; cutouts and distractors from labelled stills.

Here stands what makes both the same again: random streams, names of manifests.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dvos.errors import FaultCollector, TableError
from dvos.files import refuse_foreign


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


def manifest_path(table: Path) -> Path:
    """Where the record of finished work stands: hidden, beside the table it leads to."""
    return table.with_name(f".{table.name}.ledger.jsonl")


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
