"""The pages in a real browser: screens light and dark, a phone, paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from browser import NAMES, Browser, Tab, find_browser
from dvos.config.scoring import ReportSettings
from dvos.reporting.html import write_report

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason=f"no browser on PATH: none of {', '.join(NAMES)}"
)

#: Every measure a test asks for, taken in one go. What scrolls in its own box may be wider.
MEASURE = """(() => {
  const wide = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.table') || e.classList.contains('skip')) continue;
    const box = e.getBoundingClientRect();
    if (box.width && box.right > innerWidth + 1) wide.push(e.tagName + ' ' + box.right);
  }
  const images = [...document.images];
  const details = [...document.querySelectorAll('details > :not(summary)')];
  const figures = [...document.querySelectorAll('figure')];
  return {
    width: document.documentElement.scrollWidth,
    screen: innerWidth,
    wide: wide.slice(0, 5),
    images: images.length,
    broken: images.filter(i => !i.complete || !i.naturalWidth || !i.clientWidth).length,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    folded: details.filter(e => !e.checkVisibility({contentVisibilityAuto: true})
                                || !e.getBoundingClientRect().height).length,
    details: details.length,
    tallest: Math.max(...figures.map(e => e.getBoundingClientRect().height)),
    breakable: figures.filter(e => getComputedStyle(e).breakInside != 'avoid').length,
    scrolling: [...document.querySelectorAll('body *')].filter(e =>
      !e.closest('.table') && e.scrollWidth > e.clientWidth + 1 &&
      ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).length,
  };
})()"""

#: Brings a scored frame into sight, and gives its place on the screen.
PICTURE = """(() => {
  const image = document.querySelectorAll('.pairs img, .versus img')[1];
  image.scrollIntoView({block: 'center', behavior: 'instant'});
  const box = image.getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom].map(Math.round);
})()"""

VIEWS: dict[str, dict[str, Any]] = {
    "desktop, light": {"width": 1280},
    "desktop, dark": {"width": 1280, "dark": True},
    "tablet, light": {"width": 768, "mobile": True},
    "phone, light": {"width": 360, "height": 740, "mobile": True},
}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert PROGRAM
    running = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield Tab(running, domains=("Page", "Runtime", "Network", "Log"))
    running.close()


@pytest.fixture(scope="module", params=["one run", "two runs"])
def page(
    request: pytest.FixtureRequest,
    finished_run: Path,
    second_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    compare = [second_run] if request.param == "two runs" else []
    out = tmp_path_factory.mktemp("page")
    return write_report(ReportSettings(run=finished_run, compare=compare, out=out))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("view", VIEWS)
def test_page_on_a_screen(tab: Tab, page: Path, view: str) -> None:
    settings = VIEWS[view]
    tab.show(page, **settings)
    seen = tab.evaluate(MEASURE)
    assert seen["screen"] == settings["width"]
    assert seen["width"] == settings["width"], seen["wide"]
    assert seen["wide"] == []
    assert seen["images"] > 10
    assert seen["broken"] == 0
    if "phone" in view:
        assert seen["scrolling"] == 0
    assert tab.failures() == []
    outside = [address for address in tab.requests() if not address.startswith("data:")]
    assert outside == [page.resolve().as_uri()]
    shot = pixels(tab.screenshot())
    assert shot.shape[1] == settings["width"]
    ground = np.median(shot.reshape(-1, 3), axis=0)
    dark = settings.get("dark", False)
    assert (ground < 60).all() if dark else (ground > 220).all()
    # Neither blank nor unreadable: letters stand out from the ground.
    distance = np.abs(shot.astype(int) - ground.astype(int)).max(axis=2)
    assert 0.01 < (distance > 100).mean() < 0.6
    left, top, right, bottom = tab.evaluate(PICTURE)
    picture = pixels(tab.screenshot())[max(0, top) : bottom, left:right]
    assert picture.size
    assert picture.std() > 15


def test_page_on_paper_is_light_unfolded_and_uncut(tab: Tab, page: Path) -> None:
    # 180 mm across: A4 less the margins. Printed from a dark screen it is light all the same.
    tab.show(page, width=680, media="print", dark=True)
    seen = tab.evaluate(MEASURE)
    assert seen["paper"] == "rgb(255, 255, 255)"
    assert seen["ink"] == "rgb(0, 0, 0)"
    assert seen["width"] == 680, seen["wide"]
    assert seen["details"] > 0
    assert seen["folded"] == 0
    assert seen["breakable"] == 0
    assert seen["tallest"] < 1000  # 265 mm, the height of a page less its margins
    printed = tab.pdf()
    assert printed.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
    assert len(re.findall(rb"/Subtype\s*/Image", printed)) >= 10


def test_keyboard_reaches_the_results_first(tab: Tab, page: Path) -> None:
    tab.show(page, width=1280)
    tab.call("Page.bringToFront")
    for kind in ("rawKeyDown", "keyUp"):
        tab.call(
            "Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9
        )
    focus = """(() => {
      const e = document.activeElement, box = e.getBoundingClientRect();
      return [e.className, box.left >= 0 && box.right <= innerWidth,
              getComputedStyle(e).outlineStyle];
    })()"""
    assert tab.evaluate(focus) == ["skip", True, "solid"]
