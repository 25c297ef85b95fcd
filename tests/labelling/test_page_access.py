"""The page for those who use no mouse, see little or nothing, or are refused something."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from page_served import SIZE, accessible, coloured, disc, saved, text_of
from page_support import PROGRAM

from browser import find_browser
from dvos.errors import UsageError

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="needs chromium, as Debian's package of that name installs it"
)


def test_caps_lock_changes_no_key(served, open_tab):
    server, masks = served()
    tab = open_tab(server.address)
    tools = ("select", "find", "erase", "polygon", "split", "unknown", "pan", "brush")
    for key, tool in zip("VCEPXUHB", tools, strict=True):
        tab.press(key, caps_lock=True)
        assert tab.evaluate("labelPage.tools.name") == tool
    tab.drag((30, 20))
    tab.idle()
    tab.press("Z", caps_lock=True)
    tab.until("labelPage.outbox.idle && labelPage.state.count === 0")
    tab.press("z", caps_lock=True)  # with Shift
    tab.until("labelPage.outbox.idle && labelPage.state.count === 1")
    tab.press("Z", caps_lock=True, control=True)
    tab.until("labelPage.outbox.idle && labelPage.state.count === 0")
    tab.press("Y", caps_lock=True, control=True)
    tab.until("labelPage.outbox.idle && labelPage.state.count === 1")
    assert np.array_equal(saved(server, masks) == 1, disc(9, (20, 30)))
    tab.press("O", caps_lock=True)
    assert tab.evaluate("labelPage.over") is True


def test_frames_have_names_that_tell_whether_they_are_labelled(served, open_tab):
    server, _ = served()
    tab = open_tab(server.address)

    def names():
        return [name for role, name in accessible(tab, "#strip") if role == "button"]

    assert names() == ["frame 1, photo1", "frame 2, photo2"]
    tab.drag((30, 20))
    tab.idle()
    assert names() == ["frame 1, photo1, labelled", "frame 2, photo2"]
    tab.press("n")
    tab.until("labelPage.index === 1 && labelPage.outbox.idle")
    assert names() == ["frame 1, photo1, labelled", "frame 2, photo2, labelled"]


def test_no_text_has_an_objects_colour(served, open_tab):
    """Which may be near the ground's: a dot has it, beside the object's number."""
    mask = np.zeros(SIZE, np.uint16)
    mask[10:30, 10:50] = 7
    server, _ = served(mask)
    tab = open_tab(server.address)
    tab.press("v")
    tab.drag((20, 20))
    assert text_of(tab, "selected").startswith("● 7 ")
    assert coloured(tab, "selected") == [["●", True]]


def test_what_is_refused_of_a_training_is_told_in_its_dialog(
    served, open_tab, tmp_path, monkeypatch
):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr("dvos.labelling.work._PROGRAM", (sys.executable, str(program)))
    server, _ = served(np.zeros(SIZE, np.uint16))
    tab = open_tab(server.address)
    tab.press("r")
    problem = "document.getElementById('train-problem')"
    assert tab.evaluate(f"{problem}.hidden && {problem}.closest('dialog').open") is True
    minutes = "document.getElementById('minutes')"

    # What the browser itself can check is asked for before anything is sent.
    for value in ("0", "1.5", "10001", ""):
        tab.evaluate(
            f"{minutes}.value = {value!r}; window.invalid = 0;"
            f"{minutes}.oninvalid = () => {{ window.invalid += 1 }}"
        )
        tab.click("train-start")
        assert tab.evaluate("[window.invalid, document.activeElement.id]") == [1, "minutes"]
    assert server.labels.workshop.status()["kind"] == ""
    tab.evaluate("document.querySelector('#train button:last-child').click()")
    assert tab.evaluate("document.getElementById('train').open") is False
    tab.press("r")

    # What the server refuses.
    tab.evaluate(f"{minutes}.removeAttribute('max'); {minutes}.value = 10001")
    tab.click("train-start")
    told = "minutes: found 10001; expected a whole number from 1 to 10000"
    tab.until(f"{problem}.textContent === {told!r} && {problem}.checkVisibility()")
    assert ("alert", "") in accessible(tab, "#train")
    assert tab.evaluate("document.getElementById('notice').textContent") == ""

    # What the training itself ends with.
    tab.evaluate(f"{minutes}.value = 7")
    tab.click("train-start")
    tab.until(f"{problem}.textContent === 'no stills are labelled; label some'")
    tab.until(f"{problem}.checkVisibility() && !document.getElementById('train-start').hidden")
    assert text_of(tab, "work-state") == "Failed"

    # Of what cannot be stopped as well, also while it is asked every second how it gets on.
    tab.evaluate(f"{minutes}.value = 9")
    tab.click("train-start")
    tab.until("labelPage.work.running")
    assert tab.evaluate(f"{problem}.hidden") is True

    def fail(*_):
        raise UsageError("cannot be stopped")

    with monkeypatch.context() as patch:
        patch.setattr(server.labels.workshop, "stop", fail)
        tab.click("train-stop")
        tab.until(f"{problem}.textContent === 'cannot be stopped' && {problem}.checkVisibility()")
    tab.click("train-stop")
    tab.until("!labelPage.work.running")

    # Outside of the dialog it is told as all else is.
    tab.evaluate("document.getElementById('train').close()")
    tab.evaluate(f"{minutes}.value = 7; document.getElementById('train-start').click()")
    tab.until("document.getElementById('notice').textContent.startsWith('no stills are labelled')")
