"""The pages for people: each is in the site's contents, and every link leads to a file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def listed(entries: list[object]) -> list[str]:
    """The pages of a part of the site's contents."""
    pages: list[str] = []
    for entry in entries:
        what = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages += listed(what) if isinstance(what, list) else [str(what)]
    return pages


def test_the_site_lists_each_page_once() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = listed(site["nav"])
    assert sorted(pages) == sorted(set(pages))
    there = {p.relative_to(ROOT / "docs").as_posix() for p in ROOT.glob("docs/**/*.md")}
    assert set(pages) == there
    assert site["strict"]
    assert site["theme"]["font"] is False


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    own = [unquote(link) for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in own if not (page.parent / link).exists()] == []
