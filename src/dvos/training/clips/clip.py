"""A clip with the objects of its frames, and what every source of clips has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvos.media.mask import IGNORE

if TYPE_CHECKING:
    # Its compiler takes seconds to load: only those who make clips pay.
    from dvos.synthesis.build import ClipGenerator
    from dvos.synthesis.compositor import SyntheticClip

T = TypeVar("T")

#: Training draws synthetic clips below this number, so many that a run never meets one twice by
#: chance (2e6 draws of 2**62 collide with a chance of 4e-7); validation takes those from it on.
FIRST_VALIDATION_CLIP = 2**62
#: Object pixels kept as seed points: more would only cost memory; and pixels of a mask from which
#: on they are looked for in steps.
_POINTS, _LARGE = 4096, 1_000_000


@dataclass(frozen=True, eq=False)
class Clip:
    """A short clip, and which object is where in its frames."""

    frames: NDArray[np.uint8]  # uint8 RGB (T, H, W, 3), in the order the network meets them.
    #: uint16 (T, H, W): 0 background, ``IGNORE`` unknown, else an object's id, one in all frames.
    ids: NDArray[np.uint16]
    #: bool (T,): the frames whose ids are known; others hold ``IGNORE`` everywhere.
    labelled: NDArray[np.bool_]
    tells_apart: bool  # Whether different objects have different ids; if not, all have the id 1.


@dataclass(frozen=True)
class ClipRequest:
    """What clip a source is asked for."""

    frames: int  # At least 1.
    size: tuple[int, int]  # (height, width) of the frames, pixels.
    #: Size of an object in the frames relative to its size in the source's pixels.
    scale: float = 1.0
    #: Whether ids are wanted of every frame and object; else of the last frame, all objects as 1.
    every_frame: bool = False
    #: Whether, without ``every_frame``, the objects of the last two frames are wanted.
    objects: bool = False
    #: None: frames in order of time, the last one labelled, as far apart as the source's settings
    #: say. Else how far apart they are drawn, see :func:`draw_moments`.
    jump: int | None = None

    @property
    def as_one(self) -> bool:
        """Whether all objects of a mask are wanted as one."""
        return not (self.every_frame or self.objects)

    def labelled(self, frames: Sequence[T]) -> Sequence[T]:
        """Those of a clip's frames whose ids are wanted."""
        return frames if self.every_frame else frames[-2:] if self.objects else frames[-1:]


class ClipSource(Protocol):
    """An endless supply of labelled clips, each by ``rng`` and request alone; picklable."""

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Draw the clip asked for."""


class PooledClips:
    """Several sources as one, each with what it is drawn in proportion to."""

    def __init__(self, sources: Sequence[tuple[ClipSource, int]]) -> None:
        self._sources = [source for source, _ in sources]
        self._edges = np.cumsum([weight for _, weight in sources])

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Draw a source, and a clip from it."""
        drawn = int(rng.integers(self._edges[-1]))
        source = self._sources[int(np.searchsorted(self._edges, drawn, side="right"))]
        return source.sample(rng, request)


@dataclass(frozen=True)
class SyntheticClips:
    """Synthetic clips, made on the fly at the scale asked for."""

    generator: ClipGenerator

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Make a clip; with ``jump`` some frames of one that is as long as they reach."""
        length, times = request.frames, None
        if request.jump is not None:
            reach = (request.frames - 1) * request.jump + 1
            moments = draw_moments(rng, reach, count=request.frames, jump=request.jump)
            times = [moment - min(moments) for moment in moments]
            length = max(times) + 1
        number = int(rng.integers(FIRST_VALIDATION_CLIP))
        made = self.generator.make(
            number, frames=length, size=request.size, times=times, scale=request.scale
        )
        return synthetic_clip(made, request)


def synthetic_clip(made: SyntheticClip, request: ClipRequest) -> Clip:
    """A rendered clip with the ids that are asked for."""
    wanted = request.labelled(list(made.instances))
    masks = [*[None] * (len(made.frames) - len(wanted)), *wanted]
    return labelled_clip(request, made.frames, masks, [None])


def query_clip(frames: NDArray[np.uint8], ids: NDArray[np.uint16]) -> Clip:
    """A clip of which only the last frame is labelled, uint16 (H, W): 0, 1 or ``IGNORE``."""
    every = np.full(frames.shape[:3], IGNORE, np.uint16)
    every[-1] = ids
    return Clip(frames, every, np.arange(len(frames)) == len(frames) - 1, False)


def labelled_clip(
    request: ClipRequest,
    frames: NDArray[np.uint8],
    masks: Sequence[NDArray[np.uint16] | None],
    only: Sequence[int | None],
) -> Clip:
    """A clip of frames (T, H, W, 3) with the ids that are asked for.

    Masks, uint16 (H, W), are None where a frame is not labelled; ``only`` is that of each whole
    :class:`DecodedMask`. Where all are the same id, or 0, it stands for "object" and becomes 1.
    """
    if request.as_one:
        assert masks[-1] is not None
        return query_clip(frames, merge_objects(masks[-1]))
    found = set(only) - {0}
    apart = None in found or len(found) != 1
    ids = np.full(frames.shape[:3], IGNORE, np.uint16)
    for moment, mask in enumerate(masks):
        if mask is not None:
            ids[moment] = mask if apart else merge_objects(mask)
    return Clip(frames, ids, np.array([mask is not None for mask in masks]), apart)


def known_objects(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Where there is an object, bool of the shape of ``ids``."""
    return np.asarray((ids != 0) & (ids != IGNORE))


def merge_objects(ids: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same mask with the id 1 for all objects, uint16."""
    merged: NDArray[np.uint16] = np.minimum(ids, 1)
    merged[ids == IGNORE] = IGNORE
    return merged


def draw_moments(rng: np.random.Generator, length: int, *, count: int, jump: int) -> list[int]:
    """Draw ``count`` of ``length`` frames of a video as XMem's training does.

    One is drawn at random; each further one from those not yet drawn that lie at most ``jump``
    from one that is. They come in order of time or, half the time, against it.
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


def seed_points(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Pick pixels spread evenly over the objects of a mask, (row, column), int64 (N, 2)."""
    # Of a large photo every few rows and columns do, at a fraction of the memory.
    step = max(1, int((ids.size / _LARGE) ** 0.5))
    objects = known_objects(ids[::step, ::step])
    if step > 1 and not objects.any():
        step, objects = 1, known_objects(ids)
    flat = np.flatnonzero(objects)
    flat = flat[:: max(1, len(flat) // _POINTS)]
    return step * np.stack(np.divmod(flat, objects.shape[1]), axis=1)


def draw_seed_point(
    rng: np.random.Generator, points: NDArray[np.int64], share: float
) -> tuple[int, int] | None:
    """Draw which of these pixels, if any, a window is laid to hold; ``share`` of them are so."""
    if not len(points) or rng.random() >= share:
        return None
    row, column = points[int(rng.integers(len(points)))]
    return int(row), int(column)
