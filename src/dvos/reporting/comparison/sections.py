"""The sections of a comparison, in the order of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dvos.errors import DvosError, Fault, FaultCollector, TableError, UsageError
from dvos.reporting.comparison.courses import counts_section, curves_section
from dvos.reporting.comparison.figures import figures_section, paired_section
from dvos.reporting.comparison.match import match_frames
from dvos.reporting.comparison.pictures import frames_section
from dvos.reporting.comparison.runs import Run, name_runs, runs_section
from dvos.reporting.comparison.setup import environment_section, settings_section, times_section
from dvos.reporting.contents import RunContents
from dvos.reporting.gather import gather
from dvos.reporting.section import Section

__all__ = ["compared_sections", "gather_runs"]


def gather_runs(folders: Sequence[Path], *, frames: Path | None = None) -> tuple[Run, ...]:
    """Read everything of several runs but their pictures.

    Args:
        folders: The runs' folders; the others are compared with the first.
        frames: As :func:`~dvos.reporting.gather.gather` takes it.

    Raises:
        UsageError: If a folder is named twice, does not exist or holds no run.
        TableError: If a table or JSON file of a run is damaged; with the
            faults of all runs.
    """
    contents: list[RunContents] = []
    errors: list[DvosError] = []
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            told = "is named twice", "another run", "name each run once"
            errors.append(UsageError.at(folder, *told))
            continue
        seen.add(folder.resolve())
        try:
            contents.append(gather(folder, frames=frames))
        except (UsageError, TableError) as error:
            errors.append(error)
    faults: list[Fault] = [fault for error in errors for fault in error.faults]
    if faults:
        usage = any(isinstance(error, UsageError) for error in errors)
        raise (UsageError if usage else TableError)(faults)
    return name_runs(contents)


def compared_sections(runs: Sequence[Run], *, shown: int, width: int) -> list[Section]:
    """Everything that a page on several runs shows.

    Args:
        runs: At least two.
        shown: Frames whose pictures are set side by side at most.
        width: Pixels across a picture.

    Raises:
        TableError: If a settings file is no YAML.
    """
    matched = match_frames(runs)
    with FaultCollector(TableError) as faults:
        return [
            runs_section(runs),
            figures_section(runs),
            paired_section(runs, matched),
            curves_section(runs),
            frames_section(runs, matched, shown=shown, width=width),
            counts_section(runs),
            settings_section(runs, faults),
            times_section(runs),
            environment_section(runs),
        ]
