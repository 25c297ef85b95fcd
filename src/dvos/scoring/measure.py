"""Measuring mask pairs, in threads or processes: the figures of each mask."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvos.config.scoring import ScoringSettings
from dvos.errors import DvosError, FaultCollector, MediaError, check_size
from dvos.media.clip_store import read_mask_at
from dvos.media.limits import memory_shared
from dvos.media.mask import Mask, label_components, read_mask, unknown_value, without_unknown
from dvos.runner.display import progress
from dvos.runner.tasks import Words, open_pool, say, words_kept, worker_count
from dvos.scoring.aggregate import Tally
from dvos.scoring.instances import ObjectMatches, match_objects, match_whole, object_count
from dvos.scoring.match import Pair
from dvos.scoring.overlap import PackedMask, PixelCounts, boundary_f, count_pixels, dice, iou
from dvos.scoring.stability import Followed
from dvos.tables import CountRow

_RUN = 16  # masks that a worker takes at once; it reads the one before them again
#: Of so many masks the interpreter's lock costs threads more than processes take to start.
_MANY = 4000

_SENT_BEFORE = Pair("", "", Path())  # stands for the pair of a result, which whoever sent it knows
#: Clip, name, truth and prediction of pairs that a worker measures in turn, and whether the first
#: is only there to compare the second with. To send a Path takes ten times as long as a text.
_Run = tuple[Sequence[tuple[str, str, str, str | None]], bool]


@dataclass(frozen=True)
class MaskScore:
    """Figures of one mask."""

    pair: Pair
    counts: PixelCounts
    boundary_f: float
    true_count: int | None = None  # objects in the truth, where that is an instance mask
    predicted_ids: int | None = None  # in the predicted mask itself; None if surely semantic
    objects: ObjectMatches | None = None  # where truth and prediction tell objects apart
    ranks: NDArray[np.float64] | None = None  # how sure each predicted object is
    #: IoU of the predicted mask with the one scored before it in its clip, and of the true one with
    #: its; None where none is before it.
    kept: tuple[float, float] | None = None
    #: IoU of the mask predicted before it in its clip with its truth, and of its prediction with
    #: the truth before: where these are high, one is numbered one off.
    beside: tuple[float, float] | None = None
    followed: Followed | None = None  # as ``kept`` with motion taken out, where frames are at hand
    #: The frame's row of the prediction's ``counts.csv``, or else the number of predicted objects.
    predicted_count: CountRow | None = None

    @cached_property
    def dice(self) -> float:
        """Published Dice: smooth 1."""
        return dice(self.counts, smooth=1.0)

    @cached_property
    def iou(self) -> float:
        """Published IoU: smooth 1."""
        return iou(self.counts, smooth=1.0)

    @cached_property
    def region_j(self) -> float:
        """IoU without smoothing."""
        return iou(self.counts)

    @property
    def both_counts(self) -> tuple[float, int] | None:
        """Objects predicted and true; None where either is not known."""
        found = None if self.predicted_count is None else self.predicted_count.count
        return None if found is None or self.true_count is None else (found, self.true_count)

    @cached_property
    def tally(self) -> Tally:
        """What the mask adds to the sums that figures are made of."""
        kept, kept_truth = self.kept or (0.0, 0.0)
        counts = self.both_counts
        return Tally(
            *self.counts,
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
            count_error=abs(counts[0] - counts[1]) if counts else 0.0,
            counted=float(counts is not None),
        )


def measure_pairs(pairs: Sequence[Pair], settings: ScoringSettings) -> list[MaskScore]:
    """Measure every pair, in order; pairs come clip by clip, in order."""
    folders = {pair.prediction.parent for pair in pairs if pair.prediction}
    from_files = any((folder / "instances").is_dir() for folder in folders)
    masks: list[MaskScore] = []
    with FaultCollector(MediaError) as faults:
        measured = _results(list(_runs(pairs, settings.temporal)), settings, from_files)
        results = progress(measured, description="score", total=len(pairs), unit="mask")
        for pair, result in zip(pairs, results, strict=True):
            if isinstance(result, DvosError):
                faults.extend(result.faults)
            else:
                masks.append(replace(result, pair=pair))
    folders = _folders_of_instances(masks, settings.void)
    apart = from_files or any((mask.predicted_ids or 0) > 1 for mask in masks)
    for place, mask in enumerate(masks):
        told = mask.pair.truth.parent in folders
        objects, true_count = mask.objects if told and apart else None, mask.true_count
        masks[place] = replace(mask, objects=objects, true_count=true_count if told else None)
    return masks


def _folders_of_instances(masks: Sequence[MaskScore], void: str) -> set[Path]:
    """The folders, each of a clip, whose true masks tell objects apart.

    A mask with one object looks like a semantic one. Those beside it tell which it is: in a folder
    where one mask has several ids, all are instance masks. Where some folder is such, so are those
    whose masks have one object, in one piece, or none: its number is right either way.
    """
    by_folder: dict[Path, list[MaskScore]] = {}
    for mask in masks:
        by_folder.setdefault(mask.pair.truth.parent, []).append(mask)
    found = {
        folder
        for folder, own in by_folder.items()
        if any((mask.true_count or 0) > 1 for mask in own)
    }

    def is_clear(mask: MaskScore) -> bool:
        if mask.true_count != 1:
            return mask.true_count == 0
        known = without_unknown(read_mask_at(mask.pair.truth, void))
        return int(label_components(known).max(initial=0)) == 1

    others = [folder for folder in by_folder if found and folder not in found]
    return found | {folder for folder in others if all(map(is_clear, by_folder[folder]))}


def instance_file(pair: Pair) -> Path | None:
    """Where the instance mask of a prediction lies; None where there is no prediction."""
    if pair.prediction is None:
        return None
    return pair.prediction.parent / "instances" / f"{pair.prediction.stem}.png"


def _runs(pairs: Sequence[Pair], temporal: bool) -> Iterator[_Run]:
    for start in range(0, len(pairs), _RUN):
        back = temporal and start > 0 and pairs[start].follows(pairs[start - 1])
        sent = [
            (one.clip, one.name, str(one.truth), str(one.prediction) if one.prediction else None)
            for one in pairs[start - back : start + _RUN]
        ]
        yield sent, back


def _results(
    runs: Sequence[_Run], settings: ScoringSettings, from_files: bool
) -> Iterator[MaskScore | DvosError]:
    """Figures, or what hinders them, of each pair of the runs, in order."""
    count, said = worker_count(settings.workers), set[str]()
    # Threads share what they hold and start at once; processes share no lock.
    many = count > 1 and len(runs) * _RUN > _MANY
    with (
        nullcontext() if many else memory_shared(count),
        open_pool(count) if many else ThreadPoolExecutor(count) as pool,
    ):
        measure = partial(_measure_run, settings=settings, from_files=from_files)
        for results, words in pool.map(measure, runs):
            say(words, said)
            yield from results


def _measure_run(
    run: _Run, *, settings: ScoringSettings, from_files: bool
) -> tuple[list[MaskScore | DvosError], Words]:
    """The results of a run, without their pairs, and what was logged."""
    sent, looked_back = run
    last: _Masks | None = None
    results: list[MaskScore | DvosError] = []
    with words_kept() as words:
        for place, (clip, name, truth, found) in enumerate(sent):
            pair = Pair(clip, name, Path(truth), Path(found) if found else None)
            # A foreseen error is handed back, so that all are reported.
            try:
                now = _read(pair, settings.void)
                if place or not looked_back:
                    follows = settings.temporal and last is not None and pair.follows(last.pair)
                    results.append(_measure(now, last if follows else None, settings, from_files))
                last = now
            except DvosError as error:
                results.append(error)
    return results[looked_back - len(sent) :], words


class _Masks(NamedTuple):
    """A pair's masks as stored; where the truth is unknown, both are background."""

    pair: Pair
    found: Mask
    stored: Mask
    known: NDArray[np.bool_] | None
    packed: tuple[PackedMask, PackedMask]  # what is object in prediction and truth


def _read(pair: Pair, void: str) -> _Masks:
    stored = read_mask_at(pair.truth, void)
    found = _read_prediction(pair.prediction, stored, pair)
    unknown = unknown_value(stored)
    known = None if unknown is None else stored != unknown
    if known is not None:
        stored, found = stored * known, found * known
    return _Masks(pair, found, stored, known, (PackedMask.of(found > 0), PackedMask.of(stored > 0)))


def _measure(
    now: _Masks, before: _Masks | None, settings: ScoringSettings, from_files: bool
) -> MaskScore:
    prediction, truth = now.packed
    counts = count_pixels(prediction, truth)
    true_count = object_count(now.stored)
    predicted_ids = None if from_files else object_count(now.found)
    objects: ObjectMatches | None = None
    if true_count is not None and from_files:
        file = instance_file(now.pair)
        file = file if file and file.is_file() else None
        instances = _read_prediction(file, now.stored, now.pair)
        known = instances if now.known is None else instances * now.known
        objects = match_objects(known, now.stored)
    elif true_count is not None and predicted_ids is not None:
        several = max(true_count, predicted_ids) > 1
        objects = match_objects(now.found, now.stored) if several else match_whole(counts)
    kept = beside = None
    if before is not None and before.stored.shape == now.stored.shape:
        earlier, true_earlier = before.packed
        kept = _iou(earlier, prediction), _iou(true_earlier, truth)
        beside = _iou(earlier, truth), _iou(prediction, true_earlier)
    boundary = boundary_f(prediction, truth, share=settings.boundary_tolerance)
    told = (counts, boundary, true_count, predicted_ids, objects)
    return MaskScore(_SENT_BEFORE, *told, kept=kept, beside=beside)


def _iou(first: PackedMask, second: PackedMask) -> float:
    return iou(count_pixels(first, second))


def _read_prediction(path: Path | None, stored: Mask, pair: Pair) -> Mask:
    """A mask beside its truth as stored, an empty one where there is none; unknown is no object."""
    if path is None:
        return np.zeros_like(stored)
    found = read_mask(path)
    remedy = "score masks at the size they were labelled in"
    check_size(path, found.shape, stored.shape, f"its truth {pair.truth}", remedy)
    return without_unknown(found)
