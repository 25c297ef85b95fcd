"""What the training labels tell about the size of objects, for counting them later.

It is learnt from exact masks alone, once, before a run begins; see
docs/reference/counts.md for how counts use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.data import DataSettings
from dvos.extraction.cutouts import find_objects
from dvos.media.clip_store import read_mask_at
from dvos.media.layout import evenly
from dvos.media.mask import IGNORE, label_components, mask_ids
from dvos.media.splitting import inner_width, split_mask
from dvos.training.augment.spatial import cut
from dvos.training.calibration import FEWEST, widened
from dvos.training.clips.clip import FIRST_VALIDATION_CLIP
from dvos.training.clips.files import FrameClip
from dvos.training.clips.stills import LabelledStill
from dvos.training.clips.validation import middle_box
from dvos.training.data import build_generator
from dvos.training.labels import find_clips, find_stills

if TYPE_CHECKING:
    from dvos.synthesis.build import ClipGenerator


#: Masks looked at, evenly spread over all; more tell hardly more.
_MASKS = 24
_LARGEST_SIDE = 2048
#: Synthetic frames looked at where there are no labelled ones, and their clips'
#: numbers: apart from those of training and of validation.
_FRAMES = 8
_FIRST_CLIP = FIRST_VALIDATION_CLIP + 2**32
#: A component is one object if it fills this share of its convex hull.
_SINGLE = 0.85
#: Smaller objects, in pixels, are scraps that others leave free.
_SMALLEST = 30


def build_object_sizes(settings: DataSettings, *, seed: int) -> dict[str, float] | None:
    """Learn from labelled stills and clips, else from synthetic frames, at ``settings.scale``."""
    stills, clips = find_stills(settings.stills), find_clips(settings.clips)
    synthetic = settings.synthetic
    masks: Iterator[NDArray[Any]] = iter(())
    if stills or clips:
        masks = labelled_masks(stills, clips)
    elif synthetic.backgrounds and synthetic.cutouts:
        masks = synthetic_masks(build_generator(settings, seed), side=2 * settings.crop)
    learnt = learn_objects(masks)
    if learnt is not None and settings.scale != 1:
        learnt["width"] *= settings.scale
        learnt["area"] *= settings.scale**2
    return learnt


def tells_objects_apart(settings: DataSettings) -> bool:
    """Whether any training clips tell objects apart: synthetic ones do, labelled ones may."""
    if settings.synthetic.backgrounds and settings.shares.synthetic != 0:
        return True
    masks = labelled_masks(find_stills(settings.stills), find_clips(settings.clips))
    return any(numbers_objects(mask, int(label_components(mask).max(initial=0))) for mask in masks)


def learn_objects(masks: Iterable[NDArray[Any]]) -> dict[str, float] | None:
    """Learn the usual size of the objects of masks (H, W), and how well they are told apart.

    In a mask that does not number its objects, components of a single shape are taken for objects.
    ``width`` (inner) and ``area`` are the medians over all whole objects; with three or more
    numbered masks there is also ``error``, how far the number of objects told apart in another mask
    is to be expected from the true one, relative to it, as a standard deviation. None without any.
    """
    frames = [_look(mask) for mask in masks]
    sizes = [size for frame in frames for size in frame.sizes]
    if not sizes:
        return None
    width, area = np.median(sizes, axis=0).tolist()
    learnt = {"width": round(width, 3), "area": area}
    numbered = [frame for frame in frames if frame.numbered]
    if len(numbered) >= FEWEST:
        true = np.array([frame.true for frame in numbered], np.float64)
        split = partial(split_mask, minimum_area=_SMALLEST, width=learnt["width"], area=area)
        found = np.array([split(frame.mask).count for frame in numbered], np.float64)
        # About 0, as the mean of other scenes is another; weighted, as the error of
        # a frame with few objects scatters more.
        square = float((true * (found / true - 1) ** 2).sum() / true.sum())
        learnt["error"] = round(widened(square**0.5, len(numbered)), 4)
    return learnt


def labelled_masks(
    stills: Sequence[LabelledStill], clips: Sequence[FrameClip]
) -> Iterator[NDArray[Any]]:
    """Masks of labelled stills and clips, a few, evenly spread, background where unknown."""
    chosen = [(still.mask, still.void, still.scale) for still in stills if still.mask]
    chosen += [(mask, clip.void, 1.0) for clip in clips for mask in clip.masks.values()]
    for path, void, scale in evenly(chosen, _MASKS):
        mask = mask_ids(read_mask_at(path, void), where=path)
        mask[mask == IGNORE] = 0
        mask = cut(mask, middle_box(mask.shape, round(_LARGEST_SIDE / scale)))
        if scale != 1:
            size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        yield mask.astype(np.int32)


def synthetic_masks(generator: ClipGenerator, *, side: int) -> Iterator[NDArray[Any]]:
    """Masks of a few synthetic frames, ``side`` pixels high and wide."""
    for number in range(_FRAMES):
        yield generator.make(_FIRST_CLIP + number, frames=1, size=(side, side)).instances[-1]


class _Frame(NamedTuple):
    """A mask, bool (H, W), with the inner widths and areas of its whole objects."""

    mask: NDArray[np.bool_]
    sizes: list[tuple[float, int]]
    true: int
    numbered: bool


def numbers_objects(mask: NDArray[Any], components: int) -> bool:
    """Whether the ids of a mask of so many components tell its objects apart."""
    numbers = np.unique(mask[mask != 0])
    # A few values for many components are classes, or "object", and no numbers.
    return len(numbers) > 1 and components <= 3 * len(numbers)


def _look(mask: NDArray[Any]) -> _Frame:
    components = label_components(mask)
    numbered = numbers_objects(mask, int(components.max(initial=0)))
    objects = np.asarray(mask if numbered else components, np.int32)
    sizes: list[tuple[float, int]] = []
    found = find_objects(objects)
    for one in found:
        top, left, height, width = one.box
        part = objects[top : top + height, left : left + width] == one.object_id
        whole = one.area >= _SMALLEST and not one.at_border
        if whole and (numbered or _is_single(part, one.area)):
            sizes.append((inner_width(part), one.area))
    return _Frame(mask != 0, sizes, len(found), numbered)


def _is_single(part: NDArray[np.bool_], area: int) -> bool:
    """Whether a component is about convex, as one object is and a clump is not."""
    outlines, _ = cv2.findContours(part.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(outlines))
    # The hull runs through the middles of the outermost pixels.
    around = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
    return area >= _SINGLE * around
