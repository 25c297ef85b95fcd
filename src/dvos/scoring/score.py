"""``dvos score``: predicted masks against true ones, to tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dvos.config.scoring import ScoringSettings
from dvos.errors import Fault
from dvos.files import make_folder, write_json
from dvos.runner import worker_count
from dvos.scoring.aggregate import resampled
from dvos.scoring.counts import PredictedCount, read_counts
from dvos.scoring.domains import assign_domains
from dvos.scoring.instances import read_probabilities
from dvos.scoring.match import Pair, pair_up, true_masks
from dvos.scoring.measure import MaskScore, instance_file, measure_pairs
from dvos.scoring.overlap import precision, recall
from dvos.scoring.pictures import write_pictures
from dvos.scoring.stability import measure_stability
from dvos.scoring.summary import DomainScores, Scores, intervals_of, score_domains
from dvos.tables import write_rows

__all__ = ["MaskScore", "Scores", "score"]

#: What is scored where a prediction is missing.
_MISSING_REMEDY = "it was scored as an empty mask; predict it, or leave it out of the truth"
_NO_OBJECTS_REMEDY = "its objects were scored as not found; predict it with instances"

#: Columns of ``scores_by_mask.csv``.
_COLUMNS = (
    *("clip", "frame", "domain", "dice", "iou", "precision", "recall", "region_j", "boundary_f"),
    *("temporal_stability", "true_count", "predicted_count", "objects_hit"),
)


def score(settings: ScoringSettings) -> Scores:
    """Score predictions and write ``scores.csv``, ``scores.json`` and pictures.

    A missing prediction is scored as an empty mask and listed in the
    result's ``missing``; the caller decides what that means.

    Raises:
        UsageError: If a folder does not exist, or masks have no domain.
        TableError: If a CSV has faults.
        MediaError: If masks cannot be read or a pair differs in size, with a
            fault for each such pair; then nothing is written.
        OutputError: If the scores cannot be written.
    """
    truths = true_masks(settings.truth, frames=settings.frames, images=settings.images)
    pairs = pair_up(truths, settings.predictions)
    domains = assign_domains(pairs, settings.domain)
    out = make_folder(settings.out)
    masks, ranked_by = _ranked(_measure(settings, pairs))
    drawn = resampled(
        [mask.pair.clip for mask in masks],
        [mask.tally for mask in masks],
        rng=np.random.default_rng([settings.seed, 0]),
    )
    by_domain: DomainScores | None = None
    if domains is not None:
        by_domain = score_domains(masks, domains, seed=settings.seed, level=settings.confidence)
    ranked = sorted(masks, key=lambda mask: mask.dice)
    shown = masks[:: settings.overlay_interval] if settings.overlay_interval else []
    scores = Scores(
        masks=tuple(masks),
        intervals=intervals_of(drawn, settings.confidence),
        ranked_by=ranked_by,
        by_domain=by_domain,
        missing=tuple(_missing(masks, settings.predictions)),
        out=out,
        best=out / "best.png",
        median=out / "median.png",
        worst=out / "worst.png",
        overlays=tuple(
            out / "overlays" / f"{mask.pair.clip}_{mask.pair.name}.png" for mask in shown
        ),
    )
    _write_tables(scores, domains)
    chosen = {
        scores.best: ranked[-1],
        scores.median: ranked[len(ranked) // 2],
        scores.worst: ranked[0],
        **dict(zip(scores.overlays, shown, strict=True)),
    }
    write_pictures({path: mask.pair for path, mask in chosen.items()}, settings.images)
    return scores


def _measure(settings: ScoringSettings, pairs: Sequence[Pair]) -> list[MaskScore]:
    workers = worker_count(settings.workers)
    masks = measure_pairs(
        pairs, share=settings.boundary_tolerance, temporal=settings.temporal, workers=workers
    )
    frames = settings.flow_frames if settings.temporal else 0
    steady = measure_stability(pairs, images=settings.images, frames=frames, workers=workers)
    table = settings.predictions / "counts.csv"
    counts = read_counts(table) if table.is_file() else None
    return [
        replace(mask, followed=steady.get(place), predicted_count=_predicted_count(mask, counts))
        for place, mask in enumerate(masks)
    ]


def _predicted_count(
    mask: MaskScore, counts: dict[tuple[str, str], PredictedCount] | None
) -> PredictedCount | None:
    if counts is not None:
        return counts.get((mask.pair.clip, mask.pair.name))
    return PredictedCount(mask.objects.predicted) if mask.objects is not None else None


def _ranked(masks: Sequence[MaskScore]) -> tuple[list[MaskScore], str]:
    """Say how sure each predicted object is, and by what.

    Probabilities where every clip has them, else areas: the two do not compare.
    """
    tables: dict[Path, dict[str, dict[int, float]] | None] = {}
    by_probability: list[MaskScore] = []
    for mask in masks:
        path = instance_file(mask.pair)
        if mask.objects is None or path is None or not mask.objects.predicted:
            by_probability.append(mask)
            continue
        clip = path.parent.parent
        if clip not in tables:
            tables[clip] = read_probabilities(clip.parent / f"{clip.name}.objects.csv")
        sure = (tables[clip] or {}).get(path.stem, {})
        ids = mask.objects.ids.tolist()
        if not all(one in sure for one in ids):
            return [_by_area(one) for one in masks], "area"
        by_probability.append(replace(mask, ranks=np.array([sure[one] for one in ids])))
    return by_probability, "mean_probability"


def _by_area(mask: MaskScore) -> MaskScore:
    if mask.objects is None:
        return mask
    return replace(mask, ranks=mask.objects.areas.astype(np.float64))


def _missing(masks: Sequence[MaskScore], predictions: Path) -> list[Fault]:
    """Faults of masks without a prediction, then of those without objects beside others with."""
    faults = []
    for mask in masks:
        if mask.pair.prediction is None:
            expected = str(predictions / mask.pair.clip / f"{mask.pair.name}.png")
            faults.append(
                Fault(str(mask.pair.truth), "has no prediction", expected, _MISSING_REMEDY)
            )
    for mask in masks:
        path = instance_file(mask.pair)
        # Ids of the mask itself are not looked at where instance masks are used.
        if mask.objects is None or mask.predicted_ids is not None or path is None:
            continue
        if not path.is_file():
            found = "has no predicted instance mask"
            faults.append(Fault(str(mask.pair.truth), found, str(path), _NO_OBJECTS_REMEDY))
    return faults


def _write_tables(scores: Scores, domains: Sequence[str] | None) -> None:
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
    named = domains or [""] * len(scores.masks)
    details = [_details(mask, domain) for mask, domain in zip(scores.masks, named, strict=True)]
    write_rows(scores.out / "scores_by_mask.csv", _COLUMNS, details)
    write_json(scores.out / "scores.json", scores.as_json())


def _details(mask: MaskScore, domain: str) -> tuple[object, ...]:
    return (
        *(mask.pair.clip, mask.pair.name, domain, mask.dice, mask.iou),
        *(precision(mask.counts), recall(mask.counts), mask.region_j, mask.boundary_f),
        mask.followed.prediction if mask.followed else None,
        mask.true_count,
        mask.predicted_count.count if mask.predicted_count else None,
        mask.objects.hits if mask.objects else None,
    )
