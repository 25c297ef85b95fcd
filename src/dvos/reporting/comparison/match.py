"""Finds the frames that several runs were scored on."""

from __future__ import annotations

import filecmp
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvos.reporting.comparison.runs import Run
from dvos.reporting.contents import ScoredMask

__all__ = ["Matched", "differing_truth", "match_frames"]


@dataclass(frozen=True)
class Matched:
    """A frame that every run was scored on.

    Attributes:
        name: Clip and frame, as far as needed to tell it from the others.
        clip: Folder of its mask.
        masks: Its row in each run's table.
    """

    name: str
    clip: str
    masks: tuple[ScoredMask, ...]

    def dice(self, index: int) -> float:
        """Dice in a run; NaN where it has none."""
        value = self.masks[index].dice
        return math.nan if value is None else value

    @property
    def complete(self) -> bool:
        """Whether it has a Dice in every run."""
        return all(mask.dice is not None for mask in self.masks)

    @property
    def spread(self) -> float:
        """Greatest difference of Dice between two runs; NaN where one has none."""
        values = [self.dice(index) for index in range(len(self.masks))]
        return max(values) - min(values) if self.complete else math.nan


def match_frames(runs: Sequence[Run]) -> list[Matched]:
    """The frames in the table of every run, in the order of the first.

    Runs may have copies of their own of the truth, so it is the end of the
    mask's path that is compared: folder and name, and more of it only where
    these occur twice in a run.
    """
    tables = [run.contents.scored for run in runs]
    if not all(tables):
        return []
    deepest = min(len(mask.mask.resolve().parts) for table in tables for mask in table)
    depth = 2
    while depth < deepest and not all(_unique(table, depth) for table in tables):
        depth += 1
    rows = [{_key(mask, depth): mask for mask in table} for table in tables]
    return [
        Matched("/".join((*key[:-1], Path(key[-1]).stem)), key[-2], tuple(row[key] for row in rows))
        for key in rows[0]
        if all(key in row for row in rows)
    ]


def differing_truth(frames: Sequence[Matched]) -> int:
    """How many frames have another truth in one run than in another; files gone are passed over."""
    return sum(any(_differ(one.masks[0].mask, mask.mask) for mask in one.masks) for one in frames)


def _key(mask: ScoredMask, depth: int) -> tuple[str, ...]:
    return mask.mask.resolve().parts[-depth:]


def _unique(table: Sequence[ScoredMask], depth: int) -> bool:
    return len({_key(mask, depth) for mask in table}) == len(table)


def _differ(one: Path, other: Path) -> bool:
    if one.resolve() == other.resolve() or not (one.is_file() and other.is_file()):
        return False
    return not filecmp.cmp(one, other, shallow=False)
