"""``dvos rounds``: predict, filter, train again, while validation does not fall."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import RoundsSettings
from dvos.config.show import check_run_settings
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, ConfigError, FaultCollector, UsageError
from dvos.files import file_digest, make_folder, refuse_foreign, write_bytes, write_json
from dvos.registry import check_network, features_of, network_spec, predictor_of, training_spec
from dvos.runner import read_record, taken
from dvos.selftraining import round_plans as plans
from dvos.selftraining.label import PseudoLabelResult, pseudo_label
from dvos.tables import write_rows

if TYPE_CHECKING:
    from dvos.training.records import TrainResult

_log = logging.getLogger(__name__)

_FORMAT = 1

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class RoundRecord:
    """One round; its fields are the columns of ``rounds.csv``."""

    round: int  # From 0, the one before any pseudo-label.
    judged: int = 0  # Unlabelled frames that were looked at.
    accepted: int = 0  # Of these, accepted as queries.
    # Of the accepted frames' pixels, those with a label; None where no frame was accepted.
    known_share: _Share | None = None
    object_share: _Share | None = None  # Likewise, object.
    # Pooled validation Dice of the network; None where none was trained.
    val_dice: _Share | None = None
    checkpoint: Path | None = None  # The network; None where none was trained.

    @classmethod
    def of_labels(cls, number: int, labels: Sequence[PseudoLabelResult]) -> RoundRecord:
        """A round with the pseudo-labels of all inputs together, and no network yet."""
        accepted = sum(one.accepted for one in labels)

        def mean(name: str) -> float | None:
            parts = [(getattr(one, name), one.accepted) for one in labels if one.accepted]
            return round(sum(s * n for s, n in parts) / accepted, 6) if accepted else None

        judged = sum(one.judged for one in labels)
        return cls(number, judged, accepted, mean("known_share"), mean("object_share"))

    def trained(self, result: TrainResult) -> RoundRecord:
        """The round with its network; where there was nothing to measure, it has no Dice."""
        dice = None if math.isnan(result.dice) else result.dice
        return replace(self, val_dice=dice, checkpoint=result.best)

    @property
    def dice(self) -> float:
        """``val_dice``, below all others where there is none."""
        return -1.0 if self.val_dice is None else self.val_dice


@dataclass(frozen=True)
class RoundsResult:
    """What ``dvos rounds`` made."""

    out: Path  # The output folder.
    best: Path  # The best network, ``best.safetensors``.
    best_round: int  # The round it is from; 0 is the one before any pseudo-label.
    records: tuple[RoundRecord, ...]  # All rounds.
    stopped: str  # Why there were no more.
    validation: plans.ValidationKind  # What the rounds were judged by.

    def __str__(self) -> str:
        lines = []
        for record in self.records:
            line = f"round {record.round}: "
            if record.round:
                line += f"{record.accepted} of {record.judged} frames accepted, "
            dice = record.val_dice
            unknown = "no training" if record.checkpoint is None else "not validated"
            line += unknown if dice is None else f"validation Dice {dice:.4f}"
            lines.append(line)
        lines.append(f"stopped: {self.stopped}; judged by {plans.JUDGED_BY[self.validation][0]}")
        lines.append(f"best: round {self.best_round} ({self.best})")
        return "\n".join(lines)


def rounds(settings: RoundsSettings) -> RoundsResult:
    """Predict unlabelled data, accept what is sure, train with it; several times.

    Round 0 trains on labelled data, or takes ``start``; further ones predict with the network
    before. They end when the validation Dice falls, or no frame is accepted. Started again it goes
    on. A UsageError if ``out`` holds rounds with other settings, an OutputError if anything else.
    """
    first = plans.build_first_training(settings)
    # Faults of later rounds' settings are told now, not after hours.
    later = plans.build_training(settings, 1, settings.out / "none", stills=[], clips=[])
    check_network(first.network)
    check_network(later.network)
    _check(settings, {first.network.name, later.network.name})
    kind = plans.validation_kind(first.data)
    if unfit := plans.JUDGED_BY[kind][1]:
        _log.warning(
            "the rounds are judged by %s; name labelled frames of such scenes as you want to "
            "segment under train.data.validation",
            unfit,
        )
    note = make_folder(settings.out) / "rounds.yaml"
    with taken(settings.out):
        if not note.exists():
            names = [f"round_{number}" for number in range(settings.rounds + 1)]
            names += ["rounds.json", "rounds.csv", "best.safetensors"]
            refuse_foreign([settings.out / name for name in names], "dvos rounds")
        check_run_settings(note, settings)
        done = _Rounds(settings, kind)
        done.begin(first)
        reasons = (done.go_on(number) for number in range(1, settings.rounds + 1))
        stopped = next(filter(None, reasons), "all rounds are done")
        done.write(stopped)
    best, records = done.best.round, tuple(done.records)
    return RoundsResult(settings.out, done.best_checkpoint, best, records, stopped, kind)


@dataclass(frozen=True)
class _Noted:
    rounds: list[RoundRecord]  # What counts of ``rounds.json``.


class _Rounds:
    """The rounds so far, in ``rounds.json``, ``rounds.csv`` and ``best.safetensors``.

    What an earlier start has written is not written again, so that files never tell less.
    """

    def __init__(self, settings: RoundsSettings, validation: plans.ValidationKind) -> None:
        self.settings = settings
        self.validation = validation
        self.records: list[RoundRecord] = []
        self.best_checkpoint = settings.out / "best.safetensors"
        self._json = settings.out / "rounds.json"
        # The rounds that an earlier start has written, as in the file.
        earlier = read_record(self._json, _Noted)
        self._earlier = [] if earlier is None else earlier.rounds

    @property
    def highest(self) -> float:
        """The highest validation Dice."""
        return max(record.dice for record in self.records)

    @property
    def best(self) -> RoundRecord:
        """The latest round whose Dice has not fallen: it seldom shows a gain on other data."""
        lowest = self.highest - self.settings.tolerance
        trained = (record for record in reversed(self.records) if record.checkpoint is not None)
        return next(record for record in trained if record.dice >= lowest)

    def add(self, record: RoundRecord) -> None:
        """Note a finished round."""
        self.records.append(record)
        if len(self.records) > len(self._earlier):
            self.write()

    def write(self, stopped: str | None = None) -> None:
        """Write the files, with why there are no more rounds, if there are none."""
        out, best = self.settings.out, self.best
        # The network before the files that name it.
        if best.checkpoint is not None and (
            not self.best_checkpoint.is_file()
            or file_digest(self.best_checkpoint) != file_digest(best.checkpoint)
        ):
            write_bytes(self.best_checkpoint, best.checkpoint.read_bytes())
        rows = [asdict(record) for record in self.records]
        write_rows(out / "rounds.csv", list(rows[0]), [list(row.values()) for row in rows])
        for row in rows:
            path = row["checkpoint"]
            if path is not None:
                inside = path.is_relative_to(out)
                row["checkpoint"] = (path.relative_to(out) if inside else path).as_posix()
        write_json(
            self._json,
            {
                "format": _FORMAT,
                "validation": self.validation,
                "start_from": self.settings.start_from,
                "rounds": rows,
                "best": {"round": best.round, "val_dice": best.val_dice},
                "stopped": stopped,
            },
        )

    def begin(self, training: TrainingSettings) -> None:
        """Train on labelled data, or measure the network to start from, once."""
        start, device = self.settings.start, self.settings.pseudo_label.device
        if start is None:
            from dvos.training.run import train

            self.add(RoundRecord(0).trained(train(training, training_spec(training.network))))
            return
        dice = self._earlier[0].val_dice if self._earlier else None
        if dice is None:
            # It also tells a network that cannot predict before anything is measured.
            predictor_of(start, PredictorOptions(device=device))
            judged = self.validation != "none"
            dice = plans.validation_dice(start, training, device=device) if judged else None
        self.add(RoundRecord(0, val_dice=dice, checkpoint=start))

    def go_on(self, number: int) -> str:
        """One round; gives the reason to stop, empty if there is none."""
        from dvos.training.run import train

        previous = self.records[-1].checkpoint
        assert previous is not None
        planned = plans.build_labelling(self.settings, number, previous)
        labels = [pseudo_label(plan) for plan in planned]
        record = RoundRecord.of_labels(number, labels)
        if not record.accepted:
            self.add(record)
            return f"no frame was accepted in round {number}"
        stills, clips = (
            [one.table for one in labels if one.stills == stills and one.accepted]
            for stills in (True, False)
        )
        plan = plans.build_training(self.settings, number, previous, stills=stills, clips=clips)
        result = train(plan, training_spec(plan.network))
        self.add(record.trained(result))
        fall = self.highest - self.records[-1].dice
        if fall > self.settings.tolerance:
            return f"the validation Dice fell by {fall:.4f} in round {number}"
        return ""


def _check(settings: RoundsSettings, networks: set[str]) -> None:
    """Refuse inputs that are not there, and a probe that a network could not give features to."""
    from dvos.prediction.features import offers_features

    with FaultCollector(UsageError) as faults:
        for one in settings.unlabelled:
            if not one.input.exists():
                faults.add(one.input, "no such file or folder", remedy="check unlabelled")
    start, probe = settings.start, settings.pseudo_label.probe
    if start is not None and not start.is_file():
        raise CheckpointError.at(start, "no such file", "a trained network", "check --start")
    if start is not None and probe:
        features_of(start, settings.pseudo_label.device)
    for name in sorted(networks):
        if probe and not offers_features(network_spec(name).network):
            raise ConfigError.at(
                "pseudo_label.probe",
                f"is true, and the network {name!r} offers no features to probe",
                "a network that does, as 'dvos'",
                "set pseudo_label.probe=false",
            )
