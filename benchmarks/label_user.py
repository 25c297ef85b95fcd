"""The server of ``dvos label`` with a user of its page, for campaigns that stop it.

The user sends a fixed row of edits and exports, one after the other. What the server acknowledged
is noted and never sent again, so that a server that lost it ends with other masks.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from campaign import Child

#: Paints of each frame, so that edits take about as long as the export does.
PAINTS = 40
EXPORT = "coco"
OUT_OF_SPACE = 507


class Served(Child):
    """The server, and beside it the user, who ends it with Ctrl-C when all is done.

    Args:
        words, folder, log, prepare: As of any command.
        make_room: Makes a full disk larger.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        log: Path,
        prepare: Callable[[], object],
        make_room: Callable[[], object],
    ) -> None:
        super().__init__(words, folder, log, prepare)
        notes = log.with_name("acknowledged")

        def use() -> int:
            try:
                User(address(log), notes, make_room).work(folder)
            except (ConnectionError, http.client.HTTPException):
                return 0  # it was stopped
            except Exception as error:
                print(f"unforeseen {type(error).__name__}: {error}", flush=True)
            os.kill(self.pid, signal.SIGINT)
            return 0

        self._user = Child(words, folder, log, work=use)

    def ended(self, until: float) -> int | None:
        """Its wait status, once it has ended, and the user with it."""
        status = super().ended(until)
        if status is not None:
            self._user.kill()
        return status

    def kill(self) -> int:
        """End both."""
        self._user.kill()
        return super().kill()


def address(log: Path) -> tuple[int, str]:
    """Port and token, as a server prints them, which is to come."""
    while True:
        found = re.search(r":(\d+)/\?token=(\S+)\n", log.read_text())
        if found:
            return int(found[1]), found[2]
        time.sleep(0.01)


class User:
    """Sends what was not acknowledged yet.

    Args:
        address: Port and token of the server.
        notes: File of what was acknowledged.
        make_room: Called when the disk is full.
    """

    def __init__(
        self, address: tuple[int, str], notes: Path, make_room: Callable[[], object]
    ) -> None:
        port, self._token = address
        self._server = http.client.HTTPConnection("127.0.0.1", port)
        self._notes, self._make_room = notes, make_room
        self._done = int(notes.read_text()) if notes.exists() else 0
        told = json.loads(self._ask("/api/frames")[0])
        self._names, self._clip = told["names"], told["clips"][0]
        self._labels = Path(json.loads(self._ask("/api/project")[0])["folder"])

    def work(self, folder: Path) -> None:
        """Do what is left, then note in the folder what the server shows."""
        for number, (place, message) in enumerate(self._steps()):
            if number >= self._done:
                self._send(number, place, message)
                new = self._notes.with_suffix(".new")
                new.write_text(str(number + 1))
                new.replace(self._notes)
        shown = {}
        for index, name in enumerate(self._names):
            pixels, state = self._ask(f"/api/frames/{index}/mask")
            shown[name] = json.loads(state) | {"ids": hashlib.sha256(pixels).hexdigest()}
            del shown[name]["next"]  # above all that were given out, also in vain, since the start
        self._make_room()
        (folder / "shown.json").write_text(json.dumps(shown))
        one_export(self._labels / "exports")

    def _steps(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is asked for, and the message; of an edit the frame by its name."""
        first, second = sorted(self._names)[:2]
        for number in range(PAINTS):
            top, left = 4 + number, 4 + 37 * number % 40
            box = {"box": [top, left, top + 6, left + 16], "runs": [0, 96]}
            value = 65535 if number % 8 == 7 else 11 + number % 5
            for name in (first, second):
                yield name, {"kind": "paint", "region": box, "value": value}
        line = {"box": [0, 30, 60, 31], "runs": [0, 60]}
        bar = {"box": [10, 20, 20, 40], "runs": [0, 200]}
        yield from (
            (first, {"kind": "undo"}),
            (first, {"kind": "undo"}),
            (first, {"kind": "redo"}),
            (second, {"kind": "paint", "region": bar, "value": 21}),
            (second, {"kind": "split", "object": 21, "line": line, "first": 40}),
            (second, {"kind": "recolour", "pairs": [[21, 22], [11, 0]]}),
            (second, {"kind": "undo"}),
            (second, {"kind": "copy", "source": first}),
        )
        if self._clip:
            changed = ("join", "split", "undo", "delete", "undo")
            for kind, value in zip(changed, (12, 13, 1, 14, 1), strict=True):
                yield "clip", {"kind": kind, "clip": self._clip, "object": value, "other": 15}
        yield "export", {"format": EXPORT}

    def _send(self, number: int, place: str, message: dict[str, Any]) -> None:
        """Send it; an edit that was under way when the server was stopped by the same token."""
        named = {"token": f"token-{number:08d}"}
        if place == "export":
            self._export(message)
        elif place == "clip":
            if not self._is_noted(named["token"]):
                self._ask("/api/clip", message | named)
        else:
            index = self._names.index(place)
            state = json.loads(self._ask(f"/api/frames/{index}/mask")[1])
            named |= {"frame": place, "base": state["revision"]}
            if "source" in message:
                named |= {"source": self._names.index(message["source"])}
            self._ask(f"/api/frames/{index}/edit", message | named)

    def _is_noted(self, token: str) -> bool:
        """Whether a change of a clip was begun, and so is finished when the server starts."""
        notes = self._labels / ".labelling" / "clips.jsonl"
        return notes.exists() and token in notes.read_text()

    def _export(self, message: dict[str, Any]) -> None:
        for _ in range(3):
            self._ask("/api/export", message)
            while (work := json.loads(self._ask("/api/work")[0]))["running"]:
                time.sleep(0.02)
            if not work["error"]:
                return
            assert "unforeseen" not in work["error"], work["error"]
            print(f"told: {work['error']}", flush=True)
            self._make_room()
        raise AssertionError(f"no export: {work['error']}")

    def _ask(self, place: str, message: dict[str, Any] | None = None) -> tuple[bytes, str]:
        """The answer's body, and what it says of a frame."""
        body = None if message is None else json.dumps(message)
        for _ in range(2):
            method = "GET" if body is None else "POST"
            self._server.request(method, place, body, {"x-token": self._token})
            answer = self._server.getresponse()
            data = answer.read()
            if answer.status == 200:
                return data, answer.headers.get("x-state", "")
            assert answer.status == OUT_OF_SPACE, f"{place} {message}: {data.decode()}"
            print(f"told: {data.decode()}", flush=True)
            self._make_room()
        raise AssertionError(f"{place} {message}: {data.decode()}")


def one_export(exports: Path) -> None:
    """Leave one export, once all are the same: a server that was stopped may have made another."""
    first, *others = sorted(path for path in exports.glob(f"{EXPORT}*") if path.is_dir())
    for other in others:
        assert contents(other) == contents(first), f"{other} is not as {first}"
        shutil.rmtree(other)
    first.rename(exports / EXPORT)
    for log in exports.glob("*.log"):
        log.unlink()


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def tell_unsaved(words: Sequence[str]) -> int:
    """Say which frames' files lack edits that were acknowledged; gives the exit code."""
    from dvos.labelling.documents import open_document
    from dvos.labelling.store import LabelStore

    out = Path(words[words.index("--out") + 1]) if "--out" in words else None
    store = LabelStore(open_document(Path(words[1]), out))
    for index, frame in enumerate(store.document.frames):
        with store.sheet(index) as sheet:
            if sheet.dirty:
                print(f"error: {frame.name} is not saved")
                os._exit(1)  # and does not save it
    return 0
