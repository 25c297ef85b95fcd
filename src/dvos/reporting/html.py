"""``dvos report``: one self-contained HTML page about a run, or about several side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dvos.config.report import ReportSettings
from dvos.files import write_text
from dvos.reporting.comparison.sections import compared_sections, gather_runs
from dvos.reporting.contents import RunContents
from dvos.reporting.gather import gather
from dvos.reporting.learning import curves_section
from dvos.reporting.material import clips_section, cutouts_section, diet_section, stills_section
from dvos.reporting.numbers import moment
from dvos.reporting.page import document
from dvos.reporting.provenance import (
    environment_section,
    files_section,
    reproduce_section,
    run_section,
)
from dvos.reporting.results import extremes_section, headline_section, scores_section
from dvos.reporting.section import Section
from dvos.reporting.target import counts_section, film_section

__all__ = ["write_report"]

_SUBJECT = "Dense-pattern video object segmentation"


def write_report(settings: ReportSettings) -> Path:
    """Write the report of a run, or of several runs side by side.

    The page holds its pictures, plots and style; it asks for nothing from
    elsewhere. The same run gives the same bytes. Parts that the run does not
    have are left out and named at the end of the page, and so is a picture
    that is missing or damaged.

    Args:
        settings: The runs' folders, the page's place and its pictures' size.

    Returns:
        The page written.

    Raises:
        UsageError: If a folder holds no run or is named twice.
        TableError: If a table or JSON file of a run is damaged.
        OutputError: If the page cannot be written.
    """
    page = _page_path(settings)
    write_text(page, _comparison(settings) if settings.compare else _single(settings, page))
    return page


def _page_path(settings: ReportSettings) -> Path:
    # The page on one run stays when runs are compared.
    name = "comparison.html" if settings.compare else "report.html"
    if settings.out is None:
        return settings.run / name
    return settings.out / name if settings.out.is_dir() else settings.out


def _single(settings: ReportSettings, page: Path) -> str:
    contents = gather(settings.run, frames=settings.frames)
    title = settings.title or f"DVOS run {settings.run.resolve().name}"
    return document(title, _line(contents), list(_sections(contents, settings, page)))


def _comparison(settings: ReportSettings) -> str:
    runs = gather_runs((settings.run, *settings.compare), frames=settings.frames)
    title = settings.title or f"DVOS runs {', '.join(run.name for run in runs)}"
    sections = compared_sections(runs, shown=settings.compared_frames, width=settings.picture_width)
    return document(title, f"{_SUBJECT} · {len(runs)} runs side by side", sections)


def _sections(contents: RunContents, settings: ReportSettings, page: Path) -> Iterator[Section]:
    width = settings.picture_width
    yield headline_section(contents)
    yield run_section(contents)
    yield stills_section(contents, shown=settings.stills, width=width)
    yield cutouts_section(contents, shown=settings.sprites, width=width)
    yield clips_section(contents, shown=settings.clips, width=width)
    yield diet_section(contents)
    yield curves_section(contents)
    yield scores_section(contents)
    yield extremes_section(contents, width)
    yield counts_section(contents)
    yield film_section(contents, shown=settings.film_frames, width=2 * width // 3)
    yield environment_section(contents)
    yield files_section(contents, page)
    yield reproduce_section(contents)


def _line(contents: RunContents) -> str:
    history = contents.history
    facts = []
    if history and history.finished:
        facts.append(f"finished {moment(history.finished)}")
    if history and history.seed is not None:
        facts.append(f"seed {history.seed}")
    return _SUBJECT + "".join(f" · {fact}" for fact in facts)
