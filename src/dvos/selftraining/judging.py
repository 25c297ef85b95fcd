"""What the rounds are judged by, and how good a network is by that."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, cast

from dvos.config.data import DataSettings
from dvos.config.training import TrainingSettings

__all__ = ["ValidationKind", "validation_dice", "validation_kind", "warn_if_unfit"]

_log = logging.getLogger(__name__)

#: Named real data; stills or clips held back from training; the training data
#: themselves; synthetic clips only.
ValidationKind = Literal["named", "held back", "training data", "synthetic"]

_UNFIT = {
    "training data": "the labelled stills and clips that are trained on: a network that forgets "
    "other fields, or learns its own mistakes, is not found out",
    "synthetic": "synthetic clips: what a round does to real frames does not show",
}


def validation_kind(data: DataSettings) -> ValidationKind:
    """What the validation of a training measures on.

    Raises:
        DvosError: If tables or folders are at fault.
    """
    from dvos.training.labels import find_clips, find_stills, hold_back

    chosen = data.validation
    of_stills = chosen.stills.tables or chosen.stills.folders
    if of_stills or chosen.clips.tables or chosen.clips.folders or chosen.videos:
        return "named"
    if chosen.synthetic:
        return "synthetic"
    stills = find_stills(data.stills)
    clips = find_clips(data.clips)
    if not stills and not clips:
        return "synthetic"
    parted = (
        hold_back(stills, [still.image.stem for still in stills], chosen.share)[1],
        hold_back(clips, [clip.name for clip in clips], chosen.share)[1],
    )
    return "held back" if any(parted) else "training data"


def warn_if_unfit(kind: ValidationKind) -> None:
    """Say so where validation cannot tell a good round from a bad one."""
    if kind in _UNFIT:
        _log.warning(
            "the rounds are judged by %s; name labelled frames of such scenes as you want to "
            "segment under train.data.validation",
            _UNFIT[kind],
        )


def validation_dice(checkpoint: Path, training: TrainingSettings, *, device: str) -> float:
    """Pooled Dice of a trained network, as training measures it.

    Args:
        checkpoint: The network.
        training: Names the validation clips.
        device: As for prediction.

    Raises:
        CheckpointError: If the network cannot be loaded.
        DvosError: If the validation data are at fault.
    """
    from dvos.networks.spec import Normalisation
    from dvos.networks.weights import load_network
    from dvos.prediction.build import choose_device
    from dvos.runner import progress
    from dvos.training.data import build_validation_clips
    from dvos.training.measure import segment_clip
    from dvos.training.targets import QueryTarget

    place = choose_device(device)
    network, info = load_network(checkpoint, device=place)
    target = QueryTarget(training, references=cast("int", network.references))
    normalisation = Normalisation(**info.extra["normalisation"])
    clips = build_validation_clips(training, target, normalisation)
    overlap = both = 0
    for number in progress(range(len(clips)), description="validate", unit="clip"):
        clip = segment_clip(network, clips[number], place)
        known = clip.weight > 0
        predicted, truth = (clip.probability > 0.5) & known, (clip.target > 0.5) & known
        overlap += int((predicted & truth).sum())
        both += int(predicted.sum()) + int(truth.sum())
    return 2 * overlap / both if both else 1.0
