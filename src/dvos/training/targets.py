"""What a network learns from a clip: the last frame's mask, or all objects of all frames.

A target says which clip it asks the sources for, what becomes of the clip before its colours are
changed, and which tensors stand beside its frames.

The centre of an object is the centre of gravity of its pixels in the frame, hidden and cut parts
left out: of all points this is the one that a network can see, and it stays the same thing where
prediction cuts objects at the frame's edge. The motion of an object is told where it is as large in
both frames and touches no edge in either, as else the centre moves with what hides the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvos.config.training import TrainingSettings
from dvos.media.mask import IGNORE, cut_by_edge
from dvos.networks.spec import OBJECTS
from dvos.training.clips.clip import Clip, ClipRequest, known_objects
from dvos.training.clips.validation import ValidationRequest
from dvos.training.networks import tells_apart
from dvos.training.records import TrainingPlan

#: Class of pixels that do not count, as :func:`torch.nn.functional.cross_entropy` has it.
IGNORED_CLASS = -100
#: Of the maps, against the frame.
OBJECT_STRIDE = 2
#: Objects of fewer pixels are scraps that others leave free; nothing is learnt of them.
_SCRAP = 8
#: Weight of objects that touch others: where an object stands alone, its outline tells its centre.
_CROWDED = 3
#: Largest weight of a small object's pixels in the mask.
_HEAVIEST = 5.0
#: The larger of two areas of an object over the smaller, at most, where its motion is told.
_ALIKE = 1.3

Singles = NDArray[np.float32]

#: A clip as named tensors; which ones, each target says.
Item = dict[str, Tensor]


class TruthChannels(IntEnum):
    """Channels of :func:`object_truth`; lengths in pixels, weights 0 where nothing is known."""

    OFFSET_X = 0
    OFFSET_Y = 1
    MOTION_X = 2
    MOTION_Y = 3
    #: Side of a square of the object's area.
    SIZE = 4
    #: One over the root of the object's area: one a quarter as large counts half as much.
    WEIGHT = 5
    MOTION_WEIGHT = 6
    #: 1 where it is known whether there is a centre.
    KNOWN = 7


WEIGHTS = (TruthChannels.WEIGHT, TruthChannels.MOTION_WEIGHT, TruthChannels.KNOWN)


class Target(Protocol):
    """What a network learns from clips; picklable."""

    #: Which validation clips are wanted.
    validation: ValidationRequest

    def request(self, k: int, *, size: tuple[int, int], scale: float) -> ClipRequest:
        """Which clip, of frames of this (height, width) and scale, is wanted as clip ``k``."""

    def shape(self, rng: np.random.Generator, k: int, clip: Clip) -> Clip:
        """What becomes of training clip ``k`` before its colours are changed: nothing here."""
        del rng, k
        return clip

    def accepts(self, clip: Clip) -> bool:
        """Whether a clip so shaped will do; if not, another is drawn, a few times."""
        del clip
        return True

    def labels(self, rng: np.random.Generator, k: int, clip: Clip, source: str) -> Item:
        """What is learnt from clip ``k`` beside its frames; ``rng`` goes on from its draws."""

    def validation_labels(self, clip: Clip) -> Item:
        """What a validation clip is measured by, beside its frames."""

    def shown(self, item: Item) -> NDArray[np.uint16]:
        """What is learnt of the last frame, for pictures: uint16 (H, W), 0, 1 or ``IGNORE``."""


class QueryTarget(Target):
    """The mask of a clip's last frame, the query, and where asked the objects in it.

    Beside frames items have target float32 (1, H, W), 0 or 1, and weight float32 (1, H, W), 0 where
    the label is unknown, else the weight of the clip's source, in training by
    ``losses.small_objects`` times :func:`size_weights`; and objects float32 (8, H / 2, W / 2), see
    :func:`object_truth`, their weights that of the source.
    ``references`` before the query are ``network.references`` by default.
    """

    def __init__(self, settings: TrainingSettings, *, references: int | None = None) -> None:
        self._frames = 1 + (settings.network.references if references is None else references)
        self._pseudo_weight = settings.data.pseudo.weight
        self._objects, self._small = tells_apart(settings.network), settings.losses.small_objects
        self.validation = ValidationRequest(False, self._frames, self._frames, 16, self._objects)

    def request(self, k: int, *, size: tuple[int, int], scale: float) -> ClipRequest:
        """References in order of time, then the query, whose mask alone is needed."""
        del k
        return ClipRequest(self._frames, size, scale, objects=self._objects)

    def labels(self, rng: np.random.Generator, k: int, clip: Clip, source: str) -> Item:
        """What the query shows, weighted by the size of its objects and the clip's source."""
        del rng, k
        item = self.validation_labels(clip)
        if self._small and clip.tells_apart:
            item["weight"] *= torch.from_numpy(size_weights(clip.ids[-1], self._small))
        if source == "pseudo" and self._pseudo_weight != 1:
            item["weight"] *= self._pseudo_weight
            if self._objects:
                item[OBJECTS][list(WEIGHTS)] *= self._pseudo_weight
        return item

    def validation_labels(self, clip: Clip) -> Item:
        """What the query shows."""
        ids = clip.ids[-1:]
        item = {
            "target": torch.from_numpy(known_objects(ids)).float(),
            "weight": torch.from_numpy(ids != IGNORE).float(),
        }
        if self._objects:
            item[OBJECTS] = torch.from_numpy(object_truth(clip))
        return item

    def shown(self, item: Item) -> NDArray[np.uint16]:
        """The query's mask."""
        mask = item["target"][0].numpy().astype(np.uint16)
        mask[item["weight"][0].numpy() == 0] = IGNORE
        return mask


class TrackTarget(Target):
    """The objects of all frames of a clip, those of the first being given.

    Beside frames items have target int64 (T, H, W), 0 background, i the i-th object,
    :data:`IGNORED_CLASS` unknown; of training clips also count int64 (), objects there
    are, at least 1, and memory int64 (T, R), frames remembered when frame t is segmented. In
    validation all objects are one.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = chosen = settings.xmem
        self._seed, self._references = settings.seed, settings.network.references
        clips = TrainingPlan.of(settings).clips
        self._curriculum = Curriculum(clips, chosen.jumps, chosen.tuning)
        # Of synthetic clips few: each is a whole video.
        self.validation = ValidationRequest(True, chosen.validation_frames, chosen.frames, 4)

    def request(self, k: int, *, size: tuple[int, int], scale: float) -> ClipRequest:
        """Frames with all their ids, as far apart as the curriculum says."""
        jump = self._curriculum.jump(k)
        return ClipRequest(self._settings.frames, size, scale, every_frame=True, jump=jump)

    def shape(self, rng: np.random.Generator, k: int, clip: Clip) -> Clip:
        """The clip with single frames bent, and something known in each of them."""
        chosen = self._settings
        if not self._curriculum.tunes(k):
            clip = bend_frames(rng, clip, turn=chosen.frame_turn, shear=chosen.frame_shear)
        unknown = (clip.ids == IGNORE).all(axis=(1, 2))
        if not unknown.any():
            return clip
        # A frame without any label shows the first one: the clip may come to stand still.
        frames, ids = clip.frames.copy(), clip.ids.copy()
        if unknown[0]:
            ids[0] = 0
        frames[unknown], ids[unknown] = frames[0], ids[0]
        return Clip(frames, ids, np.ones(len(ids), np.bool_), clip.tells_apart)

    def accepts(self, clip: Clip) -> bool:
        """Without an object in the first frame there is nothing to follow."""
        return bool(known_objects(clip.ids[0]).any())

    def labels(self, rng: np.random.Generator, k: int, clip: Clip, source: str) -> Item:
        """The objects to be followed, and which frames are remembered."""
        del source
        chosen = self._settings
        most = chosen.max_objects if chosen.objects == "instances" else 0
        classes, count = track_classes(rng, clip.ids, most=most)
        # A stream of its own, apart from what the clip is drawn from.
        further = np.random.default_rng([self._seed, k, 1])
        memory = draw_memory(further, frames=chosen.frames, references=self._references)
        return {
            "target": torch.from_numpy(classes),
            "count": torch.tensor(count),
            "memory": torch.from_numpy(memory),
        }

    def validation_labels(self, clip: Clip) -> Item:
        """All objects as one."""
        classes = known_objects(clip.ids).astype(np.int64)
        classes[clip.ids == IGNORE] = IGNORED_CLASS
        return {"target": torch.from_numpy(classes)}

    def shown(self, item: Item) -> NDArray[np.uint16]:
        """The objects that are followed, in the last frame."""
        classes = item["target"][-1].numpy()
        return np.where(classes == IGNORED_CLASS, IGNORE, classes > 0).astype(np.uint16)


def track_classes(
    rng: np.random.Generator, ids: NDArray[np.uint16], *, most: int
) -> tuple[NDArray[np.int64], int]:
    """Which pixel of ids (T, H, W) belongs to which of the objects to be followed.

    ``most`` of the first frame's are drawn, others and those that come later being background; with
    0 all objects together are one. int64 (T, H, W): 0 background, ``IGNORED_CLASS`` unknown, 1 and
    so on the objects; and their number, at least 1.
    """
    numbers, count = np.zeros(IGNORE + 1, np.int64), 1
    if most:
        there = np.unique(ids[0])
        there = there[known_objects(there)]
        if len(there) > most:
            there = rng.choice(there, most, replace=False)
        numbers[there] = np.arange(1, len(there) + 1)
        count = max(1, len(there))
    else:
        numbers[1:] = 1
    numbers[IGNORE] = IGNORED_CLASS
    return np.asarray(numbers[ids], np.int64), count


def draw_memory(rng: np.random.Generator, *, frames: int, references: int) -> NDArray[np.int64]:
    """Which earlier frames are remembered when each frame is segmented.

    All of them while there are no more than ``references``; then the first and others drawn at
    random: int64 (frames, references), of frame t the first min(t, references) count.
    """
    memory = np.zeros((frames, references), np.int64)
    for moment in range(1, frames):
        if moment <= references:
            memory[moment, :moment] = np.arange(moment)
        else:
            memory[moment, 1:] = rng.permutation(moment - 1)[: references - 1] + 1
    return memory


@dataclass(frozen=True)
class Curriculum:
    """How far apart the frames of a clip lie, and whether they are bent, over a run of ``clips``.

    From each share of the main part of the run on, frames are drawn at most ``jump`` apart. At its
    end, the share ``tuning``, they are not bent one by one, so that the sensory state learns true
    motion.
    """

    clips: int
    jumps: Sequence[tuple[float, int]]
    tuning: float

    def jump(self, k: int) -> int:
        """Largest distance between neighbouring frames of clip ``k``."""
        position = k / max(1.0, self.clips * (1 - self.tuning))
        return [jump for share, jump in self.jumps if share <= position][-1]

    def tunes(self, k: int) -> bool:
        """Whether clip ``k`` belongs to the end of the run."""
        return k >= self.clips * (1 - self.tuning)


def bend_frames(rng: np.random.Generator, clip: Clip, *, turn: float, shear: float) -> Clip:
    """Turn and shear each frame and its mask about the middle, by at most so many degrees."""
    if not (turn or shear):
        return clip
    frames, ids = np.empty_like(clip.frames), np.empty_like(clip.ids)
    size = clip.ids.shape[2], clip.ids.shape[1]
    middle = (np.array(size) - 1) / 2
    for number, (frame, mask) in enumerate(zip(clip.frames, clip.ids, strict=True)):
        angle = np.deg2rad(rng.uniform(-turn, turn))
        slope = np.tan(np.deg2rad(rng.uniform(-shear, shear)))
        cosine, sine = np.cos(angle), np.sin(angle)
        linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1.0, slope], [0.0, 1.0]])
        # From the result's pixels to the frame's, (x, y).
        matrix = np.column_stack([linear, middle - linear @ middle])
        smooth, nearest = (f | cv2.WARP_INVERSE_MAP for f in (cv2.INTER_LINEAR, cv2.INTER_NEAREST))
        cv2.warpAffine(frame, matrix, size, frames[number], smooth, cv2.BORDER_REFLECT_101)
        cv2.warpAffine(mask, matrix, size, ids[number], nearest, cv2.BORDER_REFLECT_101)
    return Clip(frames, ids, clip.labelled, clip.tells_apart)


def size_weights(ids: NDArray[np.uint16], power: float) -> Singles:
    """Weights of the pixels of a mask (H, W), float32, by which small objects count as others do.

    Of an object the median area of all over its own, to this power, 1 to 5: by pixels, what small
    and half hidden ones add to the loss is next to nothing. What lies around them weighs 1.
    """
    areas = np.bincount(ids.ravel(), minlength=IGNORE + 1)
    there = np.flatnonzero(areas)
    there = there[known_objects(there)]
    of_object = np.ones(IGNORE + 1, np.float32)
    if len(there):
        of_object[there] = np.clip((np.median(areas[there]) / areas[there]) ** power, 1, _HEAVIEST)
    return of_object[ids]


def object_truth(clip: Clip) -> Singles:
    """What is known of the objects in the last frame of a clip, which is labelled.

    float32 (8, ceil(H / 2), ceil(W / 2)), see :class:`TruthChannels`. Position (i, j) has the
    object of the pixel (2 i, 2 j), and offsets are from the middle of the four pixels from there.
    """
    ids = clip.ids[-1]
    near = ids[::OBJECT_STRIDE, ::OBJECT_STRIDE]
    truth = np.zeros((len(TruthChannels), *near.shape), np.float32)
    background, channel = near == 0, TruthChannels
    truth[channel.KNOWN] = background
    if not clip.tells_apart or background.all():
        return truth
    now = ObjectPlaces.of(ids)
    there = known_objects(near) & (now.area[near] >= _SCRAP)
    truth[channel.KNOWN] += there
    owner, side = near[there], np.sqrt(now.area[near[there]])
    rows, columns = np.nonzero(there)
    middle = (OBJECT_STRIDE - 1) / 2
    truth[channel.OFFSET_X][there] = now.x[owner] - (OBJECT_STRIDE * columns + middle)
    truth[channel.OFFSET_Y][there] = now.y[owner] - (OBJECT_STRIDE * rows + middle)
    truth[channel.SIZE][there] = side
    truth[channel.WEIGHT][there] = np.where(touching(near)[owner], _CROWDED, 1) / side
    if len(clip.ids) > 1 and clip.labelled[-2]:
        before = ObjectPlaces.of(clip.ids[-2])
        # Of which objects the centres in both frames are of the same part.
        larger, smaller = np.maximum(now.area, before.area), np.minimum(now.area, before.area)
        alike = now.whole & before.whole & (larger <= _ALIKE * smaller)
        moved = alike[near] & there
        truth[channel.MOTION_X][moved] = (before.x - now.x)[near[moved]]
        truth[channel.MOTION_Y][moved] = (before.y - now.y)[near[moved]]
        truth[channel.MOTION_WEIGHT] = truth[channel.WEIGHT] * moved
    return truth


def object_count(truth: Singles) -> int | None:
    """Objects that :func:`object_truth` tells of; None where it tells none apart."""
    there = truth[TruthChannels.WEIGHT] > 0
    if not there.any():
        return None
    # An object takes up a quarter of its pixels, each of which is that part of it.
    return round(float((OBJECT_STRIDE**2 / truth[TruthChannels.SIZE][there] ** 2).sum()))


def touching(ids: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Which objects of a mask (H, W) touch another one, bool by id."""
    found = np.zeros(IGNORE + 1, np.bool_)
    for one, other in ((ids[:, 1:], ids[:, :-1]), (ids[1:], ids[:-1])):
        meet = (one != other) & known_objects(one) & known_objects(other)
        found[one[meet]] = True
        found[other[meet]] = True
    return found


@dataclass(frozen=True)
class ObjectPlaces:
    """Area, centre (x, y) and whether it is whole of the object of each id, in pixels."""

    area: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    whole: NDArray[np.bool_]

    @classmethod
    def of(cls, ids: NDArray[np.uint16]) -> ObjectPlaces:
        """Of a mask (H, W)."""
        places = np.flatnonzero(known_objects(ids))
        owners = ids.ravel()[places]
        rows, columns = np.divmod(places, ids.shape[1])
        area, x, y = (
            np.bincount(owners, values, minlength=IGNORE + 1) for values in (None, columns, rows)
        )
        present = np.maximum(area, 1)
        whole = (area > 0) & ~cut_by_edge(ids, IGNORE)
        return cls(area.astype(np.float64), x / present, y / present, whole)
