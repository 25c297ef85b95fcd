"""The page round the sections: head, style, list of contents, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from dvos.reporting.markup import Html, element, join, paragraph
from dvos.reporting.section import Section

__all__ = ["document"]


def document(title: str, line: str, sections: Sequence[Section]) -> str:
    """A whole page as HTML.

    Args:
        title: Its heading.
        line: What stands below the heading.
        sections: Those with content are shown, the others named at the end.
    """
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
        # Without it a browser asks for a favicon wherever the page lies.
        element("link", attributes={"rel": "icon", "href": "data:,"}),
        element("title", title),
        # The style is ours and must not be escaped: it has ">" in selectors.
        element("style", Html(style)),
    )
    skip = element("a", "Skip to the results", cls="skip", attributes={"href": "#main"})
    header = element("header", element("h1", title), paragraph(line))
    main = element(
        "main",
        [section.render() for section in shown],
        _left_out(absent),
        attributes={"id": "main", "tabindex": "-1"},
    )
    body = element("body", skip, header, _contents_list(shown), main)
    return f"<!doctype html>\n{element('html', head, body, attributes={'lang': 'en'})}\n"


def _contents_list(shown: Sequence[Section]) -> Html:
    links = [
        element("li", element("a", section.title, attributes={"href": f"#{section.key}"}))
        for section in shown
    ]
    return element("nav", element("ol", links), attributes={"aria-label": "Contents"})


def _left_out(absent: Sequence[Section]) -> Html | None:
    if not absent:
        return None
    lines = [
        element("li", element("strong", section.title), f": {section.absent}.")
        for section in absent
    ]
    lead = paragraph("Parts for which there is nothing to show.", cls="lead")
    content = join(element("h2", "Not in this report"), lead, element("ul", lines))
    return element("section", content, attributes={"id": "left-out"})
