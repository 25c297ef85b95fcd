"""What the tests of the page share: a photo, and what pretends to be the network's help."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from dvos.formats.labels import Region
from dvos.labelling.edits import paint
from dvos.labelling.proposals import Proposal
from dvos.media.image import write_image
from dvos.media.mask import write_mask

SIZE = (48, 64)
#: ``fit`` writes records and weights, ``predict`` masks of what is there, ``export`` a file.
PROGRAM = """
import sys, json, time
from pathlib import Path
command, first, *words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
print(command, first, *words, flush=True)
if command == "fit" and "7" in words:
    sys.exit("error: no stills are labelled; label some")
if command == "fit" and "9" in words:
    time.sleep(600)
if command == "fit":
    (out / "train").mkdir(parents=True)
    (out / "train" / "records.csv").write_text("epoch,train_loss,dice\\n1,2.5,0.4\\n2,1.5,\\n")
    while "8" in words and not (out / "go").exists():
        time.sleep(0.02)
    (out / "best.safetensors").write_text("")
elif command == "predict":
    import numpy as np
    from dvos.media.mask import write_mask
    from dvos.runner.manifest import ClipManifest
    from dvos.media.image import image_size
    from dvos.tables import read_images
    assert "--stills" in words
    for path in [row.image for row in read_images(Path(first))]:
        mask = np.zeros(image_size(path), bool)
        mask[3:9, 3:9] = mask[20:30, 20:30] = True
        mask[40:46, 3:9] = second = out.parent.name == "002"
        write_mask(out / path.stem / path.name, mask)
        (out / ".progress").mkdir(exist_ok=True)
        place = out / ".progress" / f"{path.stem}.jsonl"
        record = ClipManifest(place, fingerprint="x", source=path, complete=lambda row: True)
        record.begin(); record.append({"frame": path.stem, "frame_index": 0, "count": 2 + second})
elif command == "suggest":
    out.parent.mkdir(exist_ok=True)
    out.write_text("rank,clip,frame,distance,uncertainty\\n1,,photo2,2.5,\\n2,,gone,1,\\n")
else:
    out.mkdir(parents=True)
"""


def photo(seed=0, size=SIZE):
    """A picture of noise."""
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


def stroke(value=1, box=(4, 4, 10, 20), only=None):
    """An edit that paints a rectangle."""
    region = Region(*box[:2], np.ones((box[2] - box[0], box[3] - box[1]), bool))
    return lambda ids: paint(ids, region, value, only)


def painted(*strokes):
    ids = np.zeros(SIZE, np.uint16)
    for value, (top, left, bottom, right) in strokes:
        ids[top:bottom, left:right] = value
    return ids


def ids_of(store, index=0):
    with store.sheet(index) as sheet:
        return sheet.ids.copy()


def put_mask(folder, mask, name="photo1", masks="masks"):
    write_image(folder / "annotated" / "images" / f"{name}.png", photo(1))
    write_mask(folder / "annotated" / masks / f"{name}.png", mask)
    return folder / "annotated" / masks / f"{name}.png"


class SquareProposer:
    """Proposes the 9 x 9 pixels around a click, and two objects at once."""

    def __init__(self):
        self.learnt = []

    def prepare(self, image):
        return SimpleNamespace(size=image.shape[:2])

    def learn(self, features, ids, known, clicks):
        self.learnt.append(len(clicks))

    def propose(self, features, ids, click):
        top, left = max(0, click.y - 4), max(0, click.x - 4)
        bottom, right = (
            min(side, at + 5) for side, at in zip(ids.shape, (click.y, click.x), strict=True)
        )
        return Proposal(top, left, np.ones((bottom - top, right - left), bool), 0.9)

    def propose_all(self, features, ids):
        return [
            Proposal(2, 2, np.ones((4, 6), bool), 0.9),
            Proposal(20, 20, np.ones((10, 10), bool), 0.4),
        ]
