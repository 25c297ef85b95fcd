"""Clip data for a network: from settings to data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial

from dvos.config.data import DataSettings
from dvos.config.training import TrainingSettings
from dvos.errors import Gathered
from dvos.networks.spec import Normalisation
from dvos.training.clips import ClipSource, PooledClips
from dvos.training.datasets import ClipItem, TrainingClips, ValidationClips, start_worker
from dvos.training.diffusion import PatchDiffusion
from dvos.training.mixture import ClipMixture
from dvos.training.motion import PanMotion, Wind
from dvos.training.named import (
    Labelled,
    build_colour,
    build_degradation,
    build_maker,
    build_validation_maker,
    clips_of,
    find_labelled,
    shares_of,
    stills_of,
)
from dvos.training.schedule import TrainingPlan
from dvos.training.spatial import SpatialJitter
from dvos.training.stills import LabelledStill, StillClips
from dvos.training.store import DecodedFiles
from dvos.training.synthetic import SyntheticClips
from dvos.training.tabled import FrameClip, TabledClips
from dvos.training.targets import Target, TrackTarget
from dvos.training.validation import (
    FixedClips,
    FixedSource,
    FixedStills,
    FixedSynthetic,
    FixedVideo,
)
from dvos.training.xmem.build import build_tracking_clips, build_tracking_validation
from dvos.training.xmem.datasets import TrackingClips
from dvos.training.xmem.validation import TrackingValidation

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LAST_RESORT",
    "ClipItem",
    "TrainingClips",
    "ValidationClips",
    "build_training_clips",
    "build_training_data",
    "build_validation_clips",
    "build_validation_data",
    "start_worker",
]


#: Mean and deviation of the channels of ImageNet photos, values 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Synthetic validation clips where there is nothing else.
LAST_RESORT = 16


def build_training_clips(
    settings: TrainingSettings, target: Target, normalisation: Normalisation
) -> TrainingClips | TrackingClips:
    """Make the endless training clips of a run.

    Args:
        settings: Of the run.
        target: What the network learns from a clip.
        normalisation: Of the network's input.

    Raises:
        DvosError: One fault for each file, table or setting that is wrong.
    """
    norm = {"mean": normalisation.mean, "std": normalisation.std}
    if isinstance(target, TrackTarget):
        plan = TrainingPlan(settings.epochs, settings.clips_per_epoch, settings.batch)
        return build_tracking_clips(settings, clips=plan.clips, **norm)
    return build_training_data(
        settings.data, references=target.references, seed=settings.seed, **norm
    )


def build_validation_clips(
    settings: TrainingSettings, target: Target, normalisation: Normalisation
) -> ValidationClips | TrackingValidation:
    """Make the fixed validation clips of a run.

    What ``data.validation`` names is used; if it names nothing, the stills and clips held back
    from training; if none were, the training stills and clips themselves, with a warning; if
    there are none of these either, synthetic clips. Pseudo-labels are never used: a network would
    be judged by what it was taught, mistakes included.

    Args:
        settings: Of the run.
        target: What the network learns from a clip.
        normalisation: Of the network's input.

    Raises:
        DvosError: One fault for each file, table or setting that is wrong.
    """
    norm = {"mean": normalisation.mean, "std": normalisation.std}
    if isinstance(target, TrackTarget):
        return build_tracking_validation(settings, **norm)
    return build_validation_data(
        settings.data, references=target.references, seed=settings.seed, **norm
    )


def build_training_data(
    settings: DataSettings,
    *,
    references: int,
    seed: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> TrainingClips:
    """Make the endless training clips that settings describe.

    Args:
        settings: What clips there are and how they are changed.
        references: Frames before the query, R; clips have R + 1.
        seed: Of all draws.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.

    Raises:
        DvosError: One fault for each file, table or setting that is wrong.
    """
    labelled = find_labelled(settings)
    shares = shares_of(settings, labelled)
    mixture = ClipMixture(
        _sources(settings, labelled, shares.keys(), seed),
        shares,
        frames=references + 1,
        size=(settings.crop, settings.crop),
        seed=seed,
        spatial=SpatialJitter(**settings.spatial.model_dump()),
        colour=build_colour(settings.colour),
        degradation=build_degradation(settings.degradation),
    )
    return TrainingClips(
        mixture,
        mean=mean,
        std=std,
        diffusion=PatchDiffusion(**settings.diffusion.model_dump()),
        weights={"pseudo": settings.pseudo.weight},
    )


def build_validation_data(
    settings: DataSettings,
    *,
    references: int,
    seed: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> ValidationClips:
    """Make the fixed validation clips that settings describe.

    What ``settings.validation`` names is used; if it names nothing, the stills
    and clips held back from training; if none were, the training stills and
    clips themselves, with a warning; if there are none of these either,
    synthetic clips. Pseudo-labels are never used: a network would be judged by
    what it was taught, mistakes included.

    Args:
        settings: What clips there are.
        references: Frames before the query, R; clips have R + 1.
        seed: Of the synthetic clips; nothing else depends on it.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.

    Raises:
        DvosError: One fault for each file, table or setting that is wrong.
    """
    chosen = settings.validation
    sources = _named_validation(settings, references)
    synthetic = chosen.synthetic
    if not sources and not synthetic:
        sources = _fixed(settings, *find_labelled(settings).judged())
        synthetic = 0 if sources else LAST_RESORT
    if synthetic:
        # About the pixels of four training clips: enough to judge a frame by.
        size = (2 * settings.crop, 2 * settings.crop)
        maker = build_validation_maker(settings, seed)
        sources.append(FixedSynthetic(maker, count=synthetic, size=size))
    return ValidationClips(sources, frames=references + 1, mean=mean, std=std)


def _named_validation(settings: DataSettings, references: int) -> list[FixedSource]:
    chosen = settings.validation
    sources: list[FixedSource] = []
    with Gathered() as gathered:
        with gathered:
            sources += _fixed(settings, stills_of(chosen.stills), [])
        with gathered:
            sources += _fixed(settings, [], clips_of(chosen.clips))
        for video in chosen.videos:
            with gathered:
                sources.append(
                    FixedVideo(
                        video.video,
                        video.masks,
                        references=references,
                        ignore_value=video.ignore_value,
                        limit=chosen.limit,
                        largest_side=chosen.largest_side,
                    )
                )
    return sources


def _fixed(
    settings: DataSettings, stills: Sequence[LabelledStill], clips: Sequence[FrameClip]
) -> list[FixedSource]:
    chosen = settings.validation
    sources: list[FixedSource] = []
    if stills:
        sources.append(FixedStills(stills, speed=chosen.speed, largest_side=chosen.largest_side))
    if clips:
        named = bool(chosen.clips.tables or chosen.clips.folders)
        intervals = (chosen.clips if named else settings.clips).intervals
        sources.append(
            FixedClips(
                clips,
                interval=intervals[0],
                limit=chosen.limit,
                largest_side=chosen.largest_side,
            )
        )
    return sources


def _sources(
    settings: DataSettings, labelled: Labelled, names: Set[str], seed: int
) -> dict[str, ClipSource]:
    """Make the sources of these names."""
    decoded = DecodedFiles(settings.memory_mb * 2**20)
    sources: dict[str, ClipSource] = {}
    pan = partial(
        StillClips,
        decoded=decoded,
        motion=PanMotion(**settings.stills.motion.model_dump()),
        wind=Wind(**settings.stills.wind.model_dump()),
        object_share=settings.object_share,
    )
    tabled = partial(
        TabledClips,
        decoded=decoded,
        intervals=settings.clips.intervals,
        at_random=settings.clips.references == "random",
        object_share=settings.object_share,
    )
    if "stills" in names:
        sources["stills"] = pan(labelled.stills)
    if "empty" in names:
        sources["empty"] = pan(labelled.empty)
    if "clips" in names:
        sources["clips"] = tabled(labelled.clips)
    if "pseudo" in names:
        sources["pseudo"] = _pooled(labelled.pseudo_stills, pan, labelled.pseudo_clips, tabled)
    if "synthetic" in names:
        sources["synthetic"] = SyntheticClips(build_maker(settings.synthetic, seed))
    return sources


def _pooled(
    stills: Sequence[LabelledStill],
    pan: Callable[[Sequence[LabelledStill]], ClipSource],
    clips: Sequence[FrameClip],
    tabled: Callable[[Sequence[FrameClip]], ClipSource],
) -> ClipSource:
    """Stills and clips as one source, every labelled frame drawn as often as any other."""
    sources: list[ClipSource] = []
    counts: list[int] = []
    if stills:
        sources.append(pan(stills))
        counts.append(len(stills))
    if clips:
        sources.append(tabled(clips))
        counts.append(sum(len(clip.masks) for clip in clips))
    return PooledClips(sources, counts)
