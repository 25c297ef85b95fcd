"""Clip data for a network: from settings to data sets, the same for every network.

And what the training labels tell about the size of objects, for counting them later: it is learnt
from exact masks alone, once, before a run begins; see docs/reference/counts.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.data import DataSettings, ShareSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, FaultCollector
from dvos.extraction.cutouts import find_objects
from dvos.media.clip_store import read_mask_at
from dvos.media.layout import evenly
from dvos.media.limits import ImageCache
from dvos.media.mask import label_components, mask_ids, without_unknown
from dvos.media.splitting import inner_width, split_mask
from dvos.networks.spec import Normalisation
from dvos.training.augment.spatial import cut
from dvos.training.calibration import FEWEST, SCRAP, widened
from dvos.training.clips import validation
from dvos.training.clips.clip import FIRST_VALIDATION_CLIP, ClipSource, PooledClips, SyntheticClips
from dvos.training.clips.files import FileClips, FrameClip, check_lengths
from dvos.training.clips.stills import LabelledStill, StillClips
from dvos.training.clips.validation import ValidationClip, ValidationRequest, middle_box
from dvos.training.datasets import TrainingClips, ValidationClips
from dvos.training.labels import (
    Labels,
    find_clips,
    find_labels,
    find_stills,
    find_stills_with_objects,
    settle_intensity,
)
from dvos.training.targets import Target

if TYPE_CHECKING:
    from dvos.synthesis.build import ClipGenerator


#: Pictures that synthetic clips alone stand for: they differ as they are wanted to.
_RENDERED = 1000
#: Masks looked at, evenly spread over all; more tell hardly more.
_MASKS = 24
_LARGEST_SIDE = 2048
#: Synthetic frames looked at where there are no labelled ones, and their clips' numbers: apart from
#: those of training and of validation.
_FRAMES = 8
_FIRST_CLIP = FIRST_VALIDATION_CLIP + 2**32
#: Labelled pictures that are looked at beside their labels, and of the middle of each the side.
_SEEN, _SEEN_SIDE = 8, 512
#: A component is one object if it fills this share of its convex hull.
_SINGLE = 0.85


def build_training_clips(
    settings: TrainingSettings, target: Target, normalisation: Normalisation
) -> TrainingClips:
    """Make the endless training clips of a run; a DvosError has a fault for each thing wrong."""
    data, _ = settle_intensity(settings.data)
    labels = find_labels(data)
    request = target.request(0, size=(data.crop, data.crop), scale=1.0)
    if request.jump is not None:
        check_lengths([*labels.clips, *labels.pseudo_clips], frames=request.frames)
    sources = _sources(data, labels, settings.seed)
    shares = _data_mix(data.shares, sources)
    return TrainingClips(
        {name: sources[name]() for name in shares},
        shares,
        target,
        data,
        seed=settings.seed,
        normalisation=normalisation,
        pictures=labels.pictures or _RENDERED,
    )


def build_validation_clips(
    settings: TrainingSettings, target: Target, normalisation: Normalisation
) -> ValidationClips:
    """Make the fixed validation clips of a run; errors as for training clips.

    What ``data.validation`` names is used; if it names nothing, the stills and clips held back
    from training; if none were, the training stills and clips themselves, with a warning; if
    there are none of these either, synthetic clips, of which nothing else depends on the seed;
    without cutouts for them, and with pseudo-labels or photos without objects alone, none: by
    pseudo-labels a network would be judged by what it was taught, mistakes included.
    """
    data, _ = settle_intensity(settings.data)
    request, scale = target.validation, data.scale
    data = _with_validation(data, data.validation.largest_side)
    clips = _named_validation(data, request)
    synthetic = data.validation.synthetic
    if not clips and not synthetic:
        clips = _validation(data, *find_labels(data).judged(), request)
        synthetic = 0 if clips else request.synthetic
    clips = [clip.resized(scale) for clip in clips]
    if not (clips or data.validation.synthetic or data.synthetic.backgrounds) and any(
        (data.pseudo.stills, data.pseudo.clips, data.empty.tables, data.empty.folders)
    ):
        told = "nothing is labelled by hand to validate on: the last weights are kept"
        logging.getLogger(__name__).warning(told)
        synthetic = 0
    if synthetic:
        if not data.synthetic.backgrounds:
            found = f"asks for {synthetic} synthetic clips, but there is nothing to make them of"
            if not data.validation.synthetic:
                found = "is 0, and there are no labelled stills, clips or videos to judge by"
            wanted = "synthetic.backgrounds and synthetic.cutouts"
            remedy = "give both, or name other validation data"
            raise ConfigError.at("validation.synthetic", found, wanted, remedy)
        # About the pixels of four training clips: enough to judge a frame by.
        size = (2 * data.crop, 2 * data.crop)
        generator = build_generator(data, settings.seed)
        clips += validation.validation_synthetic(generator, synthetic, size, request, scale)
    return ValidationClips(clips, target, normalisation)


def build_labelled_clips(
    settings: TrainingSettings, target: Target, normalisation: Normalisation
) -> ValidationClips:
    """The middle of some of the labelled pictures that a run learns from, nothing augmented."""
    data, _ = settle_intensity(settings.data)
    data = _with_validation(data, _SEEN_SIDE, limit=_SEEN)
    labels = find_labels(data)
    stills, clips = evenly(labels.stills, _SEEN), evenly(labels.clips, _SEEN)
    found = _validation(data, stills, clips, target.validation)
    return ValidationClips([x.resized(data.scale) for x in found], target, normalisation)


def _with_validation(data: DataSettings, side: int, **others: int) -> DataSettings:
    """The settings with what is looked at of a picture as large to the network as ``side`` is."""
    own = others | {"largest_side": max(32, round(side / data.scale))}
    return data.model_copy(update={"validation": data.validation.model_copy(update=own)})


def judged_clips(settings: DataSettings) -> list[FrameClip]:
    """The labelled clips that a run is judged by and does not learn from: named or held back."""
    data, _ = settle_intensity(settings)
    return find_clips(data.validation.clips, data.intensity) or find_labels(data).held_clips


def _data_mix(chosen: ShareSettings, there: Collection[str]) -> dict[str, float]:
    """The share of each source that is used; only those in ``there`` have data."""
    shares: dict[str, float] = {}
    with FaultCollector(ConfigError) as faults:
        for name, share in chosen:
            if share == "auto":
                share = float(name in there)
            elif share > 0 and name not in there:
                found = f"is {share:g}, but there is no data for it"
                remedy = f"fill {name}, or set the share to 0 or auto"
                faults.add(f"shares.{name}", found, "", remedy)
            if share > 0:
                shares[name] = share
        if not shares:
            wanted = "labelled stills, clips, or backgrounds and cutouts"
            remedy = "name some under stills, clips or synthetic"
            faults.add("shares", "leave no source of training clips", wanted, remedy)
    return shares


def _sources(
    settings: DataSettings, labels: Labels, seed: int
) -> dict[str, Callable[[], ClipSource]]:
    """What makes each source that there is data for."""
    cache, share = ImageCache(settings.memory_mb * 2**20), settings.object_share
    pan = partial(StillClips, cache=cache, motion=settings.stills.motion, object_share=share)
    of_files = partial(FileClips, cache=cache, settings=settings.clips, object_share=share)
    stills, clips = labels.pseudo_stills, labels.pseudo_clips

    def pseudo() -> ClipSource:
        # Every labelled frame is drawn as often as any other.
        pooled: list[tuple[ClipSource, int]] = [(pan(stills), len(stills))] if stills else []
        if clips:
            pooled.append((of_files(clips), sum(len(clip.masks) for clip in clips)))
        return PooledClips(pooled)

    grounds = settings.synthetic.backgrounds
    sources: dict[str, tuple[object, Callable[[], ClipSource]]] = {
        "stills": (labels.stills, lambda: pan(labels.stills)),
        "empty": (labels.empty, lambda: pan(labels.empty)),
        "clips": (labels.clips, lambda: of_files(labels.clips)),
        "pseudo": (stills or clips, pseudo),
        "synthetic": (grounds, lambda: SyntheticClips(build_generator(settings, seed))),
    }
    return {name: make for name, (data, make) in sources.items() if data}


def build_generator(settings: DataSettings, seed: int) -> ClipGenerator:
    """What makes the synthetic clips of settings."""
    # Its compiler takes seconds to load: only those who need it pay.
    from dvos.synthesis.build import build_clip_generator

    return build_clip_generator(**dict(settings.synthetic), seed=seed, intensity=settings.intensity)


def _named_validation(settings: DataSettings, request: ValidationRequest) -> list[ValidationClip]:
    """The validation clips that settings name, synthetic ones apart."""
    chosen = settings.validation
    found: list[ValidationClip] = []
    with FaultCollector() as faults:
        stills = faults.collect(find_stills_with_objects, chosen.stills, settings.intensity)
        found += faults.collect(_validation, settings, stills or [], [], request) or []
        clips = faults.collect(find_clips, chosen.clips, settings.intensity)
        found += faults.collect(_validation, settings, [], clips or [], request) or []
        of_video = partial(validation.ValidationVideo, intensity=settings.intensity)
        for video in chosen.videos:
            source = faults.collect(of_video, video, chosen, request)
            found += source.clips if source else []
    return found


def _validation(
    settings: DataSettings,
    stills: Sequence[LabelledStill],
    clips: Sequence[FrameClip],
    request: ValidationRequest,
) -> list[ValidationClip]:
    chosen = settings.validation
    found: list[ValidationClip] = []
    if stills:
        found += validation.validation_stills(stills, chosen, request)
    if clips:
        named = bool(chosen.clips.tables or chosen.clips.folders)
        interval = (chosen.clips if named else settings.clips).intervals[0]
        found += validation.validation_files(clips, chosen, request, interval=interval)
    return found


def reference_interval(settings: DataSettings, network: Any) -> int | None:
    """How far apart references of labelled clips lay that a network learnt from; None if next.

    Of several intervals that which validation goes by, the first.
    """
    clips, pseudo = settings.clips, settings.pseudo.clips
    if not (getattr(network, "references", 0) and (clips.tables or clips.folders or pseudo)):
        return None
    return clips.intervals[0] if clips.references == "interval" and clips.intervals[0] > 1 else None


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
    sizes: list[tuple[float, int]] = []
    numbered: list[tuple[NDArray[np.bool_], int]] = []
    for mask in masks:
        whole, count = _look(mask)
        sizes += whole
        numbered += [] if count is None else [(mask != 0, count)]
    if not sizes:
        return None
    width, area = np.median(sizes, axis=0).tolist()
    learnt = {"width": round(width, 3), "area": area}
    if len(numbered) >= FEWEST:
        true = np.array([count for _, count in numbered], np.float64)
        split = partial(split_mask, minimum_area=SCRAP, width=learnt["width"], area=area)
        found = np.array([split(mask).max(initial=0) for mask, _ in numbered], np.float64)
        # About 0, as other scenes have other means; weighted: with few objects errors scatter more.
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
        mask = without_unknown(mask_ids(read_mask_at(path, void), where=path))
        mask = cut(mask, middle_box(mask.shape, round(_LARGEST_SIDE / scale)))
        if scale != 1:
            size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        yield mask.astype(np.int32)


def synthetic_masks(generator: ClipGenerator, *, side: int) -> Iterator[NDArray[Any]]:
    """Masks of a few synthetic frames, ``side`` pixels high and wide."""
    for number in range(_FRAMES):
        yield generator.make(_FIRST_CLIP + number, frames=1, size=(side, side)).instances[-1]


def numbers_objects(mask: NDArray[Any], components: int) -> bool:
    """Whether the ids of a mask of so many components tell its objects apart."""
    numbers = np.unique(mask[mask != 0])
    # A few values for many components are classes, or "object", and no numbers.
    return len(numbers) > 1 and components <= 3 * len(numbers)


def _look(mask: NDArray[Any]) -> tuple[list[tuple[float, int]], int | None]:
    """Inner widths and areas of the whole objects of a mask; how many it numbers, if it does."""
    components = label_components(mask)
    numbered = numbers_objects(mask, int(components.max(initial=0)))
    objects = np.asarray(mask if numbered else components, np.int32)
    sizes: list[tuple[float, int]] = []
    found = find_objects(objects)
    for one in found:
        if one.area >= SCRAP and not one.at_border:
            top, left, height, width = one.box
            part = objects[top : top + height, left : left + width] == one.object_id
            if numbered or _is_single(part, one.area):
                sizes.append((inner_width(part), one.area))
    return sizes, len(found) if numbered else None


def _is_single(part: NDArray[np.bool_], area: int) -> bool:
    """Whether a component is about convex, as one object is and a clump is not."""
    outlines, _ = cv2.findContours(part.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(outlines))
    # The hull runs through the middles of the outermost pixels.
    around = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
    return area >= _SINGLE * around
