"""Which domain, such as a field, a year or a camera, each mask belongs to."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvos.errors import FaultCollector, TableError, UsageError
from dvos.tables.cells import read_cells

if TYPE_CHECKING:
    from dvos.scoring.match import Pair

__all__ = ["assign_domains", "read_domains"]

_COLUMN = "Domain"


def read_domains(table: Path) -> dict[tuple[str, int], str]:
    """Domain by (VID, FID) from the column ``Domain`` of a sound table of clips.

    Returns:
        The domains, empty texts where a cell is empty; no entry at all where
        the table has no such column.
    """
    with open(table, encoding="utf-8-sig", newline="") as stream:
        header = [name.strip() for name in next(csv.reader(stream), [])]
    if _COLUMN not in header:
        return {}
    with FaultCollector(TableError) as faults:
        return {
            (cells.text("VID"), cells.integer("FID", minimum=0)): cells.text(
                _COLUMN, required=False
            )
            for cells in read_cells(table, ("VID", "FID", _COLUMN), faults)
        }


def assign_domains(pairs: Sequence[Pair], pattern: str | None) -> list[str] | None:
    """Name the domain of each pair.

    Args:
        pairs: The pairs, with the domains that a table gave.
        pattern: Regular expression searched for in ``<clip>/<frame>``; its
            first group, or all that it matches, is the domain. None: as the
            table says.

    Returns:
        The domains, or None where there is neither pattern nor column.

    Raises:
        UsageError: If a pair has none, with a fault for each such pair.
    """
    if pattern is None and not any(pair.domain for pair in pairs):
        return None
    with FaultCollector(UsageError) as faults:
        return [_domain(pair, pattern, faults) for pair in pairs]


def _domain(pair: Pair, pattern: str | None, faults: FaultCollector) -> str:
    if pattern is None:
        if not pair.domain:
            faults.add(pair.truth, "its row has no Domain", "a name", "fill the column for all")
        return pair.domain
    name = f"{pair.clip}/{pair.name}"
    found = re.search(pattern, name)
    domain = "" if found is None else found[1] if found.re.groups else found[0]
    if not domain:
        remedy = "widen the regular expression of the setting domain"
        faults.add(pair.truth, f"{name} has no domain", f"a match of {pattern}", remedy)
    return domain or ""
