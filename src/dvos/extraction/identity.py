"""What makes a piece of work the same again: random streams, fingerprints, manifest names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

__all__ = ["file_stamp", "manifest_path", "named_rng"]


def named_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Random stream of a named thing, whatever the order or process it is met in."""
    text = "\0".join(map(str, names)).encode("utf-8", "surrogateescape")
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return np.random.default_rng([seed, key])


def file_stamp(path: Path) -> list[int]:
    """Size and time of change: tells an edited file apart without reading it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def manifest_path(table: Path) -> Path:
    """Where the record of finished work stands: hidden, beside the table it leads to."""
    return table.with_name(f".{table.name}.ledger.jsonl")
