"""A data folder of two photos, a run with tracks, and stores that are closed in the end."""

from __future__ import annotations

import numpy as np
import page_served
import pytest
from page_browser import open_page
from page_support import SIZE, photo

from browser import Browser, find_browser
from dvos.labelling.documents import open_document
from dvos.labelling.store import LabelStore
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.runner.manifest import ClipManifest


@pytest.fixture
def folder(tmp_path):
    """A folder with two photos."""
    for number in (1, 2):
        write_image(tmp_path / "data" / f"photo{number}.png", photo(number))
    return tmp_path / "data"


@pytest.fixture
def opened():
    """Opens the store of a folder; all are closed in the end."""
    stores = []

    def open_store(path, **options):
        stores.append(LabelStore(open_document(path, **options)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def run(tmp_path):
    """A run of ``dvos predict`` on a folder of four frames, with two tracks."""
    source, out = tmp_path / "film", tmp_path / "predictions"
    for number in range(4):
        write_image(source / f"{number:03d}.png", photo(number))
        ids = np.zeros(SIZE, np.uint16)
        ids[2:8, number : number + 6], ids[20:30, 20:30] = 1, 2
        write_mask(out / "film" / f"{number:03d}.png", (ids > 0) * np.uint8(255))
        write_mask(out / "film" / "tracks" / f"{number:03d}.png", ids)
    record = out / ".progress" / "film.jsonl"
    record.parent.mkdir()
    manifest = ClipManifest(record, fingerprint="x", source=source, complete=lambda row: True)
    manifest.begin()
    for number in range(4):
        manifest.append({"frame": f"{number:03d}", "frame_index": number, "count": 2})
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    running = Browser(find_browser(), tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def served(tmp_path):
    """Serves a folder of two photos, the first with a mask if one is given."""
    made = []

    def serve(mask=None):
        folder = tmp_path / "data"
        for number in (1, 2):
            write_image(folder / f"photo{number}.png", photo(number, page_served.SIZE))
        if mask is not None:
            write_image(folder / "annotated" / "images" / "photo1.png", photo(1, page_served.SIZE))
            write_mask(folder / "annotated" / "masks" / "photo1.png", mask)
        made.append(page_served.Served(folder))
        return made[-1], folder / "annotated" / "masks"

    yield serve
    for one in made:
        one.close()


@pytest.fixture
def open_tab(browser):
    """Opens tabs of the page; all are closed in the end."""
    tabs = []

    def open_one(address, **look):
        tabs.append(open_page(browser, address, **look))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.close()
