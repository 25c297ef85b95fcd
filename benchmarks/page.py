"""What the labelling page costs: opening a long video and a large photo, and each action.

Processor time of server and page, and the page's memory, in a real browser (chromium)::

    python benchmarks/page.py --out page.json
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import uvicorn

from dvos.labelling.documents import open_document
from dvos.labelling.proposals import Helper, Proposer
from dvos.labelling.server import Guard, LabelServer
from dvos.labelling.work import Workshop
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from facts import machine, write_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "labelling"))
from page_browser import open_page

from browser import Browser, find_browser

TOKEN = "t" * 43
FILM_FRAMES = 10_000
#: Whether all tiles in sight are drawn.
SEEN = (
    "labelPage.view.pictures.size > 0"
    " && [...labelPage.view.pictures.values()].every(tile => tile.bitmap)"
)
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def make_film(folder):
    """A video of many frames, each a little further than the one before."""
    pattern = np.zeros((96, 128, 3), np.uint8)
    pattern[::8], pattern[:, ::9] = 200, 90
    with VideoWriter(folder / "film.mp4", frame_rate=25, size=(96, 128)) as writer:
        for number in range(FILM_FRAMES):
            writer.write(np.roll(pattern, number, 1))
    return folder / "film.mp4"


def make_large(folder, suffix):
    """A photo of 12,000 x 9,000."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    path = folder / f"large{suffix}" / f"photo{suffix}"
    write_image(path, cv2.resize(noise, (12_000, 9_000)), quality=90)
    return path.parent


def make_crowded(folder):
    """A photo of 4,000 x 3,000 with 3,000 objects."""
    ids = np.zeros((3000, 4000), np.uint16)
    for number in range(3000):
        row, column = divmod(number, 60)
        ids[row * 60 : row * 60 + 40, column * 66 : column * 66 + 50] = number + 1
    noise = np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8)
    write_image(
        folder / "crowded" / "annotated" / "images" / "a.jpg", cv2.resize(noise, (4000, 3000))
    )
    write_mask(folder / "crowded" / "annotated" / "masks" / "a.png", ids)
    return folder / "crowded"


class Measured:
    """A page on a server in this process: what both use of the processor."""

    def __init__(self, browser, path):
        self.browser = browser
        started, spent = time.perf_counter(), time.process_time()
        document = open_document(path)
        self.server = LabelServer(
            document, lambda pictures: Helper(Proposer, pictures), Workshop(document, None)
        )
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        app = Guard(self.server.app(), TOKEN, "127.0.0.1", port)
        self._uvicorn = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [listening]}, daemon=True
        ).start()
        self.tab = open_page(browser, f"http://127.0.0.1:{port}/?token={TOKEN}")
        self.tab.until(SEEN)
        self.found = {
            "open_wall_s": round(time.perf_counter() - started, 2),
            "open_server_cpu_s": round(time.process_time() - spent, 2),
            "open_page_cpu_s": round(self._page_seconds(), 2),
        }

    def _pages(self):
        known = self.browser.call("SystemInfo.getProcessInfo")["processInfo"]
        return [one for one in known if one["type"] == "renderer"]

    def _page_seconds(self):
        return sum(one["cpuTime"] for one in self._pages())

    def act(self, name, action, *, seen=False):
        """Processor milliseconds of one action, until it is acknowledged and drawn."""
        page, server = self._page_seconds(), time.process_time()
        action()
        self.tab.idle()
        if seen:
            self.tab.until(SEEN)
        self.tab.evaluate(DRAWN)
        self.found[name] = {
            "page_ms": round(1000 * (self._page_seconds() - page)),
            "server_ms": round(1000 * (time.process_time() - server)),
        }

    def close(self):
        """End it; gives what was found, with the page's memory."""
        sizes = []
        for one in self._pages():
            rollup = Path(f"/proc/{one['id']}/smaps_rollup").read_text()
            line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
            sizes.append(int(line.split()[1]) // 1024)
        self.found["page_mib"] = max(sizes)
        self.tab.close()
        self._uvicorn.should_exit = True
        self.server.store.close()
        return self.found


def measure_actions(page):
    """Strokes and what else is done to objects."""
    tab = page.tab
    page.act("brush", lambda: tab.drag((500, 509), (520, 511), (540, 513)))
    page.act("brush_again", lambda: tab.drag((500, 569), (520, 571), (540, 573)))
    tab.press("Escape", "v")
    page.act("select", lambda: tab.drag((20, 20)))
    page.act("delete", lambda: tab.press("Delete"))
    page.act("undo", lambda: tab.press("z"))
    tab.press("Escape", "x")
    page.act("split", lambda: tab.drag((90, 52), (90, 110)))
    page.act("zoom", lambda: tab.evaluate("labelPage.view.zoom(8)"), seen=True)
    page.act("pan", lambda: tab.evaluate("labelPage.view.move(30, 30)"), seen=True)
    page.act("fit", lambda: tab.evaluate("labelPage.view.fit()"), seen=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("page.json"))
    out = parser.parse_args().out
    result = {"machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = find_browser()
        if program is None:
            sys.exit("needs chromium")
        browser = Browser(program, folder / "profile")
        try:
            warm = Measured(browser, make_crowded(folder))
            warm.close()
            film = Measured(browser, make_film(folder))
            film.act("frame_9000", lambda: film.tab.evaluate("labelPage.open(9000)"), seen=True)
            film.act("next_frame", lambda: film.tab.evaluate("labelPage.open(9001)"), seen=True)
            result["video_10000_frames"] = film.close()
            crowded = Measured(browser, folder / "crowded")
            measure_actions(crowded)
            result["objects_3000_on_4000x3000"] = crowded.close()
            for suffix in (".jpg", ".png", ".tif"):
                large = Measured(browser, make_large(folder, suffix))
                measure_actions(large)
                result[f"photo_12000x9000{suffix}"] = large.close()
        finally:
            browser.close()
    write_result(result, out)
    write_result(result, None)


if __name__ == "__main__":
    main()
