"""Training clips for XMem as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dvos.training.clips import ClipSample
from dvos.training.colour_jitter import ColourJitter
from dvos.training.datasets import to_item
from dvos.training.degradation import Degradation
from dvos.training.mixture import Shares
from dvos.training.spatial import SpatialJitter
from dvos.training.xmem.clips import UNKNOWN, ObjectClip, ObjectSource, known_objects
from dvos.training.xmem.curriculum import Curriculum, FrameJitter

__all__ = ["IGNORED", "ObjectItem", "TrackingClips", "draw_memory", "normalised", "targets_of"]

#: Class of pixels that do not count, as :func:`torch.nn.functional.cross_entropy` has it.
IGNORED = -100

#: frames float32 (T, 3, H, W); target int64 (T, H, W), 0 background, i the i-th
#: object, ``IGNORED`` unknown; count int64 (), objects there are, at least 1;
#: memory int64 (T, R), frames remembered when frame t is segmented.
ObjectItem = dict[str, Tensor]

_TRIES = 5
# Marks the streams of a clip: its shown content, and what is remembered of it.
_SHOWN, _REMEMBERED = 0, 1


class TrackingClips(Dataset[ObjectItem]):
    """Endless training clips: item k is always the same.

    Args:
        sources: By name.
        shares: Of each source.
        frames: Frames of a clip T.
        references: Most frames remembered at a time R.
        size: (height, width) of the clips, multiples of 16.
        seed: Of all draws.
        objects: ``union``: all objects are one; ``instances``: each has its own
            mask, and some of those in the first frame are drawn.
        max_objects: Of a clip, with ``instances``.
        curriculum: What changes over the run.
        bend: Of single frames, in the main part of the run.
        spatial: What the geometry of clips is drawn from.
        colour: What their colours are drawn from.
        degradation: What their quality is drawn from.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.
    """

    def __init__(
        self,
        sources: Mapping[str, ObjectSource],
        shares: Mapping[str, float],
        *,
        frames: int,
        references: int,
        size: tuple[int, int],
        seed: int,
        objects: Literal["union", "instances"],
        max_objects: int,
        curriculum: Curriculum,
        bend: FrameJitter,
        spatial: SpatialJitter,
        colour: ColourJitter,
        degradation: Degradation,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self._sources = dict(sources)
        self._shares = Shares(shares)
        self._frames = frames
        self._references = references
        self._size = size
        self._seed = seed
        self._most = max_objects if objects == "instances" else 0
        self._curriculum = curriculum
        self._bend = bend
        self._spatial = spatial
        self._colour = colour
        self._degradation = degradation
        self._mean, self._std = tuple(mean), tuple(std)

    def __getitem__(self, k: int) -> ObjectItem:
        """Clip ``k`` as tensors."""
        clip, target, count = self._labelled(k)
        rng = self._stream(k, _REMEMBERED)
        memory = draw_memory(rng, frames=self._frames, references=self._references)
        return {
            "frames": normalised(clip.frames, mean=self._mean, std=self._std),
            "target": torch.from_numpy(target),
            "count": torch.tensor(count),
            "memory": torch.from_numpy(memory),
        }

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source; they add up to 1."""
        return self._shares.parts

    def count(self, indices: Sequence[int]) -> dict[str, int]:
        """How many of these clips each source gives."""
        counts = Counter(self._shares.draw(self._stream(k, _SHOWN)) for k in indices)
        return {name: counts[place] for place, name in enumerate(self._shares.names)}

    def sample(self, k: int) -> ClipSample:
        """Clip ``k`` as images, with the objects of its last frame, for pictures."""
        clip, target, _ = self._labelled(k)
        shown = np.where(target[-1] == IGNORED, 255, target[-1] > 0)
        return ClipSample(clip.frames, shown.astype(np.uint8))

    def _stream(self, k: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, k, number])

    def _labelled(self, k: int) -> tuple[ObjectClip, NDArray[np.int64], int]:
        """Clip ``k``, its target (T, H, W) and how many objects it has."""
        if k < 0:
            raise IndexError(f"clip {k}: clips count from 0")
        rng = self._stream(k, _SHOWN)
        source = self._sources[self._shares.names[self._shares.draw(rng)]]
        clip = self._shape(rng, source, k)
        for _ in range(_TRIES - 1):
            # Without an object in the first frame there is nothing to follow.
            if known_objects(clip.ids[0]).any():
                break
            clip = self._shape(rng, source, k)
        clip = _known_throughout(clip)
        frames = self._degradation.apply(rng, self._colour.apply(rng, clip.frames))
        target, count = targets_of(rng, clip.ids, most=self._most)
        return ObjectClip(frames, clip.ids), target, count

    def _shape(self, rng: np.random.Generator, source: ObjectSource, k: int) -> ObjectClip:
        geometry = self._spatial.draw(rng, self._size)
        clip = source.sample(
            rng,
            frames=self._frames,
            jump=self._curriculum.jump(k),
            size=geometry.canvas,
            scale=geometry.scale,
        )
        ids = geometry.apply_to_ids(clip.ids)
        # The target of the clip as such is not looked at.
        frames = geometry.apply(ClipSample(clip.frames, clip.frames[-1, ..., 0])).frames
        shaped = ObjectClip(frames, ids)
        return shaped if self._curriculum.tunes(k) else self._bend.apply(rng, shaped)


def _known_throughout(clip: ObjectClip) -> ObjectClip:
    """A clip in which every frame has a pixel with a label: it may come to stand still."""
    unknown = (clip.ids == UNKNOWN).all(axis=(1, 2))
    if not unknown.any():
        return clip
    frames, ids = clip.frames.copy(), clip.ids.copy()
    if unknown[0]:
        ids[0] = 0
    frames[unknown], ids[unknown] = frames[0], ids[0]
    return ObjectClip(frames, ids)


def targets_of(
    rng: np.random.Generator, ids: NDArray[np.uint16], *, most: int
) -> tuple[NDArray[np.int64], int]:
    """Which pixel belongs to which of the objects to be followed.

    Args:
        rng: Source of the choice among the objects of the first frame.
        ids: uint16 (T, H, W).
        most: Objects to be followed at most, others and those that come later
            being background; 0 for all objects together as one.

    Returns:
        int64 (T, H, W): 0 background, ``IGNORED`` unknown, 1 and so on the
        objects; and their number, at least 1.
    """
    numbers = np.zeros(UNKNOWN + 1, np.int64)
    count = 1
    if most:
        there = np.unique(ids[0])
        there = there[(there != 0) & (there != UNKNOWN)]
        if len(there) > most:
            there = rng.choice(there, most, replace=False)
        numbers[there] = np.arange(1, len(there) + 1)
        count = max(1, len(there))
    else:
        numbers[1:] = 1
    numbers[UNKNOWN] = IGNORED
    target: NDArray[np.int64] = numbers[ids]
    return target, count


def draw_memory(rng: np.random.Generator, *, frames: int, references: int) -> NDArray[np.int64]:
    """Which earlier frames are remembered when each frame is segmented.

    All of them while there are no more than ``references``; then the first and
    others drawn at random.

    Returns:
        int64 (frames, references); of frame t the first min(t, references) count.
    """
    memory = np.zeros((frames, references), np.int64)
    for moment in range(1, frames):
        if moment <= references:
            memory[moment, :moment] = np.arange(moment)
        else:
            others = rng.permutation(moment - 1)[: references - 1] + 1
            memory[moment, 1:] = others
    return memory


def normalised(frames: NDArray[np.uint8], *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Frames uint8 (T, H, W, 3) as float32 (T, 3, H, W)."""
    return to_item(ClipSample(frames, frames[-1, ..., 0]), mean=mean, std=std)["frames"]
