"""HTML put together from small calls, with every text escaped.

Plain strings given to :func:`element` are text and are escaped; only a
:class:`Html`, which the functions here return, passes as it is. So a clip
named ``<script>`` is shown, never run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeAlias

__all__ = ["Content", "Html", "element", "join", "paragraph", "table"]

#: Elements that have no content and no closing tag.
_VOID: Final = frozenset({"br", "hr", "img", "link", "meta", "wbr"})


class Html(str):
    """Markup that is already safe to stand in a page."""

    __slots__ = ()


Content: TypeAlias = str | Iterable["Content"] | None


def join(*content: Content) -> Html:
    """Concatenate content; text is escaped, ``None`` is dropped, lists are flattened."""
    parts: list[str] = []
    for piece in content:
        if piece is None:
            continue
        if isinstance(piece, Html):
            parts.append(piece)
        elif isinstance(piece, str):
            parts.append(escape(piece, quote=False))
        else:
            parts.append(join(*piece))
    return Html("".join(parts))


def element(
    name: str, *content: Content, attributes: dict[str, str | None] | None = None, cls: str = ""
) -> Html:
    """One element.

    Args:
        name: Tag name.
        content: Children, as in :func:`join`.
        attributes: Attributes by name; ``""`` gives a bare attribute, ``None`` none.
        cls: Class names, as they are the commonest attribute and a reserved word.
    """
    opening = name + (f' class="{escape(cls)}"' if cls else "")
    for key, value in (attributes or {}).items():
        if value is not None:
            opening += f' {key}="{escape(value)}"' if value else f" {key}"
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*content)}</{name}>")


def paragraph(*content: Content, cls: str = "") -> Html:
    """One paragraph."""
    return element("p", *content, cls=cls)


def table(
    caption: str,
    header: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    *,
    numeric: Iterable[int],
) -> Html:
    """A table whose first cell of each row is that row's heading.

    Args:
        caption: What the table shows, one line.
        header: Column headings.
        rows: Cells of each row.
        numeric: Indices of columns set flush right in tabular numerals.
    """
    right = frozenset(numeric)
    head = [
        element("th", text, attributes={"scope": "col"}, cls="number" if index in right else "")
        for index, text in enumerate(header)
    ]
    body = [
        element(
            "tr",
            [
                element("th", cell, attributes={"scope": "row"})
                if index == 0
                else element("td", cell, cls="number" if index in right else "")
                for index, cell in enumerate(row)
            ],
        )
        for row in rows
    ]
    inner = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", head)),
        element("tbody", body),
    )
    # A wide table scrolls inside its own box on a phone, not the whole page;
    # the box can be reached and scrolled by keyboard.
    attributes: dict[str, str | None] = {"role": "region", "aria-label": caption, "tabindex": "0"}
    return element("div", inner, cls="table", attributes=attributes)
