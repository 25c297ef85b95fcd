"""What every source of training clips has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "OBJECT",
    "ClipSample",
    "ClipSource",
    "PooledClips",
    "target_of",
]

BACKGROUND = 0
OBJECT = 1
#: Pixels whose label is unknown: they carry no weight in a loss or score.
IGNORE = 255


@dataclass(frozen=True)
class ClipSample:
    """A short clip and the label of its last frame.

    Attributes:
        frames: uint8 RGB (T, H, W, 3); the references in order of time, then
            the query frame.
        target: uint8 (H, W), the query's label: 0 background, 1 object,
            255 unknown.
    """

    frames: NDArray[np.uint8]
    target: NDArray[np.uint8]


class ClipSource(Protocol):
    """Something that gives an endless supply of labelled clips.

    A source is picklable and a sample depends on nothing but the state of
    ``rng`` and the arguments, so that any process gives the same bytes.
    """

    def sample(
        self, rng: np.random.Generator, *, frames: int, size: tuple[int, int], scale: float
    ) -> ClipSample:
        """Draw a clip.

        Args:
            rng: Source of all that is random in the clip.
            frames: Number of frames T, the query included; at least 1.
            size: (height, width) of the frames returned, pixels.
            scale: Size of an object in the returned frames relative to its
                size in the source's pixels. Below 1 the frames are shrunk by
                averaging over areas, so that nothing aliases.
        """
        ...


class PooledClips:
    """Several sources as one, a :class:`ClipSource`.

    Args:
        sources: The sources.
        counts: What each is drawn in proportion to, such as its labelled frames.
    """

    def __init__(self, sources: Sequence[ClipSource], counts: Sequence[int]) -> None:
        self._sources = tuple(sources)
        self._edges = np.cumsum(counts)

    def sample(
        self, rng: np.random.Generator, *, frames: int, size: tuple[int, int], scale: float
    ) -> ClipSample:
        """Draw a source, and a clip from it."""
        drawn = int(rng.integers(self._edges[-1]))
        source = self._sources[int(np.searchsorted(self._edges, drawn, side="right"))]
        return source.sample(rng, frames=frames, size=size, scale=scale)


def target_of(mask: NDArray[np.generic], ignore_value: int | None = None) -> NDArray[np.uint8]:
    """Turn a mask as stored into a training target.

    Args:
        mask: Integer or bool (H, W), semantic or instance: zero is background,
            everything else an object.
        ignore_value: The stored value that means "unknown", if there is one.

    Returns:
        uint8 (H, W) of 0, 1 and (only with ``ignore_value``) 255.
    """
    target: NDArray[np.uint8] = (mask != 0).astype(np.uint8)
    if ignore_value is not None:
        target[mask == ignore_value] = IGNORE
    return target
