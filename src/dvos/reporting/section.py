"""The parts of a page: a section, its figures, and notes on what could not be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec

import numpy as np
import numpy.typing as npt

from dvos.errors import MediaError
from dvos.reporting.markup import Content, Html, element, join, paragraph
from dvos.reporting.pictures import data_uri

P = ParamSpec("P")

__all__ = ["Gallery", "Section", "details", "photo", "plots"]


@dataclass(frozen=True)
class Section:
    """One section of the report.

    Attributes:
        key: Its anchor in the page.
        title: Its heading.
        lead: A sentence that says what is shown.
        content: Its body; None where the run has nothing for it.
        absent: Said at the end of the page where ``content`` is None.
    """

    key: str
    title: str
    lead: Content
    content: Html | None
    absent: str

    def render(self) -> Html:
        """The section as a page shows it; only for one with content."""
        heading = element("h2", self.title)
        lead = paragraph(self.lead, cls="lead")
        return element("section", heading, lead, self.content, attributes={"id": self.key})


class Gallery:
    """Figures of one section, with a line for each that could not be made.

    Args:
        cls: Class of the list of figures: ``two``, ``pairs``, ``strip`` or ``film``.
    """

    def __init__(self, cls: str) -> None:
        self._cls = cls
        self._figures: list[Html] = []
        self._faults: list[str] = []

    def add(self, make: Callable[P, Html | list[Html]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add what ``make`` gives, or a note where a picture is missing or damaged."""
        try:
            made = make(*args, **kwargs)
        except MediaError as error:
            self._faults += [str(fault) for fault in error.faults]
            return
        self._figures += made if isinstance(made, list) else [made]

    def note(self, text: str) -> None:
        """Add a line on something that is not shown."""
        self._faults.append(text)

    def render(self) -> Html:
        """The figures and the notes below them."""
        figures = element("div", self._figures, cls=self._cls) if self._figures else None
        notes = [element("li", text) for text in dict.fromkeys(self._faults)]
        told = join(paragraph("Not shown:"), element("ul", notes)) if notes else None
        return join(figures, element("div", told, cls="notes") if told else None)


def photo(pictures: Sequence[tuple[npt.NDArray[np.uint8], str]], caption: Content) -> Html:
    """A figure of one or more pictures.

    Args:
        pictures: Each (H, W, 3) uint8 RGB, with the words for those who cannot see it.
        caption: What stands below.
    """
    images = []
    for pixels, words in pictures:
        attributes: dict[str, str | None] = {
            "src": data_uri(pixels),
            "alt": words,
            "width": str(pixels.shape[1]),
            "height": str(pixels.shape[0]),
        }
        images.append(element("img", attributes=attributes))
    return element("figure", images, element("figcaption", caption))


def plots(*drawn: tuple[str, Html] | None) -> Html:
    """Plots side by side, or one below the other on a phone, each with its title above."""
    shown = [
        element("figure", element("figcaption", title), drawing)
        for title, drawing in (one for one in drawn if one)
    ]
    return element("div", shown, cls="plots")


def details(summary: str, *content: Content) -> Html:
    """Something long that is folded away on a screen and unfolded on paper."""
    return element("details", element("summary", summary), *content)
