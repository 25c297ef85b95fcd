"""All scores of a set of masks, of its clips and of its domains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from dvos.errors import Fault
from dvos.scoring.aggregate import (
    FIGURES,
    Interval,
    Resampled,
    by_group,
    figures,
    interval,
    resampled,
    total,
)
from dvos.scoring.counts import CountErrors, count_errors, smooth_errors
from dvos.scoring.davis import over_clips
from dvos.scoring.instances import InstanceFigures, instance_figures
from dvos.scoring.measure import MaskScore
from dvos.scoring.overlap import PixelCounts
from dvos.scoring.overlap import total as pixel_total

__all__ = ["DomainScores", "Scores", "figures_of", "score_domains"]


@dataclass(frozen=True)
class DomainScores:
    """Figures by domain.

    Attributes:
        domains: For each domain its figures and their intervals, as in JSON.
        mean: Mean of each figure over domains, and its interval; None for a
            figure that a domain lacks.
    """

    domains: dict[str, dict[str, Any]]
    mean: dict[str, Any]


@dataclass(frozen=True)
class Scores:
    """What ``dvos score`` found.

    Attributes:
        masks: Figures of each mask, in the truth's order; a missing
            prediction counts as an empty mask.
        intervals: Bootstrap interval by figure; None where there is none.
        ranked_by: ``mean_probability`` or ``area``.
        by_domain: Figures by domain, where masks have domains.
        missing: One fault for each true mask without a prediction, and for
            each without an instance mask where others have one.
        out: Folder of the tables and the pictures.
        best: Picture of the mask with the highest Dice.
        median: Picture of the one in the middle.
        worst: Picture of the one with the lowest Dice.
        overlays: Pictures at the interval asked for.
    """

    masks: tuple[MaskScore, ...]
    intervals: Mapping[str, Interval | None]
    ranked_by: str
    by_domain: DomainScores | None
    missing: tuple[Fault, ...]
    out: Path
    best: Path
    median: Path
    worst: Path
    overlays: tuple[Path, ...]

    @cached_property
    def figures(self) -> dict[str, float | None]:
        """The figures of all masks together; None where one is not defined."""
        return figures_of(self.masks)

    @property
    def mean_dice(self) -> float:
        """Mean of the published Dice over masks."""
        return fmean(mask.dice for mask in self.masks)

    @property
    def mean_iou(self) -> float:
        """Mean of the published IoU over masks."""
        return fmean(mask.iou for mask in self.masks)

    @property
    def pooled(self) -> PixelCounts:
        """Pixels of all masks together."""
        return pixel_total(mask.counts for mask in self.masks)

    @property
    def pooled_dice(self) -> float:
        """Dice of all pixels together, without smoothing."""
        return self.figures["pooled_dice"] or 0.0

    @property
    def pooled_iou(self) -> float:
        """IoU of all pixels together, without smoothing."""
        return self.figures["pooled_iou"] or 0.0

    @property
    def interval(self) -> Interval | None:
        """Bootstrap interval of ``pooled_dice``."""
        return self.intervals["pooled_dice"]

    @cached_property
    def count_errors(self) -> CountErrors | None:
        """Of object counts, where truth and predictions have them."""
        both = _counted(self.masks)
        return count_errors([p.count for p, _ in both], [t for _, t in both]) if both else None

    @cached_property
    def instances(self) -> InstanceFigures | None:
        """Of single objects, where truth and predictions tell them apart."""
        return _instances(self.masks)

    @property
    def without_prediction(self) -> int:
        """Number of masks without a prediction."""
        return sum(mask.pair.prediction is None for mask in self.masks)

    def __str__(self) -> str:
        text = (
            f"pooled Dice {self.pooled_dice:.4f}, pooled IoU {self.pooled_iou:.4f}, "
            f"mean Dice {self.mean_dice:.4f}, mean IoU {self.mean_iou:.4f} "
            f"over {len(self.masks)} masks"
        )
        if self.without_prediction:
            text += f", {self.without_prediction} of them without a prediction"
        return f"{text}: {self.out / 'scores.json'}"

    def as_json(self) -> dict[str, Any]:
        """The content of ``scores.json``."""
        clips = by_group([mask.pair.clip for mask in self.masks], self.masks)
        overlays = [path.relative_to(self.out).as_posix() for path in self.overlays]
        return {
            **self.figures,
            **_instance_headline(self.instances),
            "masks": len(self.masks),
            "missing": self.without_prediction,
            **_intervals_json(self.intervals),
            "davis": _davis(self.masks),
            "temporal": _temporal(self.masks),
            "counts": _counts_json(self.masks, self.count_errors),
            "instances": self._instances_json(),
            "clips": {name: _group(members) for name, members in clips.items()},
            "domains": self.by_domain.domains if self.by_domain else None,
            "domain_mean": self.by_domain.mean if self.by_domain else None,
            "pictures": {
                "best": self.best.name,
                "median": self.median.name,
                "worst": self.worst.name,
                "overlays": overlays,
            },
        }

    def _instances_json(self) -> dict[str, Any] | None:
        found = self.instances
        return None if found is None else {**asdict(found), "ranked_by": self.ranked_by}


def figures_of(masks: Sequence[MaskScore]) -> dict[str, float | None]:
    """The figures of masks together; None where one is not defined."""
    found = figures(total(mask.tally for mask in masks))
    return {name: _defined(float(found[name])) for name in FIGURES}


def score_domains(
    masks: Sequence[MaskScore], domains: Sequence[str], *, seed: int, level: float
) -> DomainScores:
    """Figures of each domain and their mean, with intervals.

    Clips are drawn again within their domain, so that every draw has every domain.

    Args:
        masks: Figures of each mask.
        domains: The domain of each.
        seed: Of the draws.
        level: Confidence level.
    """
    groups = dict(sorted(by_group(domains, masks).items()))
    draws: list[Resampled | None] = []
    found: dict[str, dict[str, Any]] = {}
    for place, (name, members) in enumerate(groups.items()):
        rng = np.random.default_rng([seed, 1, place])
        drawn = resampled(
            [mask.pair.clip for mask in members], [mask.tally for mask in members], rng=rng
        )
        draws.append(drawn)
        found[name] = {
            "clips": len({mask.pair.clip for mask in members}),
            **_group(members),
            **_intervals_json(intervals_of(drawn, level)),
        }
    return DomainScores(found, _domain_mean(found, draws, level))


def intervals_of(drawn: Resampled | None, level: float) -> dict[str, Interval | None]:
    """Interval of each figure."""
    if drawn is None:
        return dict.fromkeys(FIGURES)
    return {
        name: interval(drawn.samples[name], level=level, unit=drawn.unit, units=drawn.units)
        for name in FIGURES
    }


def _domain_mean(
    found: Mapping[str, Mapping[str, Any]], draws: Sequence[Resampled | None], level: float
) -> dict[str, Any]:
    result: dict[str, Any] = {"domains": len(found)}
    for name in FIGURES:
        values = [figures[name] for figures in found.values()]
        result[name] = fmean(values) if all(value is not None for value in values) else None
    whole = [drawn for drawn in draws if drawn is not None]
    for name in FIGURES:
        one = None
        if len(whole) == len(draws):
            means = np.mean([drawn.samples[name] for drawn in whole], axis=0)
            one = interval(means, level=level, unit="domain", units=len(whole))
        result[f"{name}_interval"] = asdict(one) if one else None
    return result


def _group(masks: Sequence[MaskScore]) -> dict[str, Any]:
    return {
        "masks": len(masks),
        **figures_of(masks),
        **_instance_headline(_instances(masks)),
        "davis": _davis(masks),
    }


def _davis(masks: Sequence[MaskScore]) -> dict[str, float | None]:
    clips = by_group([mask.pair.clip for mask in masks], masks)
    return over_clips(
        {name: [mask.region_j for mask in members] for name, members in clips.items()},
        {name: [mask.boundary_f for mask in members] for name, members in clips.items()},
    )


def _temporal(masks: Sequence[MaskScore]) -> dict[str, Any]:
    followed = [mask.followed for mask in masks if mask.followed is not None]
    truth = [one.truth for one in followed if one.truth is not None]
    return {
        "followed": len(followed),
        "followed_truth": len(truth),
        "truth_stability": fmean(truth) if truth else None,
        "compared": sum(mask.kept is not None for mask in masks),
    }


def _instances(masks: Sequence[MaskScore]) -> InstanceFigures | None:
    known = [mask for mask in masks if mask.objects is not None]
    if not known:
        return None
    return instance_figures(
        [mask.objects for mask in known if mask.objects is not None],
        [np.empty(0) if mask.ranks is None else mask.ranks for mask in known],
    )


def _instance_headline(found: InstanceFigures | None) -> dict[str, float | None]:
    return {
        "average_precision": found.average_precision if found else None,
        "average_precision_50": found.average_precision_50 if found else None,
    }


def _counted(masks: Sequence[MaskScore]) -> list[tuple[Any, int]]:
    return [
        (mask.predicted_count, mask.true_count)
        for mask in masks
        if mask.predicted_count is not None and mask.true_count is not None
    ]


def _counts_json(masks: Sequence[MaskScore], errors: CountErrors | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    both = _counted(masks)
    smooth, inside = smooth_errors([p for p, _ in both], [t for _, t in both])
    return {
        **asdict(errors),
        "smooth": asdict(smooth) if smooth else None,
        "interval_coverage": inside,
    }


def _intervals_json(intervals: Mapping[str, Interval | None]) -> dict[str, Any]:
    return {f"{name}_interval": asdict(one) if one else None for name, one in intervals.items()}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
