"""Clips as tensors: the data sets that a loader reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dvos.training.clips import IGNORE, OBJECT, ClipSample
from dvos.training.diffusion import PatchDiffusion
from dvos.training.mixture import ClipMixture
from dvos.training.validation import FixedSource

__all__ = ["ClipItem", "TrainingClips", "ValidationClips", "start_worker", "to_item"]

#: frames float32 (T, 3, H, W); target float32 (1, H, W), 0 or 1; weight
#: float32 (1, H, W), 0 where the label is unknown, else the weight of its source.
ClipItem = dict[str, Tensor]

# Marks the stream of a clip's noise, which is drawn apart from all else: with
# it or without, a clip shows the same.
_NOISE = 1


class TrainingClips(Dataset[ClipItem]):
    """Endless training clips: item k is always the same.

    It has no length; give a ``DataLoader`` a sampler of the indices wanted.

    Args:
        mixture: Makes the clips.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.
        diffusion: What the noise of the references is drawn from.
        weights: Weight of the pixels of a source's clips, by its name; 1 for
            sources not named.
    """

    def __init__(
        self,
        mixture: ClipMixture,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        diffusion: PatchDiffusion | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.mixture = mixture
        self._mean = tuple(mean)
        self._std = tuple(std)
        self._diffusion = diffusion or PatchDiffusion()
        self._weights = {name: weight for name, weight in (weights or {}).items() if weight != 1}

    def __getitem__(self, k: int) -> ClipItem:
        """Clip ``k`` as tensors."""
        item = to_item(self.mixture.sample(k), mean=self._mean, std=self._std)
        if self._diffusion.changes:
            self._diffusion.apply(self.mixture.stream(k, _NOISE), item["frames"].numpy())
        if self._weights:
            item["weight"] *= self._weights.get(self.source_of(k), 1.0)
        return item

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source; they add up to 1."""
        return self.mixture.shares

    def source_of(self, k: int) -> str:
        """Name of the source of clip ``k``, without making it."""
        return self.mixture.source_of(k)

    def count(self, indices: Sequence[int]) -> dict[str, int]:
        """How many of these clips each source gives."""
        return self.mixture.count(indices)

    def sample(self, k: int) -> ClipSample:
        """Clip ``k`` as images, for pictures; noise beyond black and white is cut off."""
        sample = self.mixture.sample(k)
        if not self._diffusion.changes:
            return sample
        frames = self[k]["frames"].permute(0, 2, 3, 1).numpy()
        mean, std = (np.array(part, np.float32) for part in (self._mean, self._std))
        colours = 255 * (frames * std + mean)
        shown = np.rint(np.clip(colours, 0, 255)).astype(np.uint8)
        return ClipSample(shown, sample.target)


class ValidationClips(Dataset[ClipItem]):
    """A fixed list of clips of whole frames; their sizes may differ.

    Args:
        sources: Where the clips come from.
        frames: Frames of a clip, the query included.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.
    """

    def __init__(
        self,
        sources: Sequence[FixedSource],
        *,
        frames: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self._clips = [(source, i) for source in sources for i in range(len(source.names))]
        self.names = [name for source in sources for name in source.names]
        self._frames = frames
        self._mean = tuple(mean)
        self._std = tuple(std)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> ClipItem:
        """Clip ``number`` as tensors."""
        return to_item(self.sample(number), mean=self._mean, std=self._std)

    def sample(self, number: int) -> ClipSample:
        """Clip ``number`` as images."""
        source, i = self._clips[number]
        return source.clip(i, frames=self._frames)


def to_item(sample: ClipSample, *, mean: Sequence[float], std: Sequence[float]) -> ClipItem:
    """Turn a clip into tensors.

    Args:
        sample: Frames uint8 (T, H, W, 3), target uint8 (H, W).
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.

    Returns:
        See :data:`ClipItem`; frames are (value / 255 - mean) / std.
    """
    count, height, width, channels = sample.frames.shape
    planes = np.empty((count, channels, height, width), np.uint8)
    for image, parts in zip(sample.frames, planes, strict=True):
        cv2.split(image, list(parts))  # several times as fast as a transposed copy
    frames = torch.from_numpy(planes).float()
    factor = torch.tensor([1 / (255 * s) for s in std]).view(1, 3, 1, 1)
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, 3, 1, 1)
    frames.mul_(factor).add_(offset)
    target = torch.from_numpy(sample.target)[None]
    return {
        "frames": frames,
        "target": (target == OBJECT).float(),
        "weight": (target != IGNORE).float(),
    }


def start_worker(worker: int) -> None:
    """Prepare a ``DataLoader`` worker process: ``worker_init_fn``.

    Each worker has one core; OpenCV's own threads would only fight over it.
    """
    del worker
    cv2.setNumThreads(0)
