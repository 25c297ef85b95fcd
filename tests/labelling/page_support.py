"""What the tests of the page share: a photo, and what pretends to be the network's help."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from dvos.labelling.proposals import Proposal

SIZE = (48, 64)


def photo(seed=0, size=SIZE):
    """A picture of noise."""
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


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
        return Proposal(
            (top, left, bottom, right), np.ones((bottom - top, right - left), bool), 0.9
        )

    def propose_all(self, features, ids):
        return [
            Proposal((2, 2, 6, 8), np.ones((4, 6), bool), 0.9),
            Proposal((20, 20, 30, 30), np.ones((10, 10), bool), 0.4),
        ]
