"""Measuring mask pairs, in threads: the figures of each mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import DvosError, FaultCollector, MediaError
from dvos.media.addressed import read_mask_at
from dvos.media.mask import Mask, read_mask
from dvos.runner import progress
from dvos.scoring.aggregate import Tally
from dvos.scoring.boundary import boundary_f
from dvos.scoring.counts import PredictedCount
from dvos.scoring.instances import ObjectMatches, match_objects, match_whole, object_count
from dvos.scoring.match import Pair
from dvos.scoring.overlap import PixelCounts, count_pixels, dice, iou
from dvos.scoring.stability import Followed

__all__ = ["MaskScore", "instance_file", "measure_pairs"]

#: Masks that a thread takes at once; it reads the one before them again.
_RUN = 16


@dataclass(frozen=True)
class MaskScore:
    """Figures of one mask.

    Attributes:
        pair: Truth and prediction.
        counts: Pixels.
        boundary_f: Boundary F.
        true_count: Objects in the truth, where that is an instance mask.
        predicted_ids: Ids in the predicted mask itself; None if it is semantic beyond doubt.
        objects: Single objects, where truth and prediction tell them apart.
        ranks: How sure each predicted object is, float64 in their order.
        kept: IoU of the predicted mask with the one scored before it in its
            clip, and of the true one with its; None where none is before it.
        followed: The same with motion taken out, where frames are at hand.
        predicted_count: Objects that the prediction counts.
    """

    pair: Pair
    counts: PixelCounts
    boundary_f: float
    true_count: int | None = None
    predicted_ids: int | None = None
    objects: ObjectMatches | None = None
    ranks: NDArray[np.float64] | None = None
    kept: tuple[float, float] | None = None
    followed: Followed | None = None
    predicted_count: PredictedCount | None = None

    @property
    def dice(self) -> float:
        """Published Dice: smooth 1."""
        return dice(self.counts, smooth=1.0)

    @property
    def iou(self) -> float:
        """Published IoU: smooth 1."""
        return iou(self.counts, smooth=1.0)

    @property
    def region_j(self) -> float:
        """IoU without smoothing."""
        return iou(self.counts)

    @property
    def tally(self) -> Tally:
        """What the mask adds to the sums that figures are made of."""
        kept, kept_truth = self.kept or (0.0, 0.0)
        count_error, counted = 0.0, 0.0
        if self.predicted_count is not None and self.true_count is not None:
            count_error, counted = abs(self.predicted_count.count - self.true_count), 1.0
        return Tally(
            intersection=self.counts.intersection,
            predicted=self.counts.predicted,
            truth=self.counts.truth,
            dice=self.dice,
            iou=self.iou,
            region_j=self.region_j,
            boundary_f=self.boundary_f,
            followed=self.followed.prediction if self.followed else 0.0,
            follows=float(self.followed is not None),
            kept=kept,
            kept_truth=kept_truth,
            hits=self.objects.hits if self.objects else 0.0,
            objects=self.objects.predicted + self.objects.true if self.objects else 0.0,
            count_error=count_error,
            counted=counted,
        )


def measure_pairs(
    pairs: Sequence[Pair], *, share: float, temporal: bool, workers: int
) -> list[MaskScore]:
    """Measure every pair, in order.

    Args:
        pairs: Truth and prediction, clip by clip, in order.
        share: Tolerance of boundary F as a share of the diagonal.
        temporal: Whether masks of a clip are compared with those before them.
        workers: Threads.

    Raises:
        MediaError: If masks cannot be read or a pair differs in size, with a
            fault for each.
    """
    from_files = any(folder.is_dir() for folder in _instance_folders(pairs))
    masks = []

    def measure(run: _Run) -> list[MaskScore | DvosError]:
        return list(_measure_run(run, share=share, from_files=from_files))

    # Threads, not processes: decoding, shifting and counting run outside the
    # interpreter's lock, and nothing has to be sent or started.
    with FaultCollector(MediaError) as faults, ThreadPoolExecutor(workers) as pool:
        results = (one for run in pool.map(measure, _runs(pairs, temporal)) for one in run)
        for result in progress(results, description="score", total=len(pairs), unit="mask"):
            if isinstance(result, MaskScore):
                masks.append(result)
            else:
                faults.extend(result.faults)
    return _settled(masks, from_files)


def instance_file(pair: Pair) -> Path | None:
    """Where the instance mask of a prediction lies; None where there is no prediction."""
    if pair.prediction is None:
        return None
    return pair.prediction.parent / "instances" / f"{pair.prediction.stem}.png"


def _instance_folders(pairs: Sequence[Pair]) -> set[Path]:
    return {path.parent for pair in pairs if (path := instance_file(pair)) is not None}


@dataclass(frozen=True)
class _Run:
    """Pairs in order, and the one before the first where it is of the same clip."""

    pairs: Sequence[Pair]
    before: Pair | None
    temporal: bool


@dataclass(frozen=True)
class _Masks:
    """A pair's masks as stored, and what of them is object, bool (H, W)."""

    found: Mask
    stored: Mask
    prediction: NDArray[np.bool_]
    truth: NDArray[np.bool_]


def _runs(pairs: Sequence[Pair], temporal: bool) -> Iterator[_Run]:
    for start in range(0, len(pairs), _RUN):
        before = pairs[start - 1] if temporal and start else None
        if before is not None and not _follows(before, pairs[start]):
            before = None
        yield _Run(pairs[start : start + _RUN], before, temporal)


def _follows(before: Pair, pair: Pair) -> bool:
    return pair.in_clip and before.clip == pair.clip


def _measure_run(run: _Run, *, share: float, from_files: bool) -> Iterator[MaskScore | DvosError]:
    """Measure pairs; a foreseen error is handed back so that all are reported."""
    before, last = run.before, None
    if before is not None:
        masks = _read(before)
        last = masks if isinstance(masks, _Masks) else None
    for pair in run.pairs:
        masks = _read(pair)
        if not isinstance(masks, _Masks):
            before, last = pair, None
            yield masks
            continue
        follows = run.temporal and before is not None and _follows(before, pair)
        measured = _measure(pair, masks, share=share, from_files=from_files)
        if isinstance(measured, MaskScore) and last is not None and follows:
            measured = replace(measured, kept=_kept(last, masks))
        before, last = pair, masks
        yield measured


def _read(pair: Pair) -> _Masks | DvosError:
    try:
        stored = read_mask_at(pair.truth)
        found = np.zeros_like(stored) if pair.prediction is None else read_mask(pair.prediction)
    except DvosError as error:
        return error
    if found.shape != stored.shape:
        return _other_size(pair.prediction or pair.truth, found, stored, pair)
    return _Masks(found, stored, found > 0, stored > 0)


def _measure(pair: Pair, masks: _Masks, *, share: float, from_files: bool) -> MaskScore | DvosError:
    counts = count_pixels(masks.prediction, masks.truth)
    true_count = object_count(masks.stored)
    predicted_ids = None if from_files else object_count(masks.found)
    objects: ObjectMatches | DvosError | None = None
    if true_count is not None and from_files:
        objects = _match_file(pair, masks.stored)
    elif true_count is not None and predicted_ids is not None:
        several = max(true_count, predicted_ids) > 1
        objects = match_objects(masks.found, masks.stored) if several else match_whole(counts)
    if isinstance(objects, DvosError):
        return objects
    return MaskScore(
        pair=pair,
        counts=counts,
        boundary_f=boundary_f(masks.prediction, masks.truth, share=share),
        true_count=true_count,
        predicted_ids=predicted_ids,
        objects=objects,
    )


def _match_file(pair: Pair, stored: Mask) -> ObjectMatches | DvosError:
    path = instance_file(pair)
    if path is None or not path.is_file():
        return match_objects(np.zeros_like(stored), stored)
    try:
        found = read_mask(path)
    except DvosError as error:
        return error
    if found.shape != stored.shape:
        return _other_size(path, found, stored, pair)
    return match_objects(found, stored)


def _kept(last: _Masks, now: _Masks) -> tuple[float, float] | None:
    if last.truth.shape != now.truth.shape:
        return None
    return (
        iou(count_pixels(last.prediction, now.prediction)),
        iou(count_pixels(last.truth, now.truth)),
    )


def _settled(masks: Sequence[MaskScore], from_files: bool) -> list[MaskScore]:
    """Keep counts and objects only where masks are instance masks.

    A mask with one object looks like a semantic one. Those beside it tell
    which it is: in a folder where one mask has several ids, all are instance masks.
    """
    folders = {mask.pair.truth.parent for mask in masks if (mask.true_count or 0) > 1}
    apart = from_files or any((mask.predicted_ids or 0) > 1 for mask in masks)
    return [
        replace(mask, objects=mask.objects if apart else None)
        if mask.pair.truth.parent in folders
        else replace(mask, objects=None, true_count=None)
        for mask in masks
    ]


def _other_size(path: Path, found: Mask, stored: Mask, pair: Pair) -> MediaError:
    return MediaError.at(
        path,
        f"is {found.shape[1]} x {found.shape[0]} pixels",
        f"{stored.shape[1]} x {stored.shape[0]}, as its truth {pair.truth}",
        "score masks at the size they were labelled in",
    )
