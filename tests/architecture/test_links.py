"""Every link of the documents leads to a file that is there, and to a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", flags=re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Names that the headings of a document get on GitHub."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", text, flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = sum(1 for one in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", one))
        found.add(f"{name}-{count}" if count else name)
    return found


def broken(document: Path) -> list[str]:
    """Links of a document that lead nowhere; those to the web are not followed."""
    text = _CODE.sub("", document.read_text("utf-8"))
    found = []
    for link in (one or other for one, other in _LINK.findall(text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        place = (document.parent / unquote(name)).resolve() if name else document
        missing = not place.exists() or not place.is_relative_to(ROOT)
        if missing or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert broken(document) == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`: c\n[x](gone.md) ![y](gone.png) [z](#a-b-c) [v](#a-c)\n"
        "[w](https://example.org) `[code](gone.md)`\n[ref]: also-gone.md\n",
        encoding="utf-8",
    )
    assert broken(page) == ["gone.md", "gone.png", "#a-c", "also-gone.md"]
