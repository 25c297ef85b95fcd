"""Clip data for a network: from settings to data sets, the same for every network."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from functools import partial
from typing import TYPE_CHECKING

from dvos.config.data import DataSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, FaultCollector
from dvos.networks.spec import Normalisation
from dvos.training.clips.cache import ImageCache
from dvos.training.clips.clip import ClipSource, PooledClips, SyntheticClips
from dvos.training.clips.files import FileClips, FrameClip, check_lengths
from dvos.training.clips.stills import LabelledStill, PanMotion, StillClips
from dvos.training.clips.validation import (
    ResizedValidation,
    ValidationFiles,
    ValidationRequest,
    ValidationSource,
    ValidationStills,
    ValidationSynthetic,
    ValidationVideo,
)
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
    from dvos.synthesis.clip import ClipGenerator

_log = logging.getLogger(__name__)

#: Pictures that synthetic clips alone stand for: they differ as they are wanted to.
_RENDERED = 1000


def build_training_clips(
    settings: TrainingSettings, target: Target, normalisation: Normalisation
) -> TrainingClips:
    """Make the endless training clips of a run.

    Args:
        settings: Of the run.
        target: What the network learns from a clip.
        normalisation: Of the network's input.

    Raises:
        DvosError: One fault for each file, table or setting that is wrong.
    """
    data, _ = settle_intensity(settings.data)
    labels = find_labels(data)
    request = target.request(0, size=(data.crop, data.crop), scale=1.0)
    if request.jump is not None:
        check_lengths([*labels.clips, *labels.pseudo_clips], frames=request.frames)
    shares = _data_mix(data, labels)
    return TrainingClips(
        _sources(data, labels, shares.keys(), settings.seed),
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
    """Make the fixed validation clips of a run; arguments and errors as for training clips.

    What ``data.validation`` names is used; if it names nothing, the stills and clips held back
    from training; if none were, the training stills and clips themselves, with a warning; if
    there are none of these either, synthetic clips, of which nothing else depends on the seed;
    without cutouts for them, and with pseudo-labels or photos without objects alone, none.
    Pseudo-labels are never used: a network would be judged by what it was taught, mistakes
    included.
    """
    data, _ = settle_intensity(settings.data)
    request, scale = target.validation, data.scale
    if scale != 1:
        # What is looked at is as large as without, to the network.
        side = {"largest_side": max(32, round(data.validation.largest_side / scale))}
        data = data.model_copy(update={"validation": data.validation.model_copy(update=side)})
    sources = _named_validation(data, request)
    synthetic = data.validation.synthetic
    if not sources and not synthetic:
        sources = _validation(data, *find_labels(data).judged(), request)
        synthetic = 0 if sources else request.synthetic
    if scale != 1:
        sources = [ResizedValidation(source, scale) for source in sources]
    if not (sources or data.validation.synthetic or data.synthetic.backgrounds) and any(
        (data.pseudo.stills, data.pseudo.clips, data.empty.tables, data.empty.folders)
    ):
        _log.warning("nothing is labelled by hand to validate on: the last weights are kept")
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
        sources.append(ValidationSynthetic(generator, synthetic, size, request, scale))
    return ValidationClips(sources, target, normalisation)


def judged_clips(settings: DataSettings) -> list[FrameClip]:
    """The labelled clips that a run is judged by and does not learn from: named or held back.

    Raises:
        DvosError: One fault for each file or table that is wrong.
    """
    data, _ = settle_intensity(settings)
    return find_clips(data.validation.clips, data.intensity) or find_labels(data).held_clips


def _data_mix(settings: DataSettings, labels: Labels) -> dict[str, float]:
    """The share of each source that is used; a source without data may have none."""
    there = {
        "stills": bool(labels.stills),
        "synthetic": bool(settings.synthetic.backgrounds),
        "clips": bool(labels.clips),
        "empty": bool(labels.empty),
        "pseudo": bool(labels.pseudo_stills or labels.pseudo_clips),
    }
    shares: dict[str, float] = {}
    with FaultCollector(ConfigError) as faults:
        for name, share in settings.shares:
            if share == "auto":
                share = float(there[name])
            elif share > 0 and not there[name]:
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
    settings: DataSettings, labels: Labels, names: Set[str], seed: int
) -> dict[str, ClipSource]:
    cache = ImageCache(settings.memory_mb * 2**20)
    motion = PanMotion(settings.stills.motion)
    share = settings.object_share
    pan = partial(StillClips, cache=cache, motion=motion, object_share=share)
    of_files = partial(FileClips, cache=cache, settings=settings.clips, object_share=share)
    sources: dict[str, ClipSource] = {}
    if "stills" in names:
        sources["stills"] = pan(labels.stills)
    if "empty" in names:
        sources["empty"] = pan(labels.empty)
    if "clips" in names:
        sources["clips"] = of_files(labels.clips)
    if "pseudo" in names:
        # Every labelled frame is drawn as often as any other.
        stills, clips = labels.pseudo_stills, labels.pseudo_clips
        pooled: list[tuple[ClipSource, int]] = [(pan(stills), len(stills))] if stills else []
        if clips:
            pooled.append((of_files(clips), sum(len(clip.masks) for clip in clips)))
        sources["pseudo"] = PooledClips(pooled)
    if "synthetic" in names:
        sources["synthetic"] = SyntheticClips(build_generator(settings, seed))
    return sources


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
    )


def _named_validation(settings: DataSettings, request: ValidationRequest) -> list[ValidationSource]:
    """The validation clips that settings name, synthetic ones apart."""
    chosen = settings.validation
    sources: list[ValidationSource] = []
    with FaultCollector() as faults:
        stills = faults.collect(find_stills_with_objects, chosen.stills, settings.intensity)
        sources += faults.collect(_validation, settings, stills or [], [], request) or []
        clips = faults.collect(find_clips, chosen.clips, settings.intensity)
        sources += faults.collect(_validation, settings, [], clips or [], request) or []
        for video in chosen.videos:
            source = faults.collect(ValidationVideo, video, chosen, request, settings.intensity)
            sources += [] if source is None else [source]
    return sources


def _validation(
    settings: DataSettings,
    stills: Sequence[LabelledStill],
    clips: Sequence[FrameClip],
    request: ValidationRequest,
) -> list[ValidationSource]:
    chosen = settings.validation
    sources: list[ValidationSource] = []
    if stills:
        sources.append(ValidationStills(stills, chosen, request))
    if clips:
        named = bool(chosen.clips.tables or chosen.clips.folders)
        interval = (chosen.clips if named else settings.clips).intervals[0]
        sources.append(ValidationFiles(clips, chosen, request, interval=interval))
    return sources
