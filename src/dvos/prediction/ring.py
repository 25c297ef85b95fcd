"""Features of the latest frames of a stream, and the windows in them.

Tensor letters: B frames of a batch, T frames of a window (references, then the
query), C channels, h and w of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["FeatureRing"]


class FeatureRing:
    """Features of the latest frames of one view."""

    def __init__(self) -> None:
        self._features: dict[int, list[Tensor]] = {}

    def add(self, indices: list[int], features: list[Tensor]) -> None:
        """Keep the maps (B, C, h, w) of the frames ``indices``."""
        for place, index in enumerate(indices):
            self._features[index] = [maps[place : place + 1] for maps in features]

    def windows(self, windows: list[list[int]]) -> list[list[Tensor]]:
        """For each scale T maps (B, C, h, w) of several windows."""
        chosen = [[self._features[self._nearest(i)] for i in window] for window in windows]
        # T times the maps of the B windows' frames at that step.
        steps = list(zip(*chosen, strict=True))
        return [
            [_batched([maps[scale] for maps in step]) for step in steps]
            for scale in range(len(chosen[0][0]))
        ]

    def drop_before(self, index: int) -> None:
        """Forget what no window from now on, which begin at ``index`` or later, needs."""
        oldest = self._nearest(index)
        for key in [key for key in self._features if key < oldest]:
            del self._features[key]

    def _nearest(self, index: int) -> int:
        # The frame itself, or, where it could not be read, the one before it;
        # the first frame stands in for those before the beginning.
        earlier = [key for key in self._features if key <= index]
        return max(earlier) if earlier else min(self._features)


def _batched(maps: list[Tensor]) -> Tensor:
    """Maps (1, C, h, w) as one; a single one is not copied."""
    return maps[0] if len(maps) == 1 else torch.cat(maps)
