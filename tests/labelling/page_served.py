"""The page on a server of its own, and what its tests look at."""

from __future__ import annotations

import socket
import threading

import numpy as np
import uvicorn
from page_support import SquareProposer

from dvos.labelling.documents import open_document
from dvos.labelling.proposals import Helper
from dvos.labelling.server import Guard, LabelServer
from dvos.labelling.work import Workshop
from dvos.media.mask import read_mask

TOKEN = "t" * 43
SIZE = (90, 120)


class Served:
    """A folder on a server of its own, in a thread."""

    def __init__(self, path):
        document = open_document(path)
        workshop = Workshop(document, None)
        self.labels = LabelServer(document, lambda made: Helper(SquareProposer, made), workshop)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        app = Guard(self.labels.app(), TOKEN, "127.0.0.1", port)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        how = {"sockets": [listening]}
        self._thread = threading.Thread(target=self._server.run, kwargs=how, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{port}/?token={TOKEN}"

    def close(self):
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self.labels.store.close()


def saved(served, masks, name="photo1"):
    """The mask's file, once everything is saved."""
    served.labels.store.flush()
    return read_mask(masks / f"{name}.png")


def disc(width, *centres):
    """Pixels whose centres lie within a round brush put on the centres of pixels (row, column)."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    found = np.zeros(SIZE, bool)
    for row, column in centres:
        found |= np.hypot(rows - row, columns - column) <= width / 2
    return found


def text_of(tab, name):
    return tab.evaluate(f"document.getElementById({name!r}).textContent")


def accessible(tab, selector):
    """(role, name) of an element and all in it, by a selector, as a screen reader is told them."""
    found = tab.call("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
    tree = tab.call("Accessibility.queryAXTree", objectId=found["result"]["objectId"])
    told = (node for node in tree["nodes"] if not node["ignored"])
    return [(node["role"]["value"], node["name"]["value"]) for node in told]


def coloured(tab, name):
    """Texts in an element, by its id, of another colour than its own, and whether none is read."""
    return tab.evaluate(
        f"(place => [...place.querySelectorAll('*')].flatMap(e => [...e.childNodes])"
        ".filter(n => n.nodeType === 3 && getComputedStyle(n.parentElement).color"
        " !== getComputedStyle(place).color)"
        ".map(n => [n.textContent.trim(), n.parentElement.ariaHidden === 'true']))"
        f"(document.getElementById({name!r}))"
    )
