"""``dvos rounds``: predict, accept, train again, while validation does not fall."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.config.rounds import RoundsSettings
from dvos.config.show import check_run_settings
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, ConfigError, FaultCollector, UsageError
from dvos.files import make_folder
from dvos.prediction.features import load_features
from dvos.prediction.predictor import load_predictor
from dvos.registry import check_network, training_spec
from dvos.selftraining.judging import (
    ValidationKind,
    validation_dice,
    validation_kind,
    warn_if_unfit,
)
from dvos.selftraining.label import PseudoLabelResult, pseudo_label
from dvos.selftraining.plans import build_first_training, build_labelling, build_training
from dvos.selftraining.records import RoundBook, RoundRecord

__all__ = ["RoundsResult", "rounds"]


@dataclass(frozen=True)
class RoundsResult:
    """What ``dvos rounds`` made.

    Attributes:
        out: The output folder.
        best: The best network, ``best.safetensors``.
        best_round: The round it is from; 0 is the one before any pseudo-label.
        records: All rounds.
        stopped: Why there were no more.
        validation: What the rounds were judged by.
    """

    out: Path
    best: Path
    best_round: int
    records: tuple[RoundRecord, ...]
    stopped: str
    validation: ValidationKind

    def __str__(self) -> str:
        lines = []
        for record in self.records:
            line = f"round {record.round}: "
            if record.round:
                line += f"{record.accepted} of {record.judged} frames accepted, "
            dice = record.val_dice
            line += "no training" if dice is None else f"validation Dice {dice:.4f}"
            lines.append(line)
        lines.append(f"stopped: {self.stopped}; judged by {_JUDGED_BY[self.validation]}")
        lines.append(f"best: round {self.best_round} ({self.best})")
        return "\n".join(lines)


_JUDGED_BY = {
    "named": "the validation data named",
    "held back": "labelled data held back from training",
    "training data": "the training data themselves, which says little",
    "synthetic": "synthetic clips, which says little of real frames",
}


def rounds(settings: RoundsSettings) -> RoundsResult:
    """Predict unlabelled data, accept what is sure, train with it; several times.

    Round 0 trains on labelled data, or takes ``start``. Every further round
    predicts with the network before it. The rounds end early when the
    validation Dice falls, or when no frame is accepted. Started again it goes
    on where it stopped.

    Raises:
        UsageError: If ``out`` holds rounds with other settings.
        ConfigError: If ``train`` or ``retrain`` are at fault.
        DvosError: Whatever a stage finds wrong.
    """
    first = build_first_training(settings)
    # Faults of later rounds' settings are told now, not after hours.
    later = build_training(settings, 1, settings.out / "none", stills=[], clips=[])
    check_network(first.network)
    check_network(later.network)
    _check_inputs(settings)
    _check_opinion(settings, {first.network.name, later.network.name})
    kind = validation_kind(first.data)
    warn_if_unfit(kind)
    make_folder(settings.out)
    check_run_settings(settings.out / "rounds.yaml", settings)
    facts = {"validation": kind, "start_from": settings.start_from}
    book = RoundBook(settings.out, facts, tolerance=settings.tolerance)
    book.add(_first_round(settings, first, book.earlier))
    for number in range(1, settings.rounds + 1):
        reason = _round(settings, number, book)
        if reason:
            break
    else:
        reason = "all rounds are done"
    book.stop(reason)
    return RoundsResult(
        out=settings.out,
        best=book.best_checkpoint,
        best_round=book.best.round,
        records=tuple(book.records),
        stopped=book.stopped,
        validation=kind,
    )


def _check_inputs(settings: RoundsSettings) -> None:
    with FaultCollector(UsageError) as faults:
        for one in settings.unlabelled:
            if not one.input.exists():
                faults.add(one.input, "no such file or folder", remedy="check unlabelled")
    if settings.start is not None and not settings.start.is_file():
        raise CheckpointError.at(
            settings.start, "no such file", "a trained network", "check --start"
        )


def _check_opinion(settings: RoundsSettings, networks: set[str]) -> None:
    """Refuse a second opinion that a network to come could not give."""
    from dvos.prediction.build import offers_features

    if not settings.pseudo_label.opinion:
        return
    if settings.start is not None:
        load_features(settings.start, settings.pseudo_label.device)
    with FaultCollector(ConfigError) as faults:
        for name in sorted(networks):
            if not offers_features(name):
                faults.add(
                    "pseudo_label.opinion",
                    f"is true, and the network {name!r} offers no features to judge by",
                    "a network that does, as 'dvos'",
                    "set pseudo_label.opinion=false",
                )


def _first_round(
    settings: RoundsSettings, training: TrainingSettings, earlier: list[dict[str, Any]]
) -> RoundRecord:
    """Train on labelled data, or measure the network to start from, once."""
    if settings.start is None:
        from dvos.training.run import train

        result = train(training, training_spec(training.network))
        return RoundRecord.of_labels(0, [], val_dice=result.dice, checkpoint=result.best)
    if earlier:
        dice = earlier[0]["val_dice"]
    else:
        # It also tells a network that cannot predict before anything is measured.
        load_predictor(settings.start, settings.pseudo_label.device)
        device = settings.pseudo_label.device
        dice = validation_dice(settings.start, training, device=device)
    return RoundRecord.of_labels(0, [], val_dice=dice, checkpoint=settings.start)


def _round(settings: RoundsSettings, number: int, book: RoundBook) -> str:
    """One round; gives the reason to stop, empty if there is none."""
    from dvos.training.run import train

    previous = book.records[-1].checkpoint
    assert previous is not None
    labels = [pseudo_label(plan) for plan in build_labelling(settings, number, previous)]
    if not any(one.accepted for one in labels):
        book.add(RoundRecord.of_labels(number, labels))
        return f"no frame was accepted in round {number}"
    plan = build_training(
        settings,
        number,
        previous,
        stills=_tables(labels, stills=True),
        clips=_tables(labels, stills=False),
    )
    result = train(plan, training_spec(plan.network))
    book.add(RoundRecord.of_labels(number, labels, val_dice=result.dice, checkpoint=result.best))
    if book.fall() > settings.tolerance:
        return f"the validation Dice fell by {book.fall():.4f} in round {number}"
    return ""


def _tables(labels: list[PseudoLabelResult], *, stills: bool) -> list[Path]:
    return [one.table for one in labels if one.stills == stills and one.accepted]
