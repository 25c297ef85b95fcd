"""``totals.csv``: distinct objects of each clip, and how many a square metre of ground holds."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class TotalRow:
    """Distinct objects of a clip, or of a region of it, in ``totals.csv``.

    ``region`` is empty for the whole clip; ``low`` and ``high`` are the ends of the interval of
    95 %, ``area_m2`` the ground that was seen, ``per_m2`` distinct objects on each square metre of
    it, both None where the size of a pixel on the ground is not known.
    """

    clip: str
    region: str
    distinct: int
    low: int
    high: int
    area_m2: float | None
    per_m2: float | None
    frames: int


#: The header of ``totals.csv``.
TOTAL_COLUMNS = tuple(field.name for field in fields(TotalRow))
