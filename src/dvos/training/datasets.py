"""Training and validation clips as tensors: data sets, batches of them, and pictures."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from dvos.config.data import DataSettings
from dvos.errors import DvosError
from dvos.media.image import write_image
from dvos.media.limits import MemoryShare, set_memory_share
from dvos.media.mask import IGNORE
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.networks.spec import Normalisation, normalised
from dvos.runner.processes import deferred, end_with_parent, process_context, starting_processes
from dvos.runner.tasks import Words, say, words_kept
from dvos.training.augment.appearance import ColourJitter, Degradation, PatchDiffusion
from dvos.training.augment.spatial import draw_geometry
from dvos.training.clips.clip import Clip, ClipSource, known_objects, query_clip
from dvos.training.clips.validation import ValidationClip
from dvos.training.objective import SegmentedClip
from dvos.training.targets import Item, Target
from dvos.training.workers import preload_server

# How often a clip is drawn until the target accepts it.
_TRIES = 5
_LARGEST_CELL = (384, 512)
_UNKNOWN = np.array([128, 128, 128], np.uint16)
_PREFETCH = 2

#: What workers of this process, which end with each epoch, have said.
_SAID: set[str] = set()


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


class _WithWords(Dataset[Any]):
    """Items with what was logged as they were made; foreseen errors are items, not tracebacks."""

    def __init__(self, clips: Dataset[Item]) -> None:
        self._clips = clips

    def __getitem__(self, index: int) -> tuple[Item | DvosError, Words]:
        with words_kept() as words:
            try:
                return self._clips[index], words
            except DvosError as error:
                return error, words


def _collate(items: list[tuple[Item | DvosError, Words]]) -> tuple[Item | DvosError, Words]:
    words = Words(lines={same: one for _, w in items for same, one in w.lines.items()})
    errors = [item for item, _ in items if isinstance(item, DvosError)]
    return errors[0] if errors else default_collate([item for item, _ in items]), words


def _begin(_worker: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the main one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Torch's own workers watch the process they were forked from, which is the fork server, and
    # keep that alive: a kill of the training would leave both.
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.excepthook = _tell_of_trouble
    # Each has one core; OpenCV's own threads would only fight over it.
    cv2.setNumThreads(0)
    # All read at the same time, those of other training processes on the machine too.
    readers = getattr(get_worker_info(), "num_workers", 1)
    set_memory_share(MemoryShare.of(readers * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _tell_of_trouble(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    # The thread that hands tensors on is cut short where the training is.
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def batches_of(
    clips: Dataset[Item], parts: Iterable[list[int]], *, workers: int, pin: bool
) -> Generator[Item, None, None]:
    """Read the clips of each part as a batch, in order; a DvosError of any process is raised.

    Made by ``workers`` processes, or by this one for 0, which end when it is closed; ``pin`` puts
    batches into page-locked memory, for a GPU.
    """
    # The fork server loads torch once for all workers.
    preload_server()
    # A script that trains needs a guard around its call only if it defines a part of the clips.
    pickled = pickle.dumps(clips) if workers else b""
    loader = DataLoader(
        # A forked worker would read on in the files that are open here.
        _WithWords(pickle.loads(pickled) if workers else clips),
        batch_sampler=list(parts),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_begin if workers else None,
        prefetch_factor=_PREFETCH if workers else None,
        multiprocessing_context=process_context() if workers else None,
        pin_memory=pin,
        # Workers seed their generators, unused, from this one: the global one would shift draws.
        generator=torch.Generator(),
    )
    with starting_processes(load_main=b"__main__" in pickled):
        batches = iter(loader)
    try:
        for batch, words in batches:
            say(words, _SAID)
            if isinstance(batch, DvosError):
                raise batch
            yield batch
    finally:
        # It ends its workers where it is destroyed, from where Ctrl-C would get no further.
        with deferred(signal.SIGINT):
            del batches


def images_of(frames: Tensor, normalisation: Normalisation) -> NDArray[np.uint8]:
    """Normalised frames as images uint8 (T, H, W, 3) again; noise beyond black and white is cut."""
    mean, std = (np.array(part, np.float32) for part in (normalisation.mean, normalisation.std))
    colours = 255 * (frames.permute(0, 2, 3, 1).numpy() * std + mean)
    return np.asarray(np.rint(np.clip(colours, 0, 255)), np.uint8)


def batch_picture(data: TrainingClips, count: int) -> NDArray[np.uint8]:
    """Show clips as a network sees them: a row of frames, then the last with its objects."""
    cells: list[NDArray[np.uint8]] = []
    for number in range(count):
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
    cells = [image, overlay(image, label), overlay(image, prediction)]
    labels = ["frame", "label", "prediction"]
    write_image(path, contact_sheet(cells, columns=3, labels=labels, cell=(height, width)))
