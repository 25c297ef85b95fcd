"""Several runs: names for them, the frames that all were scored on, and how they differ there."""

from __future__ import annotations

import filecmp
import math
import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvos.errors import FaultCollector, TableError, UsageError
from dvos.files import real_path
from dvos.reporting.contents import RunContents, ScoredMask
from dvos.reporting.gather import check_run, gather

_DRAWS = 2000
_LEVEL = 0.95
_SEED = 123


@dataclass(frozen=True)
class Run:
    """One of the runs compared."""

    letter: str  # ``A`` for the first, to which the others are compared.
    name: str  # The end of its folder's path, as much as tells it from the others.
    contents: RunContents  # What it left behind.

    @property
    def label(self) -> str:
        """Letter and name, as in the names of lines."""
        return f"{self.letter} {self.name}"


def gather_runs(folders: Sequence[Path], *, frames: Path | None = None) -> tuple[Run, ...]:
    """Read everything of several runs, of which the others are compared with the first.

    Raises:
        UsageError: If a folder is named twice, does not exist or holds no run.
        TableError: If tables or JSON files of the runs are damaged.
    """
    with FaultCollector(UsageError) as usage:
        for place, folder in enumerate(folders):
            usage.collect(check_run, folder)
            if real_path(folder) in map(real_path, folders[:place]):
                usage.add(folder, "is named twice", remedy="name each run once")
    with FaultCollector(TableError) as faults:
        found = [faults.collect(gather, folder, frames=frames) for folder in folders]
    return name_runs([one for one in found if one])


def name_runs(contents: Sequence[RunContents]) -> tuple[Run, ...]:
    """Name each run by the end of its folder's path."""
    paths = [real_path(one.folder).parts for one in contents]
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    return tuple(
        Run(letter, "/".join(path[-depth:]), one)
        for letter, path, one in zip(string.ascii_uppercase, paths, contents, strict=False)
    )


@dataclass(frozen=True)
class Matched:
    """A frame that every run was scored on."""

    name: str  # Clip and frame, as far as needed to tell it from the others.
    clip: str  # Folder of its mask.
    masks: tuple[ScoredMask, ...]  # Its row in each run's table.

    @property
    def dice(self) -> list[float]:
        """Dice in each run; NaN where it has none."""
        return [math.nan if mask.dice is None else mask.dice for mask in self.masks]

    @property
    def complete(self) -> bool:
        """Whether it has a Dice in every run."""
        return all(map(math.isfinite, self.dice))

    @property
    def spread(self) -> float:
        """Greatest difference of Dice between two runs."""
        return max(self.dice) - min(self.dice)

    @property
    def differs(self) -> bool:
        """Whether a run has another truth than the first; files that are gone are passed over."""
        first, *others = (mask.mask for mask in self.masks)
        return any(
            real_path(first) != real_path(other)
            and os.path.isfile(first)  # noqa: PTH113
            and os.path.isfile(other)  # noqa: PTH113
            and not filecmp.cmp(first, other, shallow=False)
            for other in others
        )


def match_frames(runs: Sequence[Run]) -> list[Matched]:
    """The frames in every run's table, by as much of the end of the truth's path as needed."""
    tables = [{real_path(mask.mask).parts: mask for mask in run.contents.scored} for run in runs]
    if not all(tables):
        return []
    deepest = min(len(path) for table in tables for path in table)
    depth = 2
    while depth < deepest and any(
        len({p[-depth:] for p in table}) < len(table) for table in tables
    ):
        depth += 1
    rows = [{path[-depth:]: mask for path, mask in table.items()} for table in tables]
    return [
        Matched("/".join((*key[:-1], Path(key[-1]).stem)), key[-2], tuple(row[key] for row in rows))
        for key in rows[0]
        if all(key in row for row in rows)
    ]


@dataclass(frozen=True)
class Paired:
    """Difference of a run to the first, over frames scored in both."""

    mean: float  # Mean difference of Dice.
    low: float | None  # Lower end of its 95 % interval; None for a single frame.
    high: float | None  # Upper end.
    unit: str  # What was drawn again: ``clip`` or ``frame``.
    units: int  # How many of them there were.
    frames: int  # Frames compared.
    above: int  # Frames on which the run is above the first.
    below: int  # Frames on which it is below.


def paired_difference(frames: Sequence[Matched], index: int) -> Paired:
    """Compare run ``index``, from 1, with the first, on at least one frame with a Dice in both.

    The interval is a percentile bootstrap of the paired differences (Efron 1979). Frames of a clip
    resemble each other, so whole clips are drawn; single frames where there is only one clip. The
    seed is fixed, so that the same runs give the same page.
    """
    steps = np.array([one.dice[index] - one.dice[0] for one in frames])
    clips = np.unique([one.clip for one in frames], return_inverse=True)[1]
    several = int(clips.max()) > 0
    groups = clips if several else np.arange(len(steps))
    sums, sizes = np.bincount(groups, weights=steps), np.bincount(groups)
    low = high = None
    if len(sums) > 1:
        rng = np.random.default_rng(_SEED)
        draws = (rng.integers(0, len(sums), len(sums)) for _ in range(_DRAWS))
        means = [sums[chosen].sum() / sizes[chosen].sum() for chosen in draws]
        low, high = map(float, np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]))
    return Paired(
        mean=float(steps.mean()),
        low=low,
        high=high,
        unit="clip" if several else "frame",
        units=len(sums),
        frames=len(steps),
        above=int((steps > 0).sum()),
        below=int((steps < 0).sum()),
    )
