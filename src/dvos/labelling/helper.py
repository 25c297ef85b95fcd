"""The network's help: objects proposed at a click, or all at once, in the frame looked at."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from dvos.formats.labels import Region
from dvos.labelling.edits import Ids
from dvos.labelling.pictures import Pictures
from dvos.labelling.proposals import Click, Proposal, Proposer

#: Frames whose features are kept.
_FRAMES = 4


class Helper:
    """Proposes objects, one thread at a time; what loads torch is made when first needed."""

    def __init__(self, make: Callable[[], Proposer], pictures: Pictures) -> None:
        self._make, self._pictures = make, pictures
        self._guard = threading.Lock()
        self._proposer: Proposer | None = None
        self._features: OrderedDict[int, Any] = OrderedDict()
        self._clicks: dict[int, list[Click]] = {}
        self._found: dict[int, list[Proposal]] = {}

    def prepare(self, index: int) -> None:
        """Compute a frame's features, so that the first click is answered at once."""
        with self._guard:
            self._prepared(index)

    def point(self, index: int, ids: Ids, x: int, y: int, take: bool) -> Region | None:
        """The object at a click, or the part that is none; None where nothing is found."""
        with self._guard:
            proposer, features = self._prepared(index)
            clicks, click = self._clicks.setdefault(index, []), Click(x, y, take)
            proposer.learn(features, ids, None, clicks)
            clicks.append(click)
            return proposer.propose(features, ids, click)

    def all(self, index: int, ids: Ids) -> list[Proposal]:
        """Every object that would be added, the surest first."""
        with self._guard:
            proposer, features = self._prepared(index)
            proposer.learn(features, ids, None, self._clicks.get(index, []))
            self._found[index] = proposer.propose_all(features, ids)
            return self._found[index]

    def accepted(self, index: int, least: float) -> list[Proposal]:
        """Those of the latest :meth:`all` with at least that score."""
        with self._guard:
            return [one for one in self._found.pop(index, []) if one.score >= least]

    def _prepared(self, index: int) -> tuple[Proposer, Any]:
        self._proposer = self._proposer or self._make()
        if index not in self._features:
            self._features[index] = self._proposer.prepare(self._pictures.pyramid(index)[0])
            while len(self._features) > _FRAMES:
                self._features.popitem(last=False)
        self._features.move_to_end(index)
        return self._proposer, self._features[index]
