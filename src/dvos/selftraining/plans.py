"""The settings of each round's stages, made from those of the rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvos.config.base import merged
from dvos.config.data import DataSettings
from dvos.config.load import load_settings
from dvos.config.pseudo import PseudoLabelOptions, PseudoLabelSettings
from dvos.config.rounds import RoundsSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, Fault

__all__ = ["build_first_training", "build_labelling", "build_training", "pseudo_weight"]

#: Settings of a training that the rounds choose.
_OURS = ("out", "resume")


def build_first_training(settings: RoundsSettings) -> TrainingSettings:
    """Of round 0, on labelled data alone.

    Raises:
        ConfigError: If ``train`` holds what ``dvos train`` does not take.
    """
    _check_keys(settings)
    values = merged(settings.train, {"out": settings.out / "round_0" / "train", "resume": True})
    return _checked(values, "train")


def build_labelling(
    settings: RoundsSettings, number: int, checkpoint: Path
) -> list[PseudoLabelSettings]:
    """Of round ``number``, one for each unlabelled input, by the network ``checkpoint``."""
    options = {
        name: getattr(settings.pseudo_label, name) for name in PseudoLabelOptions.model_fields
    }
    folder = settings.out / f"round_{number}" / "pseudo"
    return [
        PseudoLabelSettings(
            **options,
            input=unlabelled.input,
            stills=unlabelled.stills,
            checkpoint=checkpoint,
            out=folder / f"{place:02d}_{unlabelled.input.stem}",
            round=number,
        )
        for place, unlabelled in enumerate(settings.unlabelled)
    ]


def build_training(
    settings: RoundsSettings,
    number: int,
    previous: Path,
    *,
    stills: Sequence[Path],
    clips: Sequence[Path],
) -> TrainingSettings:
    """Of round ``number`` from 1, with the pseudo-labels of that round mixed in.

    Args:
        settings: Of the rounds.
        number: The round.
        previous: Network of the round before.
        stills: Tables of pseudo-labelled photos.
        clips: Tables of pseudo-labelled clips.

    Raises:
        ConfigError: If ``train`` or ``retrain`` hold what ``dvos train`` does not take.
    """
    _check_keys(settings)
    values = merged(merged(settings.train, {"out": settings.out}), settings.retrain)
    base = _checked(values, "retrain")
    given = base.data.pseudo
    ours: dict[str, Any] = {
        "out": settings.out / f"round_{number}" / "train",
        "resume": True,
        # Each round sees other clips; a change of the seed is as good as any.
        "seed": base.seed + number,
        "data": {
            "pseudo": {
                "stills": [*given.stills, *stills],
                "clips": [*given.clips, *clips],
            },
            "shares": {"pseudo": pseudo_weight(base.data, settings.pseudo_share)},
        },
    }
    if settings.start_from == "previous":
        network = values.get("network", {})
        # A plain name stands for a network of that name.
        values["network"] = {"name": network} if isinstance(network, str) else network
        ours["network"] = {"weights": previous}
    return _checked(merged(values, ours), "retrain")


def pseudo_weight(data: DataSettings, share: float) -> float:
    """The weight of pseudo-labels beside the other sources, that makes ``share`` of all clips.

    Args:
        data: Training data; only what they hold besides pseudo-labels counts.
        share: Above 0, below 1.
    """
    there = {
        "stills": bool(data.stills.tables or data.stills.folders),
        "synthetic": bool(data.synthetic.backgrounds),
        "clips": bool(data.clips.tables or data.clips.folders),
        "empty": bool(data.empty.tables or data.empty.folders),
    }
    others = 0.0
    for name, is_there in there.items():
        weight = getattr(data.shares, name)
        others += float(is_there) if weight == "auto" else weight
    return others * share / (1 - share) if others else 1.0


def _check_keys(settings: RoundsSettings) -> None:
    faults = [
        Fault(f"{part}.{key}", "is chosen by the rounds", "", "leave it out")
        for part in ("train", "retrain")
        for key in _OURS
        if key in getattr(settings, part)
    ]
    if faults:
        raise ConfigError(faults)


def _checked(values: dict[str, Any], part: str) -> TrainingSettings:
    try:
        return load_settings(TrainingSettings, options=values)
    except ConfigError as error:
        raise ConfigError(_told_for(part, error.faults)) from error


def _told_for(part: str, faults: Iterable[Fault]) -> list[Fault]:
    """Faults of training settings under the key that holds them here."""
    told = []
    for fault in faults:
        _, has_key, key = fault.where.rpartition(": ")
        told.append(replace(fault, where=f"{part}.{key}" if has_key else part))
    return told
