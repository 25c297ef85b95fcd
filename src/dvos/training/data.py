"""Clip data for a network: from settings to data sets, the same for every network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dvos.config.data import DataSettings, ShareSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, FaultCollector
from dvos.networks.spec import Normalisation
from dvos.training.clips import validation
from dvos.training.clips.clip import ClipSource, PooledClips, SyntheticClips
from dvos.training.clips.files import FileClips, FrameClip, ImageCache, check_lengths
from dvos.training.clips.stills import LabelledStill, StillClips
from dvos.training.clips.validation import ValidationClip, ValidationRequest
from dvos.training.datasets import TrainingClips, ValidationClips
from dvos.training.labels import (
    Labels,
    find_clips,
    find_labels,
    find_stills_with_objects,
    settle_intensity,
)
from dvos.training.targets import Target

if TYPE_CHECKING:
    from dvos.synthesis.build import ClipGenerator


#: Pictures that synthetic clips alone stand for: they differ as they are wanted to.
_RENDERED = 1000


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
    if scale != 1:
        # What is looked at is as large as without, to the network.
        side = {"largest_side": max(32, round(data.validation.largest_side / scale))}
        data = data.model_copy(update={"validation": data.validation.model_copy(update=side)})
    clips = _named_validation(data, request)
    synthetic = data.validation.synthetic
    if not clips and not synthetic:
        clips = _validation(data, *find_labels(data).judged(), request)
        synthetic = 0 if clips else request.synthetic
    if scale != 1:
        clips = [clip.resized(scale) for clip in clips]
    if not (clips or data.validation.synthetic or data.synthetic.backgrounds) and any(
        (data.pseudo.stills, data.pseudo.clips, data.empty.tables, data.empty.folders)
    ):
        logging.getLogger(__name__).warning(
            "nothing is labelled by hand to validate on: the last weights are kept"
        )
        synthetic = 0
    if synthetic:
        if not data.synthetic.backgrounds:
            asked = f"asks for {synthetic} synthetic clips, but there is nothing to make them of"
            nothing = "is 0, and there are no labelled stills, clips or videos to judge by"
            raise ConfigError.at(
                "validation.synthetic",
                asked if data.validation.synthetic else nothing,
                "synthetic.backgrounds and synthetic.cutouts",
                "give both, or name other validation data",
            )
        # About the pixels of four training clips: enough to judge a frame by.
        size = (2 * data.crop, 2 * data.crop)
        generator = build_generator(data, settings.seed)
        clips += validation.validation_synthetic(generator, synthetic, size, request, scale)
    return ValidationClips(clips, target, normalisation)


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
                faults.add(
                    f"shares.{name}",
                    f"is {share:g}, but there is no data for it",
                    "",
                    f"fill {name}, or set the share to 0 or auto",
                )
            if share > 0:
                shares[name] = share
        if not shares:
            faults.add(
                "shares",
                "leave no source of training clips",
                "labelled stills, clips, or backgrounds and cutouts",
                "name some under stills, clips or synthetic",
            )
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

    sources: dict[str, tuple[object, Callable[[], ClipSource]]] = {
        "stills": (labels.stills, lambda: pan(labels.stills)),
        "empty": (labels.empty, lambda: pan(labels.empty)),
        "clips": (labels.clips, lambda: of_files(labels.clips)),
        "pseudo": (stills or clips, pseudo),
        "synthetic": (
            settings.synthetic.backgrounds,
            lambda: SyntheticClips(build_generator(settings, seed)),
        ),
    }
    return {name: make for name, (data, make) in sources.items() if data}


def build_generator(settings: DataSettings, seed: int) -> ClipGenerator:
    """What makes the synthetic clips of settings."""
    # Its compiler takes seconds to load: only those who need it pay.
    from dvos.synthesis.build import build_clip_generator

    return build_clip_generator(
        settings.synthetic.scene,
        backgrounds=settings.synthetic.backgrounds,
        cutouts=settings.synthetic.cutouts,
        distractors=settings.synthetic.distractors,
        seed=seed,
        intensity=settings.intensity,
        void=settings.synthetic.void,
    )


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
