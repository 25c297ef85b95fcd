"""How many clicks a simulated user needs, with the proposals of ``dvos label`` as the only help.

    python benchmarks/labelling.py --data ../shared/data --out labelling.json [--every 4]

The user labels the wheat photos one after the other, and frames of the cells, from nothing. In each
the next action is one of two, and each counts as one click:

- accept all proposals above one of a few scores, where the user sees that much is gained by it;
- point at the centre of the largest error, the deepest pixel of the largest connected piece of
  missing or false mask: what is proposed there is added, or cut, whether it is right or not.

A photo is done when its Dice against the truth is 0.90, or when thirty clicks for each component of
the truth have been made, which then count. What was made of it, not the truth, is what further
photos are learnt from, where there is no checkpoint. Times are of the processor, as the machine may
be doing other work. Data that is not there is skipped, with a line.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Threads that wait must not take the cores from others; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.labelling.features import FrameFeatures
from dvos.labelling.proposals import Click, Proposal, Proposer
from dvos.media.image import read_image
from dvos.media.layout import list_images
from dvos.media.mask import read_mask
from facts import machine, write_result

GOAL = 0.90
#: Clicks for each component of the truth after which a photo is given up.
MOST = 30
#: Gain of Dice that a user sees, and accepts all proposals for.
SEEN = 0.05
SCORES = (0.9, 0.8, 0.7, 0.6, 0.5)
TARGETS = {"wheat": 2.0, "cells": 1.2, "prepare_s": 2.0, "click_s": 0.15}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """What a photo took.

    Attributes:
        name: Of the photo.
        components: Of its truth.
        clicks: All of them.
        accepts: Of these, how often all proposals were accepted.
        dice: Reached.
    """

    name: str
    components: int
    clicks: int
    accepts: int
    dice: float


def dice(mask: Mask, truth: Mask) -> float:
    return float((2 * (mask & truth).sum() + 1) / (mask.sum() + truth.sum() + 1))


def error_centre(error: Mask) -> tuple[int, int, int] | None:
    """Column and row of the deepest pixel of an error's largest piece, and that piece's area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(error.view(np.uint8), connectivity=4)
    if count < 2:
        return None
    number = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height, area = stats[number].tolist()
    piece = labels[top : top + height, left : left + width] == number
    depth = cv2.distanceTransform(np.pad(piece.view(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_5)
    row, column = divmod(int(depth.argmax()), depth.shape[1])
    return left + column - 1, top + row - 1, area


def paste(ids: NDArray[np.uint16], proposal: Proposal, number: int) -> None:
    """Add an object, or cut where the number is 0."""
    top, left, bottom, right = proposal.box
    part = ids[top:bottom, left:right]
    part[proposal.mask & ((part == 0) | (number == 0))] = number


class User:
    """Labels one photo.

    Args:
        proposer: The help.
        features: Of the photo.
        truth: bool (H, W).
    """

    def __init__(self, proposer: Proposer, features: FrameFeatures, truth: Mask) -> None:
        self.proposer, self.features, self.truth = proposer, features, truth
        self.ids = np.zeros(truth.shape, np.uint16)
        self.clicks: list[Click] = []
        self.accepts = self.number = 0

    def act(self) -> None:
        """Accept or point, whichever a user would."""
        if not self.accept():
            self.point()
        self.proposer.learn(self.features, self.ids, None, self.clicks)

    def accept(self) -> bool:
        """Accept all proposals above the best score, if that is worth it."""
        found = self.proposer.propose_all(self.features, self.ids)
        before = dice(self.ids > 0, self.truth)
        best, accepted = before + SEEN, None
        trial = self.ids.copy()
        for score in SCORES:
            for index, proposal in enumerate(found):
                if score <= proposal.score < min((s for s in SCORES if s > score), default=2):
                    paste(trial, proposal, self.number + index + 1)
            if (reached := dice(trial > 0, self.truth)) > best:
                best, accepted = reached, trial.copy()
        if accepted is None:
            return False
        self.ids, self.number = accepted, self.number + len(found)
        self.accepts += 1
        return True

    def point(self) -> None:
        """Click at the centre of the largest error."""
        found = self.ids > 0
        missing, false = error_centre(self.truth & ~found), error_centre(found & ~self.truth)
        take = missing is not None and (false is None or missing[2] >= false[2])
        centre = missing if take else false
        assert centre is not None
        click = Click(centre[0], centre[1], take)
        self.clicks.append(click)
        proposal = self.proposer.propose(self.features, self.ids, click)
        if proposal is not None:
            self.number += 1
            paste(self.ids, proposal, self.number if take else 0)


def label(proposer: Proposer, name: str, image: NDArray[np.uint8], truth: Mask) -> Labelled:
    """Label a photo from nothing."""
    components = cv2.connectedComponents(truth.view(np.uint8), connectivity=8)[0] - 1
    features = proposer.prepare(image)
    user = User(proposer, features, truth)
    proposer.learn(features, user.ids, None, [])
    done = 0
    while (reached := dice(user.ids > 0, truth)) < GOAL and done < MOST * components:
        user.act()
        done += 1
    proposer.learn(features, user.ids, np.ones(truth.shape, np.bool_), user.clicks)
    return Labelled(name, components, done, user.accepts, round(reached, 4))


def photos(data: Path, every: int) -> Iterator[tuple[str, Path, Path]]:
    """Name, picture and mask of the labelled wheat photos."""
    pairs = [
        (f"{part}/{image.stem}", image, data / "wheat" / part / "head_mask" / f"{image.stem}.png")
        for part in ("annotated", "validation")
        for image in list_images(data / "wheat" / part / "images")
    ]
    yield from pairs[::every]


def cells(data: Path, every: int) -> Iterator[tuple[str, Path, Path]]:
    """Likewise of the frames of cells."""
    images = list_images(data / "cells" / "images")
    yield from [
        (i.stem, i, data / "cells" / "instances" / f"{i.stem}.png") for i in images[::every]
    ]


def measure(stills: Sequence[tuple[str, Path, Path]], checkpoint: Path | None) -> dict[str, Any]:
    """Clicks for all photos of a set, in order."""
    proposer = Proposer(checkpoint)
    rows = []
    started = time.process_time()
    for name, image, mask in stills:
        rows.append(label(proposer, name, read_image(image), read_mask(mask) > 0))
        print(rows[-1], file=sys.stderr, flush=True)
    clicks, components = sum(r.clicks for r in rows), sum(r.components for r in rows)
    return {
        "photos": len(rows),
        "reached": sum(r.dice >= GOAL for r in rows),
        "clicks_per_component": round(clicks / components, 3),
        "mean_dice": round(float(np.mean([r.dice for r in rows])), 4),
        "processor_s_per_click": round((time.process_time() - started) / max(1, clicks), 3),
        "each": [asdict(row) for row in rows],
    }


def answer_times(image: NDArray[np.uint8], checkpoint: Path | None) -> dict[str, float]:
    """Processor time of a frame of 1024 x 1024, and of clicks in it."""
    proposer = Proposer(checkpoint)
    frame = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    proposer.prepare(frame[:512, :512])  # loads what is loaded once
    started = time.process_time()
    features = proposer.prepare(frame)
    ready = time.process_time() - started
    ids, spent = np.zeros((1024, 1024), np.uint16), []
    for number in range(1, 9):
        click = Click(100 * number, 500, True)
        started = time.process_time()
        proposer.learn(features, ids, None, [])
        found = proposer.propose(features, ids, click)
        spent.append(time.process_time() - started)
        if found is not None:
            paste(ids, found, number)
    return {"prepare_s": round(ready, 3), "click_s": round(float(np.median(spent[1:])), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("labelling.json"))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--every", type=int, default=1, help="label every n-th wheat photo")
    parser.add_argument("--cells-every", type=int, default=5)
    parser.add_argument("--only", choices=("wheat", "cells", "times"))
    options = parser.parse_args()
    if not (options.data / "wheat").is_dir() or not (options.data / "cells").is_dir():
        sys.stdout.write(f"skipped: {options.data} holds no wheat/ and cells/\n")
        return
    result: dict[str, Any] = {"benchmark": "labelling", "targets": TARGETS}
    sets = {
        "wheat": list(photos(options.data, options.every)),
        "cells": list(cells(options.data, options.cells_every)),
    }
    for name, stills in sets.items():
        if options.only in (None, name):
            result[name] = measure(stills, options.checkpoint)
    if options.only in (None, "times"):
        result["times"] = answer_times(read_image(sets["wheat"][0][1]), options.checkpoint)
    result["machine"] = machine("torch")
    write_result(result, options.out)
    write_result(result, None)


if __name__ == "__main__":
    main()
