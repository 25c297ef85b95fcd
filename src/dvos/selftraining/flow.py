"""Whether neighbouring frames, moved onto a frame along the optical flow, agree with it."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.selftraining.accept import DECISION

__all__ = ["PairFlows", "agreement_over_time", "flow_between", "grey_of", "seen_in", "warp"]

# Forward and backward flow cancel out up to a share of their length and a
# constant (Sundaram, Brox, Keutzer, ECCV 2010, equation 5).
_RELATIVE, _ABSOLUTE = 0.01, 0.5

# The flow is found by matching patches of this size: there is none in less.
_SMALLEST = 12

Flow = NDArray[np.float32]


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the flow is found in: uint8 RGB (H, W, 3) to grey uint8 (H, W)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def flow_between(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Flow:
    """Dense optical flow by inverse search (Kroeger et al., ECCV 2016).

    Args:
        one: Grey uint8 (H, W).
        other: Likewise, of the same size.

    Returns:
        float32 (H, W, 2): how far each pixel of ``one`` moves right and down
        to its place in ``other``, pixels.
    """
    if min(one.shape) < _SMALLEST:
        return np.zeros((*one.shape, 2), np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(one, other, None), np.float32)


def warp(values: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """Fetch for each pixel the value at the place it moves to; NaN outside.

    Args:
        values: float32 (H, W) or (H, W, C), of the frame that the flow leads to.
        flow: float32 (H, W, 2).
    """
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    right, down = columns + flow[..., 0], rows + flow[..., 1]
    moved = np.asarray(
        cv2.remap(values, right, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )
    outside = (right < 0) | (down < 0) | (right > width - 1) | (down > height - 1)
    moved[outside] = np.nan
    return moved


def seen_in(forward: Flow, backward: Flow) -> NDArray[np.bool_]:
    """Which pixels of a frame are seen in another, bool (H, W).

    A pixel is seen if the flow there and the flow back lead to where it was;
    what is hidden or out of view has no such way.

    Args:
        forward: From the frame to the other, float32 (H, W, 2).
        backward: From the other to the frame.
    """
    back = warp(backward, forward)
    gap = ((forward + back) ** 2).sum(axis=2)
    length = (forward**2).sum(axis=2) + (back**2).sum(axis=2)
    # NaN, which is outside the other frame, compares as not seen.
    return np.asarray(gap <= _RELATIVE * length + _ABSOLUTE, np.bool_)


class PairFlows:
    """Flows between recent frames, each found once.

    A frame asks for the flow to the next and back, and the next for the same two.
    """

    def __init__(self) -> None:
        self._greys: dict[int, NDArray[np.uint8]] = {}
        self._flows: dict[tuple[int, int], Flow] = {}

    def add(self, index: int, image: NDArray[np.uint8]) -> None:
        """Keep frame ``index``, uint8 RGB (H, W, 3)."""
        self._greys[index] = grey_of(image)

    def between(self, one: int, other: int) -> Flow:
        """The flow from one kept frame to another."""
        if (one, other) not in self._flows:
            self._flows[one, other] = flow_between(self._greys[one], self._greys[other])
        return self._flows[one, other]

    def drop_before(self, index: int) -> None:
        """Forget the frames before ``index``."""
        self._greys = {key: grey for key, grey in self._greys.items() if key >= index}
        self._flows = {pair: flow for pair, flow in self._flows.items() if min(pair) >= index}


def agreement_over_time(
    mean: NDArray[np.float32],
    neighbours: Iterable[tuple[NDArray[np.float32], Flow, Flow]],
) -> NDArray[np.float32]:
    """Share of the neighbouring frames that put a pixel on the same side.

    Args:
        mean: Probability of the frame, float32 (H, W).
        neighbours: For each, its probability (H, W), the flow from the frame
            to it, and the flow back.

    Returns:
        float32 (H, W) in 0..1; NaN where no neighbour sees the pixel.
    """
    side = mean >= DECISION
    seen = np.zeros(mean.shape, np.float32)
    same = np.zeros(mean.shape, np.float32)
    for probability, forward, backward in neighbours:
        moved = warp(probability, forward)
        witness = seen_in(forward, backward)
        seen += witness
        same += witness & ((moved >= DECISION) == side)
    share = np.full(mean.shape, np.nan, np.float32)
    np.divide(same, seen, out=share, where=seen > 0)
    return share
