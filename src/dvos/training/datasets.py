"""Training and validation clips as tensors, the data sets that a loader reads; pictures of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dvos.config.data import DataSettings
from dvos.media.image import write_image
from dvos.media.mask import IGNORE
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.networks.spec import Normalisation, normalised
from dvos.training.augment.appearance import ColourJitter, Degradation, PatchDiffusion
from dvos.training.augment.spatial import draw_geometry
from dvos.training.clips.clip import Clip, ClipSource, known_objects, query_clip
from dvos.training.clips.validation import ValidationClip
from dvos.training.objective import SegmentedClip
from dvos.training.targets import Item, Target

# How often a clip is drawn until the target accepts it.
_TRIES = 5
_LARGEST_CELL = (384, 512)
_UNKNOWN = np.array([128, 128, 128], np.uint16)


class TrainingClips(Dataset[Item]):
    """Endless augmented clips from several sources, by their names.

    Clip k depends on the arguments and k alone: any process, in any order, gives the same bytes.
    Shares are taken in the order of the names, so that the order of a file does not matter;
    ``pictures`` is the number of different labelled pictures and videos that they show.
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
        weights = np.array([shares[name] for name in self._names], np.float64)
        weights /= weights.sum()
        #: The share of each source that is used; they add up to 1.
        self.shares = dict(zip(self._names, weights.tolist(), strict=True))
        self._edges = np.cumsum(weights)
        self._sources = [sources[name] for name in self._names]
        self._target, self._settings = target, settings
        self._seed, self._normalisation = seed, normalisation
        self._colour = ColourJitter(settings.colour)
        self._degradation = Degradation(settings.degradation)
        self._diffusion = PatchDiffusion(settings.diffusion)
        self._as_bytes = False

    def as_bytes(self) -> TrainingClips:
        """The same clips with frames uint8 for :func:`normalised_batch`, in half the time."""
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
        if not self._as_bytes:
            planes = normalised(planes, *self._normalisation.tensors())
        if self._diffusion.changes:
            # A stream of its own: with noise or without, a clip shows the same.
            sequence = np.random.SeedSequence([self._seed, k], spawn_key=(1,))
            self._diffusion.apply(np.random.default_rng(sequence), planes.numpy())
        return {"frames": planes} | self._target.labels(rng, k, clip, self._names[source])

    def source_of(self, k: int) -> str:
        """Name of the source of clip ``k``, without making the clip."""
        return self._names[self._draw(k)[1]]

    def count(self, indices: Sequence[int]) -> dict[str, int]:
        """How many of these clips each source gives."""
        counts = Counter(map(self.source_of, indices))
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
        chosen = self._settings
        for _ in range(_TRIES):
            geometry = draw_geometry(rng, chosen.spatial, (chosen.crop, chosen.crop))
            scale = geometry.scale * chosen.scale
            request = self._target.request(k, size=geometry.canvas, scale=scale)
            clip = self._sources[source].sample(rng, request)
            clip = geometry.apply(clip, as_one=request.as_one)
            clip = self._target.shape(rng, k, clip)
            if self._target.accepts(clip):
                break
        return clip


class ValidationClips(Dataset[Item]):
    """A fixed list of clips of whole frames, by ``names``; their sizes and lengths may differ."""

    def __init__(
        self, clips: Sequence[ValidationClip], target: Target, normalisation: Normalisation
    ) -> None:
        self._clips, self._target, self._normalisation = clips, target, normalisation
        self.names = [clip.name for clip in clips]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Item:
        """Clip ``number``: frames float32 (T, 3, H, W), and what the target says."""
        clip = self.clip(number)
        frames = normalised(planes_of(clip.frames), *self._normalisation.tensors())
        return {"frames": frames} | self._target.validation_labels(clip)

    def clip(self, number: int) -> Clip:
        """Clip ``number`` with the ids of its frames."""
        return self._clips[number].read()


def planes_of(frames: NDArray[np.uint8]) -> Tensor:
    """Frames uint8 (T, H, W, 3) with their colours apart, uint8 (T, 3, H, W)."""
    count, height, width, channels = frames.shape
    planes = np.empty((count, channels, height, width), np.uint8)
    for image, parts in zip(frames, planes, strict=True):
        cv2.split(image, list(parts))  # several times as fast as a transposed copy
    return torch.from_numpy(planes)


def normalised_batch(batch: Item, *, mean: Tensor, std: Tensor) -> Item:
    """A batch with frames float32 (B, T, 3, H, W), the very same where they were bytes."""
    frames = batch.get("frames")
    if frames is None or frames.dtype != torch.uint8:
        return batch
    return {**batch, "frames": normalised(frames, mean, std)}


def images_of(frames: Tensor, normalisation: Normalisation) -> NDArray[np.uint8]:
    """Normalised frames as images uint8 (T, H, W, 3) again; noise beyond black and white is cut."""
    mean, std = (np.array(part, np.float32) for part in (normalisation.mean, normalisation.std))
    colours = 255 * (frames.permute(0, 2, 3, 1).numpy() * std + mean)
    images: NDArray[np.uint8] = np.rint(np.clip(colours, 0, 255)).astype(np.uint8)
    return images


def batch_picture(data: TrainingClips, count: int, *, first: int = 0) -> NDArray[np.uint8]:
    """Show clips as a network sees them: a row of frames, then the last with its objects."""
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
    height, width = np.minimum(image.shape[:2], _LARGEST_CELL).tolist()
    sheet = contact_sheet(
        [image, overlay(image, label), overlay(image, prediction)],
        columns=3,
        labels=["frame", "label", "prediction"],
        cell=(height, width),
    )
    write_image(path, sheet)
