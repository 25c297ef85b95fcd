"""The summary of the DAVIS benchmark: mean, recall and decay of a clip's figures.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video
Object Segmentation", CVPR 2016, section 4: region similarity J is the IoU,
contour accuracy F the boundary F, and each is told by three statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

__all__ = ["Statistics", "over_clips", "statistics"]

_GOOD = 0.5
_QUARTERS = 4


@dataclass(frozen=True)
class Statistics:
    """Of the values of one clip's frames, in order.

    Attributes:
        mean: Their mean.
        recall: Share of them above 0.5.
        decay: Mean of the first quarter minus mean of the last: how much is
            lost over time. None for fewer than 4 frames.
    """

    mean: float
    recall: float
    decay: float | None


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of a clip.

    The quarters are those of the benchmark's code: neighbours share a frame.
    """
    count = len(values)
    decay = None
    if count >= _QUARTERS:
        edges = np.rint(np.linspace(1, count, _QUARTERS + 1) + 1e-10).astype(int) - 1
        first, last = values[: edges[1] + 1], values[edges[-2] :]
        decay = fmean(first) - fmean(last)
    return Statistics(fmean(values), fmean(value > _GOOD for value in values), decay)


def over_clips(
    region: Mapping[str, Sequence[float]], boundary: Mapping[str, Sequence[float]]
) -> dict[str, float | None]:
    """The benchmark's table: statistics of each clip, averaged over clips.

    Args:
        region: Region J of each frame by clip, frames in order.
        boundary: Boundary F likewise.

    Returns:
        ``j_mean``, ``j_recall``, ``j_decay``, the same of F, and ``jf_mean``;
        decay is None where no clip has 4 frames.
    """
    result: dict[str, float | None] = {}
    for letter, by_clip in (("j", region), ("f", boundary)):
        clips = [statistics(values) for values in by_clip.values()]
        decays = [one.decay for one in clips if one.decay is not None]
        result[f"{letter}_mean"] = fmean(one.mean for one in clips)
        result[f"{letter}_recall"] = fmean(one.recall for one in clips)
        result[f"{letter}_decay"] = fmean(decays) if decays else None
    j, f = result["j_mean"], result["f_mean"]
    result["jf_mean"] = None if j is None or f is None else (j + f) / 2
    return result
