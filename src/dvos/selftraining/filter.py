"""The pseudo-label filter: temporal consistency, and the criteria by which a prediction is a label.

What is uncertain becomes *unknown*, a value that training passes over.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.selftraining import FilterSettings
from dvos.prediction.predictor import FramePrediction

#: Values of a pseudo-label mask.
BACKGROUND, UNKNOWN, OBJECT = 0, 128, 255

_DECISION = 0.5  # probability at which a prediction changes sides

# Up to these flow and flow back cancel out (Sundaram, Brox, Keutzer, ECCV 2010, equation 5).
_RELATIVE, _ABSOLUTE = 0.01, 0.5

_SMALLEST = 12  # px; the flow is found by matching patches: there is none in less

Floats = NDArray[np.float32]
Flow = Floats


def filter_frame(labels: NDArray[np.uint8], criteria: FilterSettings) -> dict[str, Any]:
    """Whether a frame with labels as of :func:`filter_pixels` may be a query, or why not.

    That is ``accepted`` and ``reason``, and the shares of ``object``, ``background``, ``unknown``.
    """
    of_object = float(np.mean(labels == OBJECT))
    of_background = float(np.mean(labels == BACKGROUND))
    known, reason = of_object + of_background, ""
    if of_object == 0:
        reason = "no object was accepted"
    elif of_object < criteria.min_object:
        reason = f"object share {of_object:.4f} is below {criteria.min_object:g}"
    elif known < criteria.min_known:
        reason = f"known share {known:.3f} is below {criteria.min_known:g}"
    shares = {"object": of_object, "background": of_background}
    shares["unknown"] = 1.0 - of_object - of_background
    rounded = {name: round(share, 6) for name, share in shares.items()}
    return {"accepted": not reason, "reason": reason, **rounded}


def filter_pixels(
    mean: Floats, std: Floats, consistency: Floats, probe: Floats | None, criteria: FilterSettings
) -> NDArray[np.uint8]:
    """Labels, uint8 (H, W), of what was predicted for a frame; all arrays are float32 (H, W).

    ``mean`` is the probability of object over the views, ``std`` its deviation, ``consistency`` as
    of :func:`temporal_consistency`, ``probe`` the probability by the feature probe, if any.
    """
    is_object = mean >= criteria.object_threshold
    is_background = mean <= criteria.background_threshold
    if probe is not None:
        is_background &= probe <= criteria.probe_background
        # Thin boundary bands of objects, which any linear probe blurs, are not taken.
        is_object |= _opened((probe > criteria.probe_object) & ~is_object, criteria.opening)
    if criteria.decide_boundary_band:
        doubtful = ~(is_object | is_background)
        is_background |= doubtful & ~_opened(doubtful, criteria.opening)
    # A comparison with NaN is false: unseen pixels are decided on their own.
    consistent = consistency >= criteria.min_consistency
    if criteria.trust_unseen:
        consistent |= np.isnan(consistency)
    sure = consistent & (std <= criteria.max_std)
    labels = np.full(mean.shape, UNKNOWN, np.uint8)
    labels[sure & is_background] = BACKGROUND
    # Last: what the probe alone makes object may be background by the mean.
    labels[sure & is_object] = OBJECT
    return labels


def _opened(mask: NDArray[np.bool_], diameter: int) -> NDArray[np.bool_]:
    """What of a mask an ellipse of a diameter in pixels fits into, bool (H, W)."""
    if diameter <= 1:
        return mask
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, ellipse), np.bool_)


def with_consistency(
    frames: Iterable[FramePrediction], *, neighbours: Sequence[int], wanted: Callable[[int], bool]
) -> Iterator[tuple[FramePrediction, Floats | None]]:
    """Every frame, in order, with its :func:`temporal_consistency`, in constant memory.

    It is compared with those at the offsets ``neighbours``, or not (None) if not ``wanted``.
    """
    ahead, behind = max([0, *neighbours]), -min([0, *neighbours])
    waiting: deque[FramePrediction] = deque()
    means: dict[int, Floats] = {}
    greys: dict[int, NDArray[np.uint8]] = {}

    # A frame asks for the flow to the next and back, and the next for the same two.
    @lru_cache(2 * len(neighbours) * max(1, ahead))
    def flow(one: int, other: int) -> Flow:
        return flow_between(greys[one], greys[other])

    def compared(frame: FramePrediction) -> tuple[FramePrediction, Floats | None]:
        index = frame.frame_index
        if not wanted(index):
            return frame, None
        others = [index + offset for offset in neighbours if index + offset in means]
        parts = ((means[other], flow(index, other), flow(other, index)) for other in others)
        return frame, temporal_consistency(frame.probability, parts)

    for frame in frames:
        waiting.append(frame)
        means[frame.frame_index] = frame.probability
        greys[frame.frame_index] = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        while waiting and waiting[0].frame_index + ahead <= frame.frame_index:
            yield compared(waiting.popleft())
        oldest = (waiting[0].frame_index if waiting else frame.frame_index + 1) - behind
        for index in [index for index in means if index < oldest]:
            del means[index], greys[index]
    while waiting:
        yield compared(waiting.popleft())


def temporal_consistency(mean: Floats, neighbours: Iterable[tuple[Floats, Flow, Flow]]) -> Floats:
    """Share of the neighbouring frames that put a pixel on the same side; NaN where none sees it.

    Of each neighbour there is its probability, float32 (H, W), the flow to it, and the flow back.
    """
    seen, same = np.zeros((2, *mean.shape), np.float32)
    for probability, forward, backward in neighbours:
        witness = seen_in(forward, backward)
        seen += witness
        same += witness & ((warp(probability, forward) >= _DECISION) == (mean >= _DECISION))
    share = np.full(mean.shape, np.nan, np.float32)
    np.divide(same, seen, out=share, where=seen > 0)
    return share


def flow_between(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Flow:
    """Pixels (H, W, 2) that each of a grey (H, W) moves right and down (Kroeger, ECCV 2016)."""
    if min(one.shape) < _SMALLEST:
        return np.zeros((*one.shape, 2), np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(one, other, None), np.float32)


def warp(values: Floats, flow: Flow) -> Floats:
    """Fetch for each pixel the value, (H, W) or (H, W, C), where it moves to; NaN outside."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    right, down = columns + flow[..., 0], rows + flow[..., 1]
    moved = cv2.remap(values, right, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (right < 0) | (down < 0) | (right > width - 1) | (down > height - 1)
    moved[outside] = np.nan
    return np.asarray(moved, np.float32)


def seen_in(forward: Flow, backward: Flow) -> NDArray[np.bool_]:
    """Which pixels of a frame another shows: flow there and flow back lead to where they were."""
    back = warp(backward, forward)
    gap = ((forward + back) ** 2).sum(axis=2)
    length = (forward**2).sum(axis=2) + (back**2).sum(axis=2)
    # NaN, which is outside the other frame, compares as not seen.
    return np.asarray(gap <= _RELATIVE * length + _ABSOLUTE, np.bool_)
