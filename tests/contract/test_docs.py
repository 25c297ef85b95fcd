"""The pages for people: each is in the site's contents, and every link leads to a file."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name
from urllib.parse import unquote

import pytest
import yaml

from dvos.config.commands import COMMANDS, function_name
from dvos.synthesis.compositor import SyntheticClip

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAME = re.compile(r"(?<![\w./-])dvos(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"^ *from (dvos[\w.]*) import ([\w, ]+)$", re.MULTILINE)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_of_python_are_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it tells of what is gone, too")
    text = page.read_text(encoding="utf-8")
    names = {*NAME.findall(text)}
    for module, imported in IMPORT.findall(text):
        names |= {f"{module}:{name.strip().partition(' as ')[0]}" for name in imported.split(",")}
    missing = []
    for name in sorted(names):
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []


def test_every_command_but_two_is_a_function() -> None:
    for command in COMMANDS:
        assert callable(resolve_name(f"dvos:{function_name(command)}"))


def test_the_attributes_of_a_clip_are_those_that_it_has() -> None:
    page = (ROOT / "docs/reference/synthesis.md").read_text(encoding="utf-8")
    section = page.split("## The clip\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert "frames" in told
    of_fields = {field.name for field in fields(SyntheticClip)}
    assert [x for x in told if x not in of_fields and not hasattr(SyntheticClip, x)] == []
