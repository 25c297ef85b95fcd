"""Training and validation clips as tensors, the data sets that a loader reads; pictures of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from dvos.config.data import DataSettings
from dvos.media.image import write_image
from dvos.media.limits import MemoryShare, set_memory_share
from dvos.media.mask import IGNORE
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.networks.spec import Normalisation, normalised
from dvos.training.augment.appearance import ColourJitter, Degradation, PatchDiffusion
from dvos.training.augment.spatial import SpatialJitter
from dvos.training.clips.clip import Clip, ClipSource, known_objects, query_clip
from dvos.training.clips.validation import ValidationSource
from dvos.training.objective import SegmentedClip
from dvos.training.targets import Item, Target

# How often a clip is drawn until the target accepts it.
_TRIES = 5
_LARGEST_CELL = (384, 512)
_UNKNOWN = np.array([128, 128, 128], np.uint16)


class TrainingClips(Dataset[Item]):
    """Endless augmented clips from several sources.

    Clip k depends on the arguments below and k alone: any process, in any order, gives the same
    bytes. There is no length; give a ``DataLoader`` a sampler of the indices wanted.

    Args:
        sources: Sources of clips by name.
        shares: Of each name; those above 0 are made to add up to 1. They are taken in the order
            of the names, so that the order of a file does not matter.
        target: What the network learns from a clip.
        settings: Side of the clips, and how they are changed.
        seed: Of all draws.
        normalisation: Of the network's input.
        pictures: Number of different labelled pictures and videos that they show.
    """

    def __init__(
        self,
        sources: Mapping[str, ClipSource],
        shares: Mapping[str, float],
        target: Target,
        settings: DataSettings,
        *,
        seed: int,
        normalisation: Normalisation,
        pictures: int = 1,
    ) -> None:
        self.pictures = pictures
        self._names = sorted(name for name, share in shares.items() if share > 0)
        if not self._names:
            raise ValueError("no source has a share")
        weights = np.array([shares[name] for name in self._names], np.float64)
        self._edges = np.cumsum(weights / weights.sum())
        self._sources = [sources[name] for name in self._names]
        self._target = target
        self._size = (settings.crop, settings.crop)
        self._seed = seed
        self._normalisation = normalisation
        self._scale = settings.scale
        self._spatial = SpatialJitter(settings.spatial)
        self._colour = ColourJitter(settings.colour)
        self._degradation = Degradation(settings.degradation)
        self._diffusion = PatchDiffusion(settings.diffusion)
        self._as_bytes = False

    def as_bytes(self) -> TrainingClips:
        """The same clips with frames uint8 (T, 3, H, W), for a :class:`BatchNormaliser`.

        To make numbers of them takes half of a clip's time, and moves four times the bytes. Where
        references are noised, which is done after that, clips stay as they are.
        """
        clips = copy(self)
        clips._as_bytes = not self._diffusion.changes
        return clips

    def __getitem__(self, k: int) -> Item:
        """Clip ``k``: frames float32 (T, 3, H, W), and what the target says."""
        rng, source = self._draw(k)
        clip = self._shaped(rng, source, k)
        frames = self._degradation.apply(rng, self._colour.apply(rng, clip.frames))
        clip = Clip(frames, clip.ids, clip.labelled, clip.tells_apart)
        planes = planes_of(frames)
        item = {
            "frames": planes
            if self._as_bytes
            else normalised(planes, *self._normalisation.tensors())
        }
        if self._diffusion.changes:
            # A stream of its own: with noise or without, a clip shows the same.
            sequence = np.random.SeedSequence([self._seed, k], spawn_key=(1,))
            self._diffusion.apply(np.random.default_rng(sequence), item["frames"].numpy())
        return item | self._target.labels(rng, k, clip, self._names[source])

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source that is used; they add up to 1."""
        parts = np.diff(self._edges, prepend=0.0)
        return {name: float(part) for name, part in zip(self._names, parts, strict=True)}

    def source_of(self, k: int) -> str:
        """Name of the source of clip ``k``, without making the clip."""
        return self._names[self._draw(k)[1]]

    def count(self, indices: Sequence[int]) -> dict[str, int]:
        """How many of these clips each source gives."""
        counts = Counter(self.source_of(k) for k in indices)
        return {name: counts[name] for name in self._names}

    def raw(self, k: int) -> Clip:
        """Clip ``k`` with its geometry, before colours and quality change."""
        return self._shaped(*self._draw(k), k)

    def sample(self, k: int) -> Clip:
        """Clip ``k`` as images, with what is learnt of its last frame, for pictures."""
        item = self[k]
        return query_clip(images_of(item["frames"], self._normalisation), self._target.shown(item))

    def _draw(self, k: int) -> tuple[np.random.Generator, int]:
        if k < 0:
            raise IndexError(f"clip {k}: clips count from 0")
        rng = np.random.default_rng([self._seed, k])
        chosen = int(np.searchsorted(self._edges, rng.random(), side="right"))
        # The last edge may fall short of 1 by rounding.
        return rng, min(chosen, len(self._names) - 1)

    def _shaped(self, rng: np.random.Generator, source: int, k: int) -> Clip:
        for _ in range(_TRIES):
            geometry = self._spatial.draw(rng, self._size)
            scale = geometry.scale * self._scale
            request = self._target.request(k, size=geometry.canvas, scale=scale)
            clip = self._sources[source].sample(rng, request)
            clip = geometry.apply(clip, as_one=request.as_one)
            clip = self._target.shape(rng, k, clip)
            if self._target.accepts(clip):
                break
        return clip


class ValidationClips(Dataset[Item]):
    """A fixed list of clips of whole frames; their sizes and lengths may differ.

    Args:
        sources: Where the clips come from.
        target: What the network learns from a clip.
        normalisation: Of the network's input.

    Attributes:
        names: Name of each clip.
    """

    def __init__(
        self, sources: Sequence[ValidationSource], target: Target, normalisation: Normalisation
    ) -> None:
        self._clips = [(source, i) for source in sources for i in range(len(source.names))]
        self.names = [name for source in sources for name in source.names]
        self._target = target
        self._normalisation = normalisation

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Item:
        """Clip ``number``: frames float32 (T, 3, H, W), and what the target says."""
        clip = self.clip(number)
        frames = network_input(clip.frames, self._normalisation)
        return {"frames": frames} | self._target.validation_labels(clip)

    def clip(self, number: int) -> Clip:
        """Clip ``number`` with the ids of its frames."""
        source, i = self._clips[number]
        return source.clip(i)


def network_input(frames: NDArray[np.uint8], normalisation: Normalisation) -> Tensor:
    """Frames uint8 (T, H, W, 3) as a network takes them, float32 (T, 3, H, W)."""
    return normalised(planes_of(frames), *normalisation.tensors())


def planes_of(frames: NDArray[np.uint8]) -> Tensor:
    """Frames uint8 (T, H, W, 3) with their colours apart, uint8 (T, 3, H, W)."""
    count, height, width, channels = frames.shape
    planes = np.empty((count, channels, height, width), np.uint8)
    for image, parts in zip(frames, planes, strict=True):
        cv2.split(image, list(parts))  # several times as fast as a transposed copy
    return torch.from_numpy(planes)


class BatchNormaliser:
    """Normalises the frames of batches where they lie, if they are bytes: to the very same numbers.

    Args:
        normalisation: Of the network's input.
        device: Where batches lie.
    """

    def __init__(self, normalisation: Normalisation, device: torch.device) -> None:
        self._mean, self._std = normalisation.tensors(device)

    def __call__(self, batch: Item) -> Item:
        """A batch with frames float32 (B, T, 3, H, W)."""
        frames = batch.get("frames")
        if frames is None or frames.dtype != torch.uint8:
            return batch
        return {**batch, "frames": normalised(frames, self._mean, self._std)}


def images_of(frames: Tensor, normalisation: Normalisation) -> NDArray[np.uint8]:
    """Normalised frames as images uint8 (T, H, W, 3) again; noise beyond black and white is cut."""
    mean, std = (np.array(part, np.float32) for part in (normalisation.mean, normalisation.std))
    colours = 255 * (frames.permute(0, 2, 3, 1).numpy() * std + mean)
    images: NDArray[np.uint8] = np.rint(np.clip(colours, 0, 255)).astype(np.uint8)
    return images


def start_worker(worker: int) -> None:
    """Prepare a ``DataLoader`` worker process: ``worker_init_fn``.

    Each worker has one core; OpenCV's own threads would only fight over it. All of them read at
    the same time, those of other training processes on the machine too.
    """
    del worker
    cv2.setNumThreads(0)
    info = get_worker_info()
    readers = info.num_workers if info else 1
    set_memory_share(MemoryShare.of(readers * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def batch_picture(data: TrainingClips, count: int, *, first: int = 0) -> NDArray[np.uint8]:
    """Show ``count`` clips from number ``first`` on as the network sees them, before normalising.

    Returns:
        uint8 (H, W, 3): a row for each clip; its frames in order, then the last one with its
        objects outlined and unknown pixels greyed.
    """
    cells: list[NDArray[np.uint8]] = []
    for number in range(first, first + count):
        clip = data.sample(number)
        shown = outline(clip.frames[-1], known_objects(clip.ids[-1]))
        unknown = clip.ids[-1] == IGNORE
        shown[unknown] = ((shown[unknown] + _UNKNOWN) // 2).astype(np.uint8)
        cells += [*clip.frames, shown]
    return contact_sheet(cells, columns=len(cells) // count)


def draw_prediction(path: Path, clip: SegmentedClip, normalisation: Normalisation) -> None:
    """Write the frame, the frame with its label and with its prediction side by side."""
    image = images_of(clip.query[None], normalisation)[0]
    known = clip.weight[0].numpy() > 0
    label = (clip.target[0].numpy() > 0.5) & known
    prediction = clip.probability[0].numpy() > 0.5
    height = min(image.shape[0], _LARGEST_CELL[0])
    width = min(image.shape[1], _LARGEST_CELL[1])
    sheet = contact_sheet(
        [image, overlay(image, label), overlay(image, prediction)],
        columns=3,
        labels=["frame", "label", "prediction"],
        cell=(height, width),
    )
    write_image(path, sheet)
