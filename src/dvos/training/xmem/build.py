"""Clips, network and objective of XMem, from settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from functools import partial

from dvos.config.data import DataSettings
from dvos.config.network import NetworkSettings
from dvos.config.training import TrainingSettings
from dvos.config.xmem import XMemSettings
from dvos.errors import Gathered
from dvos.training.losses.bootstrapped import BootstrappedLoss
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
from dvos.training.outcome import NetworkDescription
from dvos.training.spatial import SpatialJitter
from dvos.training.stills import LabelledStill
from dvos.training.store import DecodedFiles
from dvos.training.tabled import FrameClip
from dvos.training.validation import spread
from dvos.training.xmem.clips import ObjectSource, PooledObjects
from dvos.training.xmem.curriculum import Curriculum, FrameJitter
from dvos.training.xmem.datasets import TrackingClips
from dvos.training.xmem.files import FiledObjects, check_lengths
from dvos.training.xmem.made import MadeObjects, PannedObjects
from dvos.training.xmem.network import ClipXMem, load_backbone, quieten_residuals, start_from
from dvos.training.xmem.objective import TrackingObjective
from dvos.training.xmem.validation import (
    HeldClips,
    HeldSource,
    HeldStills,
    HeldSynthetic,
    HeldVideo,
    TrackingValidation,
)

__all__ = [
    "build_clip_xmem",
    "build_tracking_clips",
    "build_tracking_objective",
    "build_tracking_validation",
]

_log = logging.getLogger(__name__)

# Synthetic validation clips where there is nothing else: each is a whole video.
_LAST_RESORT = 4


def build_clip_xmem(settings: NetworkSettings, description: NetworkDescription) -> ClipXMem:
    """Make the network with the weights it starts from; the global generator says which.

    Raises:
        CheckpointError: If weights to start from cannot be read or do not fit.
    """
    network = ClipXMem(**description.arguments)
    if settings.weights is not None:
        start_from(settings.weights, network)
        return network
    files = settings.backbone_weights
    scratch = []
    for name, encoder, path in (
        ("resnet50", network.key_encoder, files.resnet50),
        ("resnet18", network.value_encoder, files.resnet18),
    ):
        if path is not None:
            load_backbone(encoder, path, name=name)
            continue
        quieten_residuals(encoder)
        scratch.append(name)
    if scratch:
        _log.warning(
            "XMem starts from scratch (%s): good results take very long; give network.weights, "
            "or network.backbone_weights.%s",
            "random encoders" if len(scratch) == 2 else f"a random {scratch[0]}",
            " and ".join(scratch),
        )
    return network


def build_tracking_objective(settings: TrainingSettings) -> TrackingObjective:
    """What is minimised and measured."""
    chosen = settings.xmem
    start, end = chosen.warm_up
    return TrackingObjective(
        BootstrappedLoss(start_warm=start, end_warm=end, top=chosen.hardest),
        objects=_objects(chosen),
        deep_updates=chosen.deep_updates,
        frames=chosen.frames,
        seed=settings.seed,
    )


def _objects(settings: XMemSettings) -> int:
    return settings.max_objects if settings.objects == "instances" else 1


def build_tracking_clips(
    settings: TrainingSettings, *, clips: int, mean: Sequence[float], std: Sequence[float]
) -> TrackingClips:
    """Make the training clips that settings describe.

    Args:
        settings: Of the run.
        clips: Of the whole run.
        mean: Of each channel, values 0..1.
        std: Standard deviation of each channel.

    Raises:
        DvosError: One fault for each file, table, clip or setting that is wrong.
    """
    data, chosen = settings.data, settings.xmem
    labelled = find_labelled(data)
    check_lengths([*labelled.clips, *labelled.pseudo_clips], frames=chosen.frames)
    shares = shares_of(data, labelled)
    return TrackingClips(
        _sources(data, labelled, shares.keys(), settings.seed),
        shares,
        frames=chosen.frames,
        references=settings.network.references,
        size=(data.crop, data.crop),
        seed=settings.seed,
        objects=chosen.objects,
        max_objects=chosen.max_objects,
        curriculum=Curriculum(clips, chosen.jumps, chosen.tuning),
        bend=FrameJitter(chosen.frame_turn, chosen.frame_shear),
        spatial=SpatialJitter(**data.spatial.model_dump()),
        colour=build_colour(data.colour),
        degradation=build_degradation(data.degradation),
        mean=mean,
        std=std,
    )


def _sources(
    settings: DataSettings, labelled: Labelled, names: Set[str], seed: int
) -> dict[str, ObjectSource]:
    """Make the sources of these names."""
    decoded = DecodedFiles(settings.memory_mb * 2**20)
    share = settings.object_share
    pan = partial(
        PannedObjects,
        decoded=decoded,
        motion=PanMotion(**settings.stills.motion.model_dump()),
        wind=Wind(**settings.stills.wind.model_dump()),
        object_share=share,
    )
    sources: dict[str, ObjectSource] = {}
    if "stills" in names:
        sources["stills"] = pan(labelled.stills)
    if "empty" in names:
        sources["empty"] = pan(labelled.empty)
    if "clips" in names:
        sources["clips"] = FiledObjects(labelled.clips, decoded, object_share=share)
    if "pseudo" in names:
        stills, clips = labelled.pseudo_stills, labelled.pseudo_clips
        pooled: list[tuple[ObjectSource, int]] = []
        if stills:
            pooled.append((pan(stills), len(stills)))
        if clips:
            weight = sum(len(clip.masks) for clip in clips)
            pooled.append((FiledObjects(clips, decoded, object_share=share), weight))
        sources["pseudo"] = PooledObjects(pooled)
    if "synthetic" in names:
        sources["synthetic"] = MadeObjects(build_maker(settings.synthetic, seed))
    return sources


def build_tracking_validation(
    settings: TrainingSettings, *, mean: Sequence[float], std: Sequence[float]
) -> TrackingValidation:
    """Make the validation clips that settings describe.

    What ``data.validation`` names is used; if it names nothing, what was held
    back from training; if nothing was, the training stills and clips
    themselves, with a warning; without these, synthetic clips.

    Raises:
        DvosError: One fault for each file, table, clip or setting that is wrong.
    """
    data = settings.data
    chosen = data.validation
    sources = _named(settings)
    synthetic = chosen.synthetic
    if not sources and not synthetic:
        sources = _held(settings, *find_labelled(data).judged())
        synthetic = 0 if sources else _LAST_RESORT
    if synthetic:
        maker = build_validation_maker(data, settings.seed)
        size = (2 * data.crop, 2 * data.crop)
        frames = settings.xmem.validation_frames
        sources.append(HeldSynthetic(maker, count=synthetic, frames=frames, size=size))
    return TrackingValidation(sources, mean=mean, std=std)


def _named(settings: TrainingSettings) -> list[HeldSource]:
    chosen = settings.data.validation
    sources: list[HeldSource] = []
    with Gathered() as gathered:
        with gathered:
            sources += _held(settings, stills_of(chosen.stills), [])
        with gathered:
            sources += _held(settings, [], clips_of(chosen.clips))
        for video in chosen.videos:
            with gathered:
                sources.append(
                    HeldVideo(
                        video.video,
                        video.masks,
                        ignore_value=video.ignore_value,
                        frames=settings.xmem.validation_frames,
                        largest_side=chosen.largest_side,
                    )
                )
    return sources


def _held(
    settings: TrainingSettings, stills: Sequence[LabelledStill], clips: Sequence[FrameClip]
) -> list[HeldSource]:
    chosen = settings.data.validation
    sources: list[HeldSource] = []
    if stills:
        sources.append(
            HeldStills(
                [stills[number] for number in spread(len(stills), chosen.limit)],
                frames=settings.xmem.frames,
                speed=chosen.speed,
                largest_side=chosen.largest_side,
            )
        )
    if clips:
        sources.append(
            HeldClips(
                [clips[number] for number in spread(len(clips), chosen.limit)],
                frames=settings.xmem.validation_frames,
                largest_side=chosen.largest_side,
            )
        )
    return sources
