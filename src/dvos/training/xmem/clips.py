"""Clips whose objects are known in every frame, and which frames they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError

__all__ = [
    "UNKNOWN",
    "ObjectClip",
    "ObjectSource",
    "PooledObjects",
    "draw_moments",
    "ids_of",
    "known_objects",
]

#: Id of pixels whose label is unknown.
UNKNOWN = 65535


@dataclass(frozen=True)
class ObjectClip:
    """A clip, and where each object is in each of its frames.

    Attributes:
        frames: uint8 RGB (T, H, W, 3), in the order the network meets them.
        ids: uint16 (T, H, W): 0 background, ``UNKNOWN`` unknown, else the id of
            an object, the same in all frames.
    """

    frames: NDArray[np.uint8]
    ids: NDArray[np.uint16]


class ObjectSource(Protocol):
    """Something that gives an endless supply of such clips.

    A source is picklable, and a clip depends on nothing but the state of
    ``rng`` and the arguments, so that any process gives the same bytes.
    """

    def sample(
        self,
        rng: np.random.Generator,
        *,
        frames: int,
        jump: int,
        size: tuple[int, int],
        scale: float,
    ) -> ObjectClip:
        """Draw a clip.

        Args:
            rng: Source of all that is random in the clip.
            frames: Number of frames T.
            jump: Largest distance of a frame from the nearest one drawn before
                it, in frames of the source; see :func:`draw_moments`.
            size: (height, width) of the frames returned, pixels.
            scale: Size of an object in the returned frames relative to its
                size in the source's pixels.
        """
        ...


class PooledObjects:
    """Several sources as one, an :class:`ObjectSource`.

    Args:
        sources: Each with what it is drawn in proportion to.
    """

    def __init__(self, sources: Sequence[tuple[ObjectSource, int]]) -> None:
        self._sources = [source for source, _ in sources]
        self._edges = np.cumsum([weight for _, weight in sources])

    def sample(
        self,
        rng: np.random.Generator,
        *,
        frames: int,
        jump: int,
        size: tuple[int, int],
        scale: float,
    ) -> ObjectClip:
        """Draw a source, and a clip from it."""
        drawn = int(rng.integers(self._edges[-1]))
        source = self._sources[int(np.searchsorted(self._edges, drawn, side="right"))]
        return source.sample(rng, frames=frames, jump=jump, size=size, scale=scale)


def draw_moments(rng: np.random.Generator, length: int, *, count: int, jump: int) -> list[int]:
    """Draw frames of a video as XMem's training does.

    One frame is drawn at random; each further one from those not yet drawn
    that lie at most ``jump`` from one that is. They come in order of time or,
    half the time, against it.

    Args:
        rng: Source of the draw.
        length: Frames there are, at least ``count``.
        count: Frames wanted.
        jump: At least 1.

    Returns:
        Their numbers, from 0.
    """
    chosen = [int(rng.integers(length))]
    near: set[int] = set()
    while len(chosen) < count:
        last = chosen[-1]
        near |= set(range(max(0, last - jump), min(length, last + jump + 1)))
        near -= set(chosen)
        among = sorted(near)
        chosen.append(among[int(rng.integers(len(among)))])
    chosen.sort(reverse=bool(rng.random() < 0.5))
    return chosen


def ids_of(mask: NDArray[Any], name: Any, unknown: int | None = None) -> NDArray[np.uint16]:
    """A mask as stored as object ids.

    Args:
        mask: Integer or bool (H, W); zero is background.
        name: Of the mask, for messages.
        unknown: The stored value that means unknown, if there is one.

    Raises:
        MediaError: If an id is too large.
    """
    highest = int(mask.max(initial=0))
    if highest >= UNKNOWN or int(mask.min(initial=0)) < 0:
        raise MediaError.at(
            name,
            f"holds the id {highest if highest >= UNKNOWN else int(mask.min())}",
            f"ids from 1 to {UNKNOWN - 1}",
            "number the objects anew",
        )
    ids = mask.astype(np.uint16)
    if unknown is not None:
        ids[mask == unknown] = UNKNOWN
    return ids


def known_objects(ids: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Where there is an object, of the shape of ``ids``."""
    there: NDArray[np.bool_] = (ids != 0) & (ids != UNKNOWN)
    return there
