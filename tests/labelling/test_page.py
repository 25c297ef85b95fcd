"""The page in a real browser: labelled, corrected, reloaded, cut off, and opened twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_served import SIZE, Served, accessible, coloured, disc, saved, text_of
from page_support import PROGRAM, photo

from browser import find_browser
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="needs chromium, as Debian's package of that name installs it"
)


@pytest.fixture
def opened(open_tab):
    """Opens tabs here, not stores."""
    return open_tab


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_a_still_is_labelled_from_nothing_in_hard_pixels(served, opened, ratio):
    """Whatever the scaling of the display: the mask has the picture's size and the brush's disc."""
    server, masks = served()
    tab = opened(server.address, ratio=ratio)
    tab.drag((30, 20))
    tab.press("Escape")
    tab.drag((80, 60), (90, 60))
    tab.idle()
    mask = saved(server, masks)
    assert mask.shape == SIZE
    assert np.array_equal(mask == 1, disc(9, (20, 30)))
    assert np.array_equal(mask == 2, disc(9, *((60, column) for column in range(80, 91))))
    assert np.unique(mask).tolist() == [0, 1, 2]
    assert np.array_equal(np.array(tab.ids()), mask)


def test_a_prediction_is_corrected_with_all_tools(served, opened):
    mask = np.zeros(SIZE, np.uint16)
    mask[10:30, 10:50], mask[40:60, 60:70], mask[70:80, 10:20] = 1, 2, 3
    server, masks = served(mask)
    tab = opened(server.address)
    assert np.array_equal(np.array(tab.ids()), mask)
    tab.press("x")
    tab.drag((30, 5), (30, 35))
    tab.idle()
    tab.press("v")
    tab.drag((65, 50))
    tab.press("Delete")
    tab.idle()
    tab.press("p", "Escape")
    for pixel in ((60, 60), (100, 60), (100, 80), (60, 80)):
        tab.drag(pixel)
    tab.press("Enter")
    tab.idle()
    tab.press("u", "Escape")
    tab.drag((15, 75))
    tab.press("c")
    tab.drag((100, 20))
    tab.idle()
    ids = saved(server, masks)
    assert {*np.unique(ids[10:30, 10:50])} == {1, 4}
    assert (ids[10:30, 10:30] == ids[10, 10]).all()
    assert not (ids == 2).any()
    assert (ids[62:79, 62:99] == 5).all()
    assert (ids[16:25, 96:105] == 6).all()
    assert (ids[70:80, 10:20] == 3).all()  # unknown was painted on background alone
    assert np.array_equal(np.array(tab.ids()), ids)
    assert (masks.parent / "masks_before_editing" / "photo1.png").is_file()


def test_what_is_drawn_again_in_part_is_as_if_drawn_whole(served, opened):
    mask = np.zeros(SIZE, np.uint16)
    mask[20:60, 20:80] = 2
    server, _ = served(mask)
    tab = opened(server.address)
    tab.press("o")
    for line in (((10, 10), (60, 50)), ((79, 20), (85, 70)), ((119, 89), (100, 89))):
        tab.drag(*line)
        tab.press("Escape")
    tab.drag((50, 30), (52, 30))
    tab.until("[...labelPage.view.looks.values()].every(look => !look.stale)")
    differing = tab.evaluate(
        "[...labelPage.view.looks.values()].map(look => { const whole = new OffscreenCanvas(1, 1);"
        "labelPage.mask.render(whole, look.level, look.row, look.column);"
        "const data = c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const [a, b] = [data(look.canvas), data(whole)];"
        "return a.length - b.length + a.filter((value, n) => value !== b[n]).length })"
    )
    assert differing == [0] * len(differing)


def test_everything_can_be_done_by_the_keyboard(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.press("b", "ArrowRight", "Enter", *["ArrowRight"] * 3, "Enter")
    tab.idle()
    assert np.count_nonzero(tab.ids()) > 81
    tab.press("z")
    tab.idle()
    assert not np.count_nonzero(tab.ids())
    tab.press("Z")
    tab.idle()
    tab.press("Escape", "v", "Enter", "Delete")
    tab.idle()
    assert not saved(server, masks).any()
    tab.press("PageDown")
    tab.until("labelPage.index === 1 && labelPage.view.frame === 1")
    tab.press("?")
    assert tab.evaluate("document.getElementById('help').open")


def test_what_is_painted_over_comes_back_with_undo_and_after_a_reload(served, opened):
    mask = np.zeros(SIZE, np.uint16)
    mask[20:60, 20:80] = 2
    server, masks = served(mask)
    tab = opened(server.address)
    tab.press("o")
    tab.drag((40, 40))
    tab.idle()
    assert np.array_equal(np.array(tab.ids()) == 3, disc(9, (40, 40)))
    tab.press("z")
    tab.idle()
    tab.go(server.address)
    assert np.array_equal(np.array(tab.ids()), mask)
    assert np.array_equal(saved(server, masks), mask)


#: Answers to edits are held back until they are let through.
HOLD = (
    "{ const { fetch } = window; let held = Promise.resolve(), go = () => {};"
    "window.hold = () => { held = new Promise((done) => { go = done }) };"
    "window.letThrough = () => go();"
    "window.fetch = async (...asked) => { const answer = await fetch(...asked);"
    "if (asked[1]?.method === 'POST') await held; return answer } }"
)


def test_objects_drawn_faster_than_they_are_answered_get_ids_of_their_own(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.evaluate(HOLD + "hold()")
    tab.drag((30, 20))
    tab.press("Escape")
    x, y = tab.place(60, 20)
    mouse = {"x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
    tab.call("Input.dispatchMouseEvent", type="mousePressed", **mouse)
    tab.evaluate("letThrough()")
    tab.until("labelPage.state.revision === 1")
    tab.evaluate("hold()")
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", **mouse)
    tab.press("Escape")
    tab.drag((90, 20))
    tab.press("Escape", "x")
    tab.drag((30, 10), (30, 30))  # the server gives the part an id that the page does not know
    tab.press("Escape", "b")
    tab.drag((60, 60))
    tab.drag((66, 60))  # of the same object
    tab.evaluate("letThrough()")
    tab.until("document.getElementById('notice').textContent.includes('2 strokes are kept')")
    tab.evaluate("document.querySelector('#notice button').click()")
    tab.until("labelPage.outbox.idle && labelPage.state.revision === 6")
    ids = saved(server, masks)
    assert np.array_equal(np.array(tab.ids()), ids)
    assert np.unique(ids).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(np.isin(ids, [1, 4]), disc(9, (20, 30)))
    assert np.array_equal(np.isin(ids, [2, 3]), disc(9, (20, 60), (20, 90)))
    assert np.array_equal(ids == 5, disc(9, (60, 60), (60, 66)))


def test_ids_of_strokes_that_wait_are_not_given_again(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.evaluate("labelPage.outbox.send = async () => {}")  # as if nobody answered
    for column in (30, 60):
        tab.drag((column, 20))
        tab.press("Escape")
    tab.evaluate("labelPage.open(1)")
    tab.until("labelPage.index === 1")
    tab.evaluate("labelPage.open(0)")
    tab.until("labelPage.index === 0")
    tab.drag((90, 20))
    tab.evaluate("delete labelPage.outbox.send; labelPage.outbox.send()")
    tab.idle()
    assert np.unique(saved(server, masks)).tolist() == [0, 1, 2, 3]


def test_what_two_tabs_could_not_send_outlives_both(served, opened):
    """Each keeps its own strokes in the browser; the ids that both gave become two objects."""
    server, masks = served()
    first = opened(server.address)
    second = first.second(server.address)
    for tab, column in ((first, 30), (second, 60), (first, 90)):
        tab.evaluate("labelPage.outbox.send = async () => {}")  # as if nobody answered
        tab.press("Escape")
        tab.drag((column, 20))
    second.call("Page.navigate", url="about:blank")
    first.go(server.address)
    first.until("document.getElementById('notice').textContent.includes('2 strokes are kept')")
    first.go(server.address)  # and a reload before that is answered
    first.until("document.getElementById('notice').textContent.includes('2 strokes are kept')")
    first.evaluate("document.querySelector('#notice button').click()")
    first.until("labelPage.outbox.idle && labelPage.state.revision === 3")
    expected = disc(9, (20, 30)) + 2 * disc(9, (20, 60)) + 3 * disc(9, (20, 90))
    assert np.array_equal(saved(server, masks), expected)
    assert first.evaluate("localStorage.length") == 0


def test_what_follows_a_refused_edit_is_done(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.evaluate(HOLD + "hold()")
    tab.drag((30, 20))
    tab.press("k")  # it has one part alone: nothing to part
    tab.press("Escape")
    tab.drag((60, 20))
    tab.evaluate("letThrough()")
    tab.until("labelPage.outbox.idle && labelPage.state.revision === 2")
    assert np.array_equal(saved(server, masks), disc(9, (20, 30)) + 2 * disc(9, (20, 60)))


def test_two_tabs_are_told_and_lose_nothing(served, opened):
    server, masks = served()
    first = opened(server.address)
    second = first.second(server.address)
    first.drag((30, 20))
    first.idle()
    second.drag((80, 60))
    second.until("document.getElementById('notice').textContent.includes('another tab')")
    second.idle()
    assert np.array_equal(saved(server, masks) == 1, disc(9, (20, 30)))
    second.evaluate("document.querySelector('#notice button').click()")
    second.until("labelPage.outbox.idle && labelPage.state.revision === 2")
    # Each tab's object was 1 to it; they stay two.
    both = disc(9, (20, 30)) + 2 * disc(9, (60, 80))
    assert np.array_equal(saved(server, masks), both)
    assert np.array_equal(np.array(second.ids()), both)


def test_a_second_tab_sees_what_the_first_has_done_when_it_is_looked_at(served, opened):
    server, _ = served()
    tab = opened(server.address)
    with server.labels.store.sheet(0):
        pass
    everything, fours = np.s_[0 : SIZE[0], 0 : SIZE[1]], np.full(SIZE, 4, np.uint16)
    server.labels.store.edit(0, lambda ids: (everything, fours), token="x")
    tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    tab.until("labelPage.mask.idAt(50, 50) === 4")


def test_a_mask_that_another_program_changed_is_told_and_no_stroke_lost(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.drag((30, 20))
    tab.idle()
    server.labels.store.flush()
    theirs = np.where(disc(9, (60, 80)), 77, 0).astype(np.uint16)
    write_mask(masks / "photo1.png", theirs)
    tab.press("Escape")
    tab.drag((50, 20))
    notice = "document.getElementById('notice').textContent"
    tab.until(
        f"{notice}.includes('by another program') && {notice}.includes('stroke is kept here')"
    )
    assert np.array_equal(np.array(tab.ids()), theirs)
    assert np.array_equal(saved(server, masks), theirs)
    tab.evaluate("document.querySelector('#notice button').click()")
    tab.until("labelPage.outbox.idle && labelPage.state.revision === 3")
    both = theirs + 78 * disc(9, (20, 50))
    assert np.array_equal(saved(server, masks), both)
    # Without a stroke it is seen when its window is come back to.
    write_mask(masks / "photo1.png", theirs)
    tab.evaluate("window.dispatchEvent(new Event('focus'))")
    tab.until(
        f"{notice} === 'photo1 was changed by another program: that is shown now, '"
        "+ 'and undo begins anew'"
    )
    assert np.array_equal(np.array(tab.ids()), theirs)


def test_a_stroke_that_another_programs_mask_has_replaced_is_not_shown_as_saved(served, opened):
    """It was acknowledged, and not saved when that mask came."""
    server, masks = served()
    store = server.labels.store
    tab = opened(server.address)
    tab.drag((30, 20))
    tab.idle()
    store.flush()
    submit, store._saver.submit = store._saver.submit, lambda *_: None
    tab.drag((50, 20))
    tab.idle()
    theirs = np.full(SIZE, 77, np.uint16)
    write_mask(masks / "photo1.png", theirs)
    store.flush()
    tab.evaluate("window.dispatchEvent(new Event('focus'))")
    tab.until("document.getElementById('notice').textContent.includes('latest edits were saved')")
    assert np.array_equal(np.array(tab.ids()), theirs)
    store._saver.submit = submit


def test_tracks_of_different_frames_are_joined_and_exported(opened, run, tmp_path):
    """The parts of a track that was lost for a while are never seen in one frame."""
    tracks = run / "film" / "tracks"
    for number in range(4):
        ids = read_mask(tracks / f"{number:03d}.png")
        ids[20:30, 20:30] = 2 if number < 2 else 7
        write_mask(tracks / f"{number:03d}.png", ids)
    server = Served(run)
    tab = opened(server.address)
    is_shown = "!document.getElementById('clip-section').hidden"
    assert tab.evaluate(is_shown + " && document.getElementById('clip-join').disabled")
    tab.press("v")
    tab.drag((25, 25))
    tab.evaluate("labelPage.open(3)")
    tab.drag((25, 25), modifiers=8)
    assert tab.evaluate("labelPage.chosen") == [2, 7]
    tab.click("clip-join")
    tab.until("document.getElementById('notice').textContent === '2 frames changed'")
    server.labels.store.flush()
    assert [read_mask(tracks / f"{number:03d}.png")[25, 25] for number in range(4)] == [2] * 4
    # With another tool what is selected stays behind.
    tab.drag((25, 25))
    tab.press("b")
    tab.evaluate("labelPage.open(2)")
    assert tab.evaluate("labelPage.chosen") == []
    server.close()


def test_the_next_frame_and_a_reload_keep_the_strokes(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.drag((30, 20))
    tab.press("n")
    tab.go(server.address)  # at once: neither frame need have been shown
    tab.idle()
    for name in ("photo1", "photo2"):
        assert np.array_equal(saved(server, masks, name) == 1, disc(9, (20, 30)))


def test_what_is_done_while_a_frame_is_loading_is_done_to_the_one_shown(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.evaluate(
        "{ const { read } = labelPage; labelPage.read = async (index) => {"
        "await new Promise((go) => { labelPage.release = go });"
        "return read.call(labelPage, index) } }"
    )
    tab.press("PageDown")
    assert tab.evaluate("[labelPage.strip.current, labelPage.index]") == [1, 0]
    tab.press("b")
    tab.drag((30, 20))
    tab.press("p")
    tab.drag((50, 30))  # a polygon's first corner, which is not one of the next frame's
    tab.evaluate("labelPage.release()")
    tab.until("labelPage.index === 1 && labelPage.view.frame === 1")
    assert tab.evaluate("labelPage.tools.points") == []
    assert not np.count_nonzero(tab.ids())
    assert np.array_equal(saved(server, masks) == 1, disc(9, (20, 30)))
    assert not (masks / "photo2.png").exists()


def test_a_frame_that_cannot_be_read_leaves_the_one_before(served, opened):
    server, masks = served()
    tab = opened(server.address)
    tab.drag((30, 20))
    tab.idle()
    (masks.parent.parent / "photo2.png").write_bytes(b"no picture")
    tab.press("PageDown")
    tab.until("document.getElementById('notice').textContent.includes('photo2')")
    assert tab.evaluate("[labelPage.strip.current, labelPage.index]") == [0, 0]
    assert np.array_equal(np.array(tab.ids()) == 1, disc(9, (20, 30)))


def test_three_thousand_objects_on_twelve_million_pixels(served, opened, tmp_path):
    """Each action is drawn, answered and done: what is measured is in the benchmark."""
    folder = tmp_path / "large"
    ids = np.zeros((3000, 4000), np.uint16)
    for number in range(3000):
        row, column = divmod(number, 60)
        ids[row * 60 : row * 60 + 40, column * 66 : column * 66 + 50] = number + 1
    write_image(folder / "annotated" / "images" / "a.jpg", np.zeros((3000, 4000, 3), np.uint8))
    write_mask(folder / "annotated" / "masks" / "a.png", ids)
    large = Served(folder)
    try:
        tab = opened(large.address)
        assert tab.evaluate("labelPage.state.count") == 3000
        tab.press("v")
        tab.drag((20, 20))
        tab.press("Delete")
        tab.idle()
        assert tab.evaluate("labelPage.state.count") == 2999
        assert tab.evaluate("labelPage.mask.idAt(20, 20)") == 0
    finally:
        large.close()


def test_a_server_killed_in_the_middle_of_a_stroke_loses_nothing(opened, tmp_path):
    """The strokes sent are on disk; the one under way is sent when it is there again."""
    folder = tmp_path / "data"
    write_image(folder / "photo1.png", photo(1, SIZE))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def start():
        command = [sys.executable, "-m", "dvos", "label", str(folder), "--port", str(port)]
        running = subprocess.Popen(
            [*command, "--no-browser"], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        told = [running.stdout.readline() for _ in range(2)]
        return running, told[1].split()[1]

    running, address = start()
    tab = opened(address)
    tab.drag((30, 20))
    tab.idle()
    tab.press("Escape")
    x, y = tab.place(80, 60)
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", buttons=1)
    running.send_signal(signal.SIGKILL)
    running.wait()
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left")
    tab.until("labelPage.outbox.offline")
    assert "1 stroke kept here" in tab.evaluate("document.getElementById('saved').textContent")
    running, again = start()
    assert again == address
    tab.go(address)
    tab.idle()
    expected = disc(9, (20, 30)) + 2 * disc(9, (60, 80))
    assert np.array_equal(np.array(tab.ids()), expected)
    running.send_signal(signal.SIGINT)
    assert running.wait() == 0
    running.stdout.close()
    assert np.array_equal(read_mask(folder / "annotated" / "masks" / "photo1.png"), expected)


def test_pictures_of_a_server_that_is_started_again_are_its_own(served, opened, tmp_path):
    """Frames have other numbers by then: a picture that the browser has kept is another's."""
    addresses = (
        "performance.getEntriesByType('resource').map(one => one.name)"
        ".filter(name => /thumbnail|tiles/.test(name))"
    )
    seen = []
    for _ in range(2):
        server, _masks = served()
        tab = opened(server.address)
        tab.until(addresses + ".length >= 3")
        seen.append({one.partition("?")[2] for one in tab.evaluate(addresses)})
        assert len(seen[-1]) == 1
    assert seen[0] != seen[1]


def test_it_is_trained_from_the_page_corrected_and_trained_again(
    served, opened, tmp_path, monkeypatch
):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr("dvos.labelling.work._PROGRAM", (sys.executable, str(program)))
    server, masks = served(np.zeros(SIZE, np.uint16))
    runs = tmp_path / "data" / "runs"
    tab = opened(server.address)
    tab.press("r")
    assert text_of(tab, "train-count") == "1 frame"
    # Eight minutes: it waits to be told to go on, so that it is seen at work.
    tab.evaluate("document.getElementById('minutes').value = 8")
    tab.click("train-start")
    tab.until("document.getElementById('curves-key').textContent.includes('dice')")
    assert text_of(tab, "curves-key").count("—") == 2
    assert coloured(tab, "curves-key") == [["—", True]] * 2
    shown = "Curves by epoch: train loss lowest 1.5, highest 2.5, last 1.5; "
    shown += "dice lowest 0.4, highest 0.4, last 0.4"
    assert accessible(tab, "#curves") == [("image", shown)]
    assert text_of(tab, "said").startswith("fit ")
    assert text_of(tab, "work-state").startswith("Training: ")
    assert text_of(tab, "train-open") == "Training"
    (runs / "001" / "go").touch()
    tab.until("document.getElementById('layer').options.length === 2")
    assert text_of(tab, "work-state").startswith("Done")
    tab.evaluate("document.getElementById('train').close()")
    # The new predictions are outlined, and counted, without a further step.
    tab.until("labelPage.mask.other?.[5 * labelPage.mask.width + 5]")
    tab.until("document.getElementById('counts-key').textContent")
    assert text_of(tab, "counts-key") == "— training 001 2  "
    first = "Counts by frame: training 001 lowest 2, highest 2, last 2"
    assert accessible(tab, "#counts") == [("image", first)]
    tab.press("t")
    tab.until("labelPage.outbox.idle && labelPage.state.count === 2")
    assert np.unique(saved(server, masks)).tolist() == [0, 1, 2]

    tab.press("Escape", "b")
    tab.drag((80, 60))  # an object that was missed
    tab.until("labelPage.outbox.idle && labelPage.state.count === 3")
    tab.press("Escape", "r")
    tab.evaluate("document.getElementById('minutes').value = 1")
    tab.click("train-start")
    tab.until("document.getElementById('layer').options.length === 3")
    tab.evaluate("document.getElementById('train').close()")
    start = str(runs / "001" / "best.safetensors")
    assert (runs / "002.log").read_text().splitlines()[0].endswith(f"--start {start}")
    # The new ones have a third object; the old ones are there to be compared.
    third = "labelPage.mask.other?.[42 * labelPage.mask.width + 5]"
    tab.until(third)
    assert text_of(tab, "counts-key") == "— training 001 2  — training 002 3  "
    both = first + "; training 002 lowest 3, highest 3, last 3"
    assert accessible(tab, "#counts") == [("image", both)]
    choose = "(list => { list.value = '0'; list.dispatchEvent(new Event('change')) })"
    tab.evaluate(choose + "(document.getElementById('layer'))")
    tab.until(f"labelPage.mask.other && !{third}")
    assert np.unique(saved(server, masks)).tolist() == [0, 1, 2, 3]
    if folder := os.environ.get("PAGE_PICTURES"):
        tab.picture(Path(folder) / "page-trained-twice.png")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 780)])
def test_nothing_is_cut_off_at_any_width(served, opened, width, height, dark):
    """Every control lies in the window or in a part that scrolls; pictures go to PAGE_PICTURES."""
    server, _ = served()
    tab = opened(server.address, width=width, height=height, dark=dark, mobile=width < 500)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = tab.evaluate(
        "[...document.querySelectorAll('header *, main *, footer > *')].filter(e => {"
        "const b = e.getBoundingClientRect(); return b.width && (b.left < 0 || b.right > innerWidth"
        "|| b.bottom > innerHeight) }).map(e => e.id || e.tagName)"
    )
    assert outside == []
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 26, 24)") is dark
    if folder := os.environ.get("PAGE_PICTURES"):
        tab.picture(Path(folder) / f"page-{width}-{'dark' if dark else 'light'}.png")
