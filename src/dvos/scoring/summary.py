"""All scores of a set of masks, of its clips and of its domains, as ``scores.json`` tells them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import dvos.scoring.aggregate as aggregate
from dvos.errors import Fault
from dvos.scoring.aggregate import FIGURES, Interval, Resampled
from dvos.scoring.hand_counts import HandCounts
from dvos.scoring.instances import CountErrors, InstanceFigures, count_errors, instance_figures
from dvos.scoring.measure import MaskScore
from dvos.scoring.track_measures import MEASURES
from dvos.tables.cells import table_values


@dataclass(frozen=True)
class Scores:
    """What ``dvos score`` found."""

    masks: tuple[MaskScore, ...]  # in the truth's order; a missing prediction is an empty mask
    intervals: Mapping[str, Interval | None]
    ranked_by: str  # ``mean_probability`` or ``area``
    by_domain: tuple[dict[str, Any], dict[str, Any]] | None  # as of :func:`score_domains`
    #: One for each true mask without a prediction, or an instance mask where others have one.
    missing: tuple[Fault, ...]
    #: Folder of the tables and the pictures; of the masks with the highest, the middle and the
    #: lowest Dice these are ``best.png``, ``median.png`` and ``worst.png``.
    out: Path
    overlays: tuple[Path, ...]  # pictures at the interval asked for
    tracks: Mapping[str, Any] | None = None  # as of :func:`~dvos.scoring.tracks.score_tracks`
    by_hand: HandCounts | None = None  # agreement with counts by hand
    truth: str = ""  # where it lies, from ``out``
    void: str = "auto"  # the setting by which its masks were read

    @cached_property
    def figures(self) -> dict[str, float | None]:
        """The figures of all masks together; None where one is not defined."""
        return _figures_of(self.masks)

    @property
    def mean_dice(self) -> float:
        """Mean of the published Dice over masks."""
        return fmean(mask.dice for mask in self.masks)

    @property
    def mean_iou(self) -> float:
        """Mean of the published IoU over masks."""
        return fmean(mask.iou for mask in self.masks)

    @property
    def pooled_dice(self) -> float:
        """Dice of all pixels together, without smoothing."""
        return self.figures["pooled_dice"] or 0.0

    @property
    def pooled_iou(self) -> float:
        """IoU of all pixels together, without smoothing."""
        return self.figures["pooled_iou"] or 0.0

    @cached_property
    def count_errors(self) -> CountErrors | None:
        """Of object counts, where truth and predictions have them."""
        both = [mask.both_counts for mask in self.masks if mask.both_counts is not None]
        return count_errors(*zip(*both, strict=True)) if both else None

    @cached_property
    def instances(self) -> InstanceFigures | None:
        """Of single objects, where truth and predictions tell them apart."""
        return _instances(self.masks)

    @property
    def without_prediction(self) -> int:
        """Number of masks without a prediction."""
        return sum(mask.pair.prediction is None for mask in self.masks)

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows of ``scores.csv``, as ``pandas.DataFrame`` takes them."""
        return table_values(self.out / "scores.csv")

    def __str__(self) -> str:
        text = (
            f"pooled Dice {self.pooled_dice:.4f}, pooled IoU {self.pooled_iou:.4f}, "
            f"mean Dice {self.mean_dice:.4f}, mean IoU {self.mean_iou:.4f} "
            f"over {len(self.masks)} masks"
        )
        if self.without_prediction:
            text += f", {self.without_prediction} of them without a prediction"
        text = f"{text}: {self.out / 'scores.json'}"
        if self.tracks is not None:
            told = ", ".join(f"{one} {self.tracks[one] or 0:.3f}" for one in MEASURES)
            text += f"\n{told}: {self.out / 'tracks.json'}"
        return text if self.by_hand is None else f"{text}\n{self.by_hand}"

    def as_json(self) -> dict[str, Any]:
        """The content of ``scores.json``."""
        objects = self.instances
        followed = [mask.followed for mask in self.masks if mask.followed is not None]
        truth = [one.truth for one in followed if one.truth is not None]
        return {
            **self.figures,
            **_average_precisions(objects),
            "truth": self.truth,
            "void": self.void,
            "masks": len(self.masks),
            "missing": self.without_prediction,
            **_intervals_json(self.intervals),
            "davis": _davis(self.masks),
            "temporal": {
                "followed": len(followed),
                "followed_truth": len(truth),
                "truth_stability": fmean(truth) if truth else None,
                "compared": sum(mask.kept is not None for mask in self.masks),
            },
            "counts": self._counts(),
            "instances": objects and {**asdict(objects), "ranked_by": self.ranked_by},
            "clips": {name: _group(members) for name, members in by_clip(self.masks).items()},
            "domains": self.by_domain and self.by_domain[0],
            "domain_mean": self.by_domain and self.by_domain[1],
            **({} if self.tracks is None else {"tracks": self.tracks}),
            **({} if self.by_hand is None else {"counts_by_hand": self.by_hand.as_json()}),
            "pictures": {
                **{name: f"{name}.png" for name in ("best", "median", "worst")},
                "overlays": [path.relative_to(self.out).as_posix() for path in self.overlays],
            },
        }

    def _counts(self) -> dict[str, Any] | None:
        if self.count_errors is None:
            return None
        rows = [
            (mask.predicted_count, mask.true_count)
            for mask in self.masks
            if mask.predicted_count is not None and mask.true_count is not None
        ]
        smooth = [(row.count_smooth, true) for row, true in rows if row.count_smooth is not None]
        inside = [
            row.count_low <= true <= row.count_high
            for row, true in rows
            if row.count_low is not None and row.count_high is not None
        ]
        return {
            **asdict(self.count_errors),
            "smooth": asdict(count_errors(*zip(*smooth, strict=True))) if smooth else None,
            "interval_coverage": sum(inside) / len(inside) if inside else None,
        }


def score_domains(
    masks: Sequence[MaskScore], *, seed: int, level: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of each domain, and the mean of each over domains, with intervals, as in JSON.

    Clips are drawn again within their domain, so that every draw has every domain.
    """
    groups = sorted(aggregate.by_group([mask.pair.domain for mask in masks], masks).items())
    draws: list[Resampled | None] = []
    found: dict[str, dict[str, Any]] = {}
    for place, (name, members) in enumerate(groups):
        draws.append(drawn_again(members, [seed, 1, place]))
        intervals = _intervals_json(intervals_of(draws[-1], level))
        found[name] = {"clips": len(by_clip(members)), **_group(members), **intervals}
    mean: dict[str, Any] = {"domains": len(found)}
    for name in FIGURES:
        values = [domain[name] for domain in found.values()]
        mean[name] = None if None in values else fmean(values)
    means, whole = None, [drawn for drawn in draws if drawn is not None]
    if len(whole) == len(draws):
        samples = {n: np.mean([drawn.samples[n] for drawn in whole], axis=0) for n in FIGURES}
        means = Resampled(samples, "domain", len(whole))
    return found, {**mean, **_intervals_json(intervals_of(means, level))}


def by_clip(masks: Sequence[MaskScore]) -> dict[str, list[MaskScore]]:
    """The masks of each clip."""
    return aggregate.by_group([mask.pair.clip for mask in masks], masks)


def drawn_again(masks: Sequence[MaskScore], seed: Sequence[int]) -> Resampled | None:
    """Figures of bootstrap draws of the masks' clips."""
    clips, tallies = [mask.pair.clip for mask in masks], [mask.tally for mask in masks]
    return aggregate.resampled(clips, tallies, rng=np.random.default_rng(seed))


def intervals_of(drawn: Resampled | None, level: float) -> dict[str, Interval | None]:
    """Bootstrap interval of each figure; None for all where nothing was drawn."""
    return {name: drawn.interval(name, level) if drawn else None for name in FIGURES}


def _intervals_json(intervals: Mapping[str, Interval | None]) -> dict[str, Any]:
    return {f"{name}_interval": one and asdict(one) for name, one in intervals.items()}


def _figures_of(masks: Sequence[MaskScore]) -> dict[str, float | None]:
    found = aggregate.figures(aggregate.total(mask.tally for mask in masks))
    return {name: None if math.isnan(found[name]) else float(found[name]) for name in FIGURES}


def _group(masks: Sequence[MaskScore]) -> dict[str, Any]:
    """What is told of a clip and of a domain."""
    objects = _average_precisions(_instances(masks))
    return {"masks": len(masks), **_figures_of(masks), **objects, "davis": _davis(masks)}


def _davis(masks: Sequence[MaskScore]) -> dict[str, float | None]:
    clips = by_clip(masks)
    return aggregate.over_clips(
        {name: [mask.region_j for mask in members] for name, members in clips.items()},
        {name: [mask.boundary_f for mask in members] for name, members in clips.items()},
    )


def _instances(masks: Sequence[MaskScore]) -> InstanceFigures | None:
    known = [
        (mask.objects, np.empty(0) if mask.ranks is None else mask.ranks)
        for mask in masks
        if mask.objects is not None
    ]
    return instance_figures(*zip(*known, strict=True)) if known else None


def _average_precisions(found: InstanceFigures | None) -> dict[str, float | None]:
    names = ("average_precision", "average_precision_50")
    return {name: getattr(found, name, None) for name in names}
