"""Calls of the library on the files of a campaign's world, as a program of a user makes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvos import tables
from dvos.cli.main import main as run_dvos
from dvos.errors import DvosError
from dvos.files import read_bytes
from dvos.runner.manifest import Manifest, read_clip_record, read_record

#: Edits of a frame and of a clip, as the page of ``dvos label`` sends them.
REQUESTS: tuple[dict[str, Any], ...] = (
    {"kind": "paint", "region": {"box": [4, 4, 10, 20], "runs": [0, 96]}, "value": 1},
    {"kind": "split", "object": 1, "line": {"box": [0, 12, 20, 13], "runs": [0, 20]}, "first": 2},
    {"kind": "recolour", "pairs": [[2, 1]]},
    {"kind": "copy", "source": 1},
    {"kind": "undo"},
    {"kind": "redo"},
)


def write_requests(path: Path) -> None:
    """Write requests, a line each, as the page would send them in turn."""
    named = [
        {"frame": "p0", "token": f"token-{number:08d}", "base": number, **request}
        for number, request in enumerate(REQUESTS)
    ]
    clip = {"kind": "join", "clip": "photos", "token": "token-of-a-clip", "object": 1, "other": 2}
    path.write_text("\n".join(map(json.dumps, [*named, clip])) + "\n")


def label_requests() -> None:
    """Send the page's requests, one after the other, to every place that takes edits."""
    from starlette.testclient import TestClient

    from dvos.labelling.documents import open_document
    from dvos.labelling.proposals import Helper, Proposer
    from dvos.labelling.server import LabelServer
    from dvos.labelling.work import Workshop

    document = open_document(Path("photos"))
    server = LabelServer(
        document,
        lambda pictures: Helper(lambda: Proposer(None, "cpu"), pictures),
        Workshop(document, None),
    )
    # What the server does not answer is raised here.
    with TestClient(server.app(), base_url="http://x") as client:
        for body in read_bytes(Path("requests.jsonl")).splitlines():
            for place in ("/api/frames/0/edit", "/api/clip", "/api/export"):
                client.post(place, content=body)
    server.store.close()


def read_store() -> None:
    """Read a clip store whole, a window of it, and its masks."""
    from dvos.media.clip_store import ClipStore

    for path in sorted(Path("store").glob("*.dvclip")):
        with ClipStore(path) as store:
            frames = range(len(store))
            store.read_frames(frames)
            store.read_instances(frames)


def read_tables() -> None:
    """Read each table by every reader, and notes of finished work."""
    readers = (
        *(tables.read_clips, tables.read_stills, tables.read_images, tables.read_videos),
        *(tables.read_annotated, tables.read_backgrounds, tables.read_counts),
    )
    for path in sorted(Path().glob("*.csv")):
        for reader in readers:
            with suppress(DvosError):
                reader(path)
    for path in sorted(Path().rglob("*.jsonl")):
        with suppress(DvosError):
            Manifest(path)
            read_clip_record(path)
    for path in sorted(Path().rglob("*.json")):
        read_record(path, dict)


def load_predictor() -> None:
    """Load a network, and segment a frame by it."""
    import numpy as np

    import dvos

    predictor = dvos.load_predictor("run/best.safetensors", device="cpu")
    list(predictor.segment([np.zeros((64, 64, 3), np.uint8)]))


CALLS: dict[str, Callable[[], None]] = {
    "label": label_requests,
    "store": read_store,
    "tables": read_tables,
    "load": load_predictor,
}


def run(words: Sequence[str]) -> int:
    """Run a command line, or ``call NAME``; the exit code, as the command's own."""
    if words[0] != "call":
        return run_dvos(list(words))
    try:
        CALLS[words[1]]()
    except DvosError as error:
        print("\n".join(f"error: {fault}" for fault in error.faults), file=sys.stderr)
        return 1
    return 0
