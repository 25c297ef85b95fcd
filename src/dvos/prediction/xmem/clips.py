"""The predictor of each clip of an input: XMem starts each from its own first mask."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.prediction.inputs import ClipInput
from dvos.prediction.predictor import Predictor
from dvos.prediction.xmem.first_masks import MaskTree
from dvos.prediction.xmem.predictor import XMemPredictor

__all__ = ["clip_predictors", "first_mask_fingerprint"]


def clip_predictors(predictor: Predictor, clips: Sequence[ClipInput]) -> list[Predictor]:
    """A predictor for each clip; the same for all of a network that needs no first mask.

    The first mask of every clip is found and looked at before anything is
    predicted.

    Raises:
        UsageError: If clips are photos, which no first mask comes before.
        MediaError: If first masks are missing or do not fit, a fault for each clip.
    """
    if not isinstance(predictor, XMemPredictor):
        return [predictor] * len(clips)
    if any(clip.still for clip in clips):
        raise UsageError.at(
            "stills",
            "is true, and XMem follows objects through frames",
            "false",
            "predict photos with a checkpoint of the network 'dvos' or 'paper'",
        )
    found: list[Predictor] = []
    with FaultCollector(MediaError) as faults:
        for clip in clips:
            try:
                found.append(_of_clip(predictor, clip, alone=len(clips) == 1))
            except MediaError as error:
                faults.extend(error.faults)
    return found


def first_mask_fingerprint(predictor: Predictor) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each mask file that the predictor of a clip reads."""
    return [
        (path.name, (facts := path.stat()).st_size, facts.st_mtime_ns)
        for path in _mask_files(predictor)
    ]


def _of_clip(predictor: XMemPredictor, clip: ClipInput, *, alone: bool) -> XMemPredictor:
    own = copy.copy(predictor)
    if not isinstance(predictor.first_masks, MaskTree):
        return own
    names = None
    if all(path.suffix.lower() in IMAGE_SUFFIXES for path in clip.files):
        names = [path.stem for path in clip.files]
    masks = predictor.first_masks.of_clip(clip.name, names, alone=alone)
    masks.check(clip.open().size)
    own.first_masks = masks
    return own


def _mask_files(predictor: Predictor) -> tuple[Path, ...]:
    if not isinstance(predictor, XMemPredictor) or isinstance(predictor.first_masks, MaskTree):
        return ()
    return predictor.first_masks.files
