"""``dvos score``: predicted masks against true ones, to tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dvos.config.scoring import ScoringSettings
from dvos.errors import DvosError, Fault, FaultCollector, MediaError
from dvos.files import make_folder, write_json
from dvos.media.mask import is_binary, read_mask
from dvos.runner import progress, worker_count
from dvos.scoring.aggregate import Interval, group_figures, pooled_dice_interval
from dvos.scoring.boundary import boundary_f
from dvos.scoring.counts import CountErrors, count_errors, count_instances, read_counts
from dvos.scoring.match import Pair, pair_up, true_masks
from dvos.scoring.overlap import PixelCounts, count_pixels, dice, iou, precision, recall, total
from dvos.scoring.pictures import write_pictures
from dvos.tables import write_rows

__all__ = ["MaskScore", "Scores", "score"]

#: What is scored where a prediction is missing.
_MISSING_REMEDY = "it was scored as an empty mask; predict it, or leave it out of the truth"


@dataclass(frozen=True)
class MaskScore:
    """Figures of one mask.

    Attributes:
        pair: Truth and prediction.
        counts: Pixels.
        boundary_f: Boundary F.
        true_count: Objects in the truth, where that is an instance mask.
    """

    pair: Pair
    counts: PixelCounts
    boundary_f: float
    true_count: int | None

    @property
    def dice(self) -> float:
        """Published Dice: smooth 1."""
        return dice(self.counts, smooth=1.0)

    @property
    def iou(self) -> float:
        """Published IoU: smooth 1."""
        return iou(self.counts, smooth=1.0)


@dataclass(frozen=True)
class Scores:
    """What ``dvos score`` found.

    Attributes:
        masks: Figures of each mask, in the truth's order; a missing
            prediction counts as an empty mask.
        interval: Bootstrap interval of ``pooled_dice``.
        count_errors: Of object counts, where truth and predictions have them.
        missing: One fault for each true mask without a prediction.
        out: Folder of ``scores.csv``, ``scores.json`` and the pictures.
        best: Picture of the mask with the highest Dice.
        median: Picture of the one in the middle.
        worst: Picture of the one with the lowest Dice.
        overlays: Pictures at the interval asked for.
    """

    masks: tuple[MaskScore, ...]
    interval: Interval | None
    count_errors: CountErrors | None
    missing: tuple[Fault, ...]
    out: Path
    best: Path
    median: Path
    worst: Path
    overlays: tuple[Path, ...]

    @property
    def mean_dice(self) -> float:
        """Mean of the published Dice over masks."""
        return _mean([mask.dice for mask in self.masks])

    @property
    def mean_iou(self) -> float:
        """Mean of the published IoU over masks."""
        return _mean([mask.iou for mask in self.masks])

    @property
    def pooled(self) -> PixelCounts:
        """Pixels of all masks together."""
        return total(mask.counts for mask in self.masks)

    @property
    def pooled_dice(self) -> float:
        """Dice of all pixels together, without smoothing."""
        return dice(self.pooled)

    @property
    def pooled_iou(self) -> float:
        """IoU of all pixels together, without smoothing."""
        return iou(self.pooled)

    def __str__(self) -> str:
        text = (
            f"pooled Dice {self.pooled_dice:.4f}, pooled IoU {self.pooled_iou:.4f}, "
            f"mean Dice {self.mean_dice:.4f}, mean IoU {self.mean_iou:.4f} "
            f"over {len(self.masks)} masks"
        )
        if self.missing:
            text += f", {len(self.missing)} of them without a prediction"
        return f"{text}: {self.out / 'scores.json'}"

    def as_json(self) -> dict[str, Any]:
        """The content of ``scores.json``."""
        clips = [mask.pair.clip for mask in self.masks]
        return {
            "mean_dice": self.mean_dice,
            "mean_iou": self.mean_iou,
            "pooled_dice": self.pooled_dice,
            "pooled_iou": self.pooled_iou,
            "masks": len(self.masks),
            "missing": len(self.missing),
            "precision": precision(self.pooled),
            "recall": recall(self.pooled),
            "boundary_f": _mean([mask.boundary_f for mask in self.masks]),
            "pooled_dice_interval": asdict(self.interval) if self.interval else None,
            "counts": asdict(self.count_errors) if self.count_errors else None,
            "clips": group_figures(clips, [mask.counts for mask in self.masks]),
            "pictures": {
                "best": self.best.name,
                "median": self.median.name,
                "worst": self.worst.name,
                "overlays": [path.relative_to(self.out).as_posix() for path in self.overlays],
            },
        }


def score(settings: ScoringSettings) -> Scores:
    """Score predictions and write ``scores.csv``, ``scores.json`` and pictures.

    A missing prediction is scored as an empty mask and listed in the
    result's ``missing``; the caller decides what that means.

    Raises:
        UsageError: If a folder does not exist.
        TableError: If a CSV has faults.
        MediaError: If masks cannot be read or a pair differs in size, with a
            fault for each such pair; then nothing is written.
        OutputError: If the scores cannot be written.
    """
    truths = true_masks(settings.truth, frames=settings.frames, images=settings.images)
    pairs = pair_up(truths, settings.predictions)
    out = make_folder(settings.out)
    masks = _score_pairs(
        pairs, share=settings.boundary_tolerance, workers=worker_count(settings.workers)
    )
    interval = pooled_dice_interval(
        [mask.pair.clip for mask in masks],
        [mask.counts for mask in masks],
        rng=np.random.default_rng([settings.seed, 0]),
        level=settings.confidence,
    )
    ranked = sorted(masks, key=lambda mask: mask.dice)
    shown = masks[:: settings.overlay_interval] if settings.overlay_interval else []
    scores = Scores(
        masks=tuple(masks),
        interval=interval,
        count_errors=_count_errors(masks, settings.predictions / "counts.csv"),
        missing=tuple(
            _missing(mask.pair, settings.predictions)
            for mask in masks
            if mask.pair.prediction is None
        ),
        out=out,
        best=out / "best.png",
        median=out / "median.png",
        worst=out / "worst.png",
        overlays=tuple(
            out / "overlays" / f"{mask.pair.clip}_{mask.pair.name}.png" for mask in shown
        ),
    )
    _write_tables(scores)
    chosen = {
        scores.best: ranked[-1],
        scores.median: ranked[len(ranked) // 2],
        scores.worst: ranked[0],
        **dict(zip(scores.overlays, shown, strict=True)),
    }
    write_pictures({path: mask.pair for path, mask in chosen.items()}, settings.images)
    return scores


def _score_pairs(pairs: Sequence[Pair], *, share: float, workers: int) -> list[MaskScore]:
    masks = []
    # Threads, not processes: decoding, dilation and counting run in OpenCV,
    # outside the interpreter's lock, and nothing has to be sent or started.
    with FaultCollector(MediaError) as faults, ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda pair: _score_pair(pair, share=share), pairs)
        for result in progress(results, description="score", total=len(pairs), unit="mask"):
            if isinstance(result, MaskScore):
                masks.append(result)
            else:
                faults.extend(result.faults)
    return masks


def _score_pair(pair: Pair, *, share: float) -> MaskScore | DvosError:
    """Score one pair; a foreseen error is handed back so that all are reported."""
    try:
        stored = read_mask(pair.truth)
        found = np.zeros_like(stored) if pair.prediction is None else read_mask(pair.prediction)
    except DvosError as error:
        return error
    if found.shape != stored.shape:
        return MediaError.at(
            pair.prediction or pair.truth,
            f"is {found.shape[1]} x {found.shape[0]} pixels",
            f"{stored.shape[1]} x {stored.shape[0]}, as its truth {pair.truth}",
            "score masks at the size they were labelled in",
        )
    truth, prediction = stored > 0, found > 0
    return MaskScore(
        pair=pair,
        counts=count_pixels(prediction, truth),
        boundary_f=boundary_f(prediction, truth, share=share),
        true_count=None if is_binary(stored) else count_instances(stored),
    )


def _count_errors(masks: Sequence[MaskScore], counts_file: Path) -> CountErrors | None:
    if not counts_file.is_file():
        return None
    counts = read_counts(counts_file)
    both = [
        (counts[key], mask.true_count)
        for mask in masks
        if mask.true_count is not None and (key := (mask.pair.clip, mask.pair.name)) in counts
    ]
    return count_errors([p for p, _ in both], [t for _, t in both]) if both else None


def _missing(pair: Pair, predictions: Path) -> Fault:
    expected = predictions / pair.clip / f"{pair.name}.png"
    return Fault(str(pair.truth), "has no prediction", str(expected), _MISSING_REMEDY)


def _write_tables(scores: Scores) -> None:
    rows: list[tuple[object, ...]] = [
        (
            mask.pair.image or mask.pair.name,
            mask.pair.truth,
            mask.pair.prediction,
            mask.iou,
            mask.dice,
        )
        for mask in scores.masks
    ]
    rows.append(("Mean", None, None, scores.mean_iou, scores.mean_dice))
    write_rows(scores.out / "scores.csv", ("Image", "Mask", "Pred", "IoU", "Dice"), rows)
    write_json(scores.out / "scores.json", scores.as_json())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
