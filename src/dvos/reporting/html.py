"""``dvos report``: one self-contained HTML page about a run."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from dvos.config.report import ReportSettings
from dvos.files import write_text
from dvos.reporting.contents import RunContents
from dvos.reporting.gather import gather
from dvos.reporting.learning import curves_section
from dvos.reporting.markup import Html, element, join, paragraph
from dvos.reporting.material import clips_section, cutouts_section, diet_section, stills_section
from dvos.reporting.numbers import moment
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


def write_report(settings: ReportSettings) -> Path:
    """Write the report of a run.

    The page holds its pictures, plots and style; it asks for nothing from
    elsewhere. The same run gives the same bytes. Parts that the run does not
    have are left out and named at the end of the page, and so is a picture
    that is missing or damaged.

    Args:
        settings: The run's folder, the page's place and its pictures' size.

    Returns:
        The page written.

    Raises:
        UsageError: If the folder holds no run.
        TableError: If a table or JSON file of the run is damaged.
        OutputError: If the page cannot be written.
    """
    contents = gather(settings.run, frames=settings.frames)
    page = _page_path(settings)
    title = settings.title or f"DVOS run {settings.run.resolve().name}"
    write_text(page, _document(title, list(_sections(contents, settings, page)), contents))
    return page


def _page_path(settings: ReportSettings) -> Path:
    if settings.out is None:
        return settings.run / "report.html"
    return settings.out / "report.html" if settings.out.is_dir() else settings.out


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


def _document(title: str, sections: list[Section], contents: RunContents) -> str:
    shown = [section for section in sections if section.content is not None]
    absent = [section for section in sections if section.content is None]
    style = files("dvos.reporting").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", attributes={"charset": "utf-8"}),
        element(
            "meta",
            attributes={"name": "viewport", "content": "width=device-width, initial-scale=1"},
        ),
        element("meta", attributes={"name": "color-scheme", "content": "light dark"}),
        element("title", title),
        # The style is ours and must not be escaped: it has ">" in selectors.
        element("style", Html(style)),
    )
    main = element("main", [section.render() for section in shown], _left_out(absent))
    body = element("body", _masthead(title, contents), _contents_list(shown), main)
    return f"<!doctype html>\n{element('html', head, body, attributes={'lang': 'en'})}\n"


def _masthead(title: str, contents: RunContents) -> Html:
    history = contents.history
    facts = []
    if history and history.finished:
        facts.append(f"finished {moment(history.finished)}")
    if history and history.seed is not None:
        facts.append(f"seed {history.seed}")
    line = "Dense-pattern video object segmentation" + "".join(f" · {fact}" for fact in facts)
    return element("header", element("h1", title), paragraph(line))


def _contents_list(shown: list[Section]) -> Html:
    links = [
        element("li", element("a", section.title, attributes={"href": f"#{section.key}"}))
        for section in shown
    ]
    return element("nav", element("ol", links), attributes={"aria-label": "Contents"})


def _left_out(absent: list[Section]) -> Html | None:
    if not absent:
        return None
    lines = [
        element("li", element("strong", section.title), f": {section.absent}.")
        for section in absent
    ]
    lead = paragraph("Parts that this run does not have.", cls="lead")
    content = join(element("h2", "Not in this report"), lead, element("ul", lines))
    return element("section", content, attributes={"id": "left-out"})
