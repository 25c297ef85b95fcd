"""A picture of training clips, to look at before a run."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.media.overlay import contact_sheet, outline
from dvos.training.clips import IGNORE, OBJECT, ClipSample

__all__ = ["Samples", "batch_picture"]

_UNKNOWN = np.array([128, 128, 128], np.uint16)


class Samples(Protocol):
    """Clips by number."""

    def sample(self, k: int, /) -> ClipSample:
        """Clip ``k`` as images."""
        ...


def batch_picture(data: Samples, count: int, *, first: int = 0) -> NDArray[np.uint8]:
    """Show clips as the network sees them, before they are normalised.

    Args:
        data: Training or validation clips.
        count: How many.
        first: Number of the first.

    Returns:
        uint8 (H, W, 3): a row for each clip; its frames in order of time, then
        the query with its target outlined and unknown pixels greyed.
    """
    cells: list[NDArray[np.uint8]] = []
    for number in range(first, first + count):
        sample = data.sample(number)
        cells += [*sample.frames, _labelled(sample)]
    return contact_sheet(cells, columns=len(cells) // count)


def _labelled(sample: ClipSample) -> NDArray[np.uint8]:
    shown = outline(sample.frames[-1], sample.target == OBJECT)
    unknown = sample.target == IGNORE
    shown[unknown] = ((shown[unknown] + _UNKNOWN) // 2).astype(np.uint8)
    return shown
