"""All that is known of a frame before it is judged: its views, and its neighbours in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvos.selftraining.flow import PairFlows, agreement_over_time
from dvos.selftraining.views import ViewedFrame

__all__ = ["Evidence", "gather_evidence"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """A frame and what speaks for and against its prediction.

    Attributes:
        frame: The frame, with the mean and spread of its views.
        agreement: Share of the neighbours that see a pixel and put it on the
            same side, float32 (H, W), NaN where none sees it; None where the
            frame was not asked about.
    """

    frame: ViewedFrame
    agreement: NDArray[np.float32] | None


def gather_evidence(
    frames: Iterable[ViewedFrame], *, neighbours: Sequence[int], wanted: Callable[[int], bool]
) -> Iterator[Evidence]:
    """Compare each frame with its neighbours, in constant memory.

    Args:
        frames: In order; numbers may be missing.
        neighbours: Offsets of the frames compared with, such as -1 and 1. One
            that is not there does not count.
        wanted: Whether the frame of an index is compared at all.

    Yields:
        Evidence of every frame, in order.
    """
    ahead, behind = max([0, *neighbours]), -min([0, *neighbours])
    waiting: deque[ViewedFrame] = deque()
    means: dict[int, NDArray[np.float32]] = {}
    flows = PairFlows()

    def compared(frame: ViewedFrame) -> Evidence:
        index = frame.frame_index
        if not wanted(index):
            return Evidence(frame, None)
        others = [index + offset for offset in neighbours if index + offset in means]
        parts = (
            (means[other], flows.between(index, other), flows.between(other, index))
            for other in others
        )
        return Evidence(frame, agreement_over_time(frame.mean, parts))

    for frame in frames:
        waiting.append(frame)
        means[frame.frame_index] = frame.mean
        flows.add(frame.frame_index, frame.image)
        while waiting and waiting[0].frame_index + ahead <= frame.frame_index:
            yield compared(waiting.popleft())
        oldest = (waiting[0].frame_index if waiting else frame.frame_index + 1) - behind
        means = {index: mean for index, mean in means.items() if index >= oldest}
        flows.drop_before(oldest)
    while waiting:
        yield compared(waiting.popleft())
