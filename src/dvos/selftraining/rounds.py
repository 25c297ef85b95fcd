"""``dvos rounds``: predict, filter, train again, while validation does not fall."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

from dvos.config.base import Fraction, merged
from dvos.config.data import DataSettings
from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import PseudoLabelSettings, RoundsSettings
from dvos.config.show import check_run_settings
from dvos.config.training import TrainingSettings, chosen_faults, load_training
from dvos.errors import ConfigError
from dvos.files import (
    check_given,
    file_digest,
    make_folder,
    refuse_foreign,
    stem_of,
    write_bytes,
    write_json,
)
from dvos.prediction.features import offers_features
from dvos.registry import check_network, features_of, network_spec, predictor_of, training_spec
from dvos.runner.display import waiting
from dvos.runner.manifest import read_record
from dvos.runner.shards import taken
from dvos.selftraining.label import PseudoLabelResult, pseudo_label
from dvos.tables import write_rows
from dvos.training.labels import find_labels, settle_intensity, source_kinds, take_labels

_log = logging.getLogger(__name__)

#: What the rounds are judged by; in words, and what that does not show.
ValidationKind = Literal["named", "held back", "training data", "synthetic", "none"]
JUDGED_BY: dict[ValidationKind, tuple[str, str]] = {
    "named": ("the validation data named", ""),
    "held back": ("labelled data held back from training", ""),
    "training data": (
        "the training data themselves, which says little",
        "the labelled stills and clips that are trained on: a network that forgets "
        "other fields, or learns its own mistakes, is not found out",
    ),
    "synthetic": (
        "synthetic clips, which says little of real frames",
        "synthetic clips: what a round does to real frames does not show",
    ),
    "none": (
        "nothing, as nothing is labelled by hand",
        "nothing: whether the network gains or loses does not show",
    ),
}


@dataclass(frozen=True)
class RoundRecord:
    """One round; its fields are the columns of ``rounds.csv``."""

    round: int  # From 0, the one before any pseudo-label.
    judged: int = 0  # Unlabelled frames that were looked at.
    accepted: int = 0  # Of these, accepted as queries.
    # Of the accepted frames' pixels, those with a label; None where no frame was accepted.
    known_share: Fraction | None = None
    object_share: Fraction | None = None  # Likewise, object.
    val_dice: Fraction | None = None  # Pooled, on validation; None where no network was trained.
    checkpoint: Path | None = None  # The network; None where none was trained.

    @classmethod
    def of_labels(cls, number: int, labels: Sequence[PseudoLabelResult]) -> Self:
        """A round with the pseudo-labels of all inputs together, and no network yet."""
        accepted = sum(one.accepted for one in labels)

        def mean(name: str) -> float | None:
            parts = [(getattr(one, name), one.accepted) for one in labels if one.accepted]
            return round(sum(s * n for s, n in parts) / accepted, 6) if accepted else None

        judged = sum(one.judged for one in labels)
        return cls(number, judged, accepted, mean("known_share"), mean("object_share"))

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
    validation: ValidationKind  # What the rounds were judged by.

    def __str__(self) -> str:
        lines = []
        for record in self.records:
            line = f"round {record.round}: "
            if record.round:
                line += f"{record.accepted} of {record.judged} frames accepted, "
            dice = record.val_dice
            unknown = "no training" if record.checkpoint is None else "not validated"
            lines.append(line + (unknown if dice is None else f"validation Dice {dice:.4f}"))
        lines.append(f"stopped: {self.stopped}; judged by {JUDGED_BY[self.validation][0]}")
        lines.append(f"best: round {self.best_round} ({self.best})")
        return "\n".join(lines)


def rounds(settings: RoundsSettings) -> RoundsResult:
    """Predict unlabelled data, accept what is sure, train with it; several times.

    Round 0 trains on labelled data, or takes ``start``; further ones predict with the network
    before. They end when the validation Dice falls, or no frame is accepted. Started again it goes
    on. A UsageError if ``out`` holds rounds with other settings, an OutputError if anything else.
    """
    first = build_first_training(settings)
    # Faults of later rounds' settings are told now, not after hours.
    later = build_training(settings, 1, settings.out / "none", stills=[], clips=[])
    check_network(first.network)
    check_network(later.network)
    _check(settings, {first.network.name, later.network.name})
    # Faults of the data are told before anything is written; what others labelled is written first.
    kind = None if first.data.sources else validation_kind(first.data)
    note = make_folder(settings.out) / "rounds.yaml"
    with taken(settings.out):
        if not note.exists():
            names = [f"round_{number}" for number in range(settings.rounds + 1)]
            names += ["rounds.json", "rounds.csv", "best.safetensors"]
            refuse_foreign([settings.out / name for name in names], "dvos rounds")
        check_run_settings(note, settings)
        data = take_labels(first.data, settings.out / "sources")
        kind = kind or validation_kind(data)
        if unfit := JUDGED_BY[kind][1]:
            remedy = "name labelled frames of such scenes as you want to segment"
            told = "the rounds are judged by %s; %s under train.data.validation"
            _log.warning(told, unfit, remedy)
        done = _Rounds(settings, kind)
        done.begin(first, data)
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

    def __init__(self, settings: RoundsSettings, validation: ValidationKind) -> None:
        self.settings, self.validation = settings, validation
        self.records: list[RoundRecord] = []
        self.best_checkpoint = settings.out / "best.safetensors"
        self._json = settings.out / "rounds.json"
        # The rounds that an earlier start has written, as in the file.
        earlier = read_record(self._json, _Noted)
        self._earlier = [] if earlier is None else earlier.rounds

    @property
    def best(self) -> RoundRecord:
        """The latest round whose Dice has not fallen: it seldom shows a gain on other data."""
        lowest = max(record.dice for record in self.records) - self.settings.tolerance
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
            if path := row["checkpoint"]:
                inside = path.is_relative_to(out)
                row["checkpoint"] = (path.relative_to(out) if inside else path).as_posix()
        facts: dict[str, Any] = {"format": 1, "validation": self.validation}
        facts |= {"start_from": self.settings.start_from, "rounds": rows}
        last = {"best": {"round": best.round, "val_dice": best.val_dice}, "stopped": stopped}
        write_json(self._json, facts | last)

    def begin(self, training: TrainingSettings, data: DataSettings) -> None:
        """Train on labelled data, or measure the network to start from on ``data``, once."""
        start, device = self.settings.start, self.settings.pseudo_label.device
        if start is None:
            self._train(RoundRecord(0), training)
            return
        dice = self._earlier[0].val_dice if self._earlier else None
        if dice is None:
            # It also tells a network that cannot predict before anything is measured.
            predictor_of(start, PredictorOptions(device=device))
            judged = self.validation != "none"
            measured = training.model_copy(update={"data": data})
            dice = validation_dice(start, measured, device=device) if judged else None
        self.add(RoundRecord(0, val_dice=dice, checkpoint=start))

    def go_on(self, number: int) -> str:
        """One round; gives the reason to stop, empty if there is none."""
        previous = self.records[-1].checkpoint
        assert previous is not None
        labels = [pseudo_label(one) for one in build_labelling(self.settings, number, previous)]
        record = RoundRecord.of_labels(number, labels)
        if not record.accepted:
            self.add(record)
            return f"no frame was accepted in round {number}"
        accepted = [one for one in labels if one.accepted]
        stills = [one.table for one in accepted if one.stills]
        clips = [one.table for one in accepted if not one.stills]
        plan = build_training(self.settings, number, previous, stills=stills, clips=clips)
        self._train(record, plan)
        fall = max(one.dice for one in self.records) - self.records[-1].dice
        if fall > self.settings.tolerance:
            return f"the validation Dice fell by {fall:.4f} in round {number}"
        return ""

    def _train(self, record: RoundRecord, plan: TrainingSettings) -> None:
        """Train, and note the round with its network; nothing to measure gives no Dice."""
        from dvos.training.run import train_for

        made = train_for(plan, training_spec(plan.network))
        dice = None if math.isnan(made.dice) else made.dice
        self.add(replace(record, val_dice=dice, checkpoint=made.best))


def _check(settings: RoundsSettings, networks: set[str]) -> None:
    """Refuse inputs that are not there, and a probe that a network could not give features to."""
    start, probe = settings.start, settings.pseudo_label.probe
    unlabelled = [("unlabelled", one.input) for one in settings.unlabelled]
    check_given(unlabelled, [("--start", start)])
    if start is not None and probe:
        features_of(start, settings.pseudo_label.device)
    for name in sorted(networks):
        if probe and not offers_features(network_spec(name).network):
            found = f"is true, and the network {name!r} offers no features to probe"
            expected, remedy = "a network that does, as 'dvos'", "set pseudo_label.probe=false"
            raise ConfigError.at("pseudo_label.probe", found, expected, remedy)


def build_first_training(settings: RoundsSettings) -> TrainingSettings:
    """Settings of round 0, on labelled data alone; what the rounds choose may not be given."""
    faults = chosen_faults("train", settings.train, "the rounds")
    if faults := [*faults, *chosen_faults("retrain", settings.retrain, "the rounds")]:
        raise ConfigError(faults)
    values = merged(settings.train, {"out": settings.out / "round_0" / "train", "resume": True})
    return _training_settings(settings, values, "train")


def _training_settings(
    settings: RoundsSettings, values: dict[str, Any], part: str
) -> TrainingSettings:
    """A training with the intensity of the rounds; faults are told under the key of this part."""
    if settings.intensity != "auto":
        values = merged({"data": {"intensity": settings.intensity}}, values)
    return load_training(values, part)


def build_labelling(
    settings: RoundsSettings, number: int, checkpoint: Path
) -> list[PseudoLabelSettings]:
    """Settings of round ``number``'s labelling by ``checkpoint``, one for each unlabelled input."""
    folder = settings.out / f"round_{number}" / "pseudo"
    options = {**dict(settings.pseudo_label), "checkpoint": checkpoint, "round": number}
    if options["intensity"] == "auto":
        options["intensity"] = settings.intensity
    outs = (f"{n:02d}_{stem_of(one.input)}" for n, one in enumerate(settings.unlabelled))
    return [
        PseudoLabelSettings(**options, **dict(one), out=folder / out)
        for one, out in zip(settings.unlabelled, outs, strict=True)
    ]


def build_training(
    settings: RoundsSettings,
    number: int,
    previous: Path,
    *,
    stills: Sequence[Path],
    clips: Sequence[Path],
) -> TrainingSettings:
    """Settings of round ``number``'s training, from 1, with its pseudo-labels mixed in."""
    values = merged(merged(settings.train, {"out": settings.out}), settings.retrain)
    base = _training_settings(settings, values, "retrain")
    given = base.data.pseudo
    chosen: dict[str, Any] = {
        "out": settings.out / f"round_{number}" / "train",
        "resume": True,
        # Each round sees other clips; a change of the seed is as good as any.
        "seed": base.seed + number,
        "data": {
            "pseudo": {"stills": [*given.stills, *stills], "clips": [*given.clips, *clips]},
            "shares": {"pseudo": pseudo_weight(base.data, settings.pseudo_share)},
        },
    }
    if settings.start_from == "previous":
        network = values.get("network", {})
        # A plain name stands for a network of that name.
        values["network"] = {"name": network} if isinstance(network, str) else network
        chosen["network"] = {"weights": previous}
    return _training_settings(settings, merged(values, chosen), "retrain")


def pseudo_weight(data: DataSettings, share: float) -> float:
    """The weight of pseudo-labels beside other sources that makes ``share`` (0..1) of all clips."""
    photos, videos = source_kinds(data)
    there = {
        "stills": photos or bool(data.stills.tables or data.stills.folders),
        "synthetic": bool(data.synthetic.backgrounds),
        "clips": videos or bool(data.clips.tables or data.clips.folders),
        "empty": bool(data.empty.tables or data.empty.folders),
    }
    weights = {name: getattr(data.shares, name) for name in there}
    others = sum(float(there[n]) if weight == "auto" else weight for n, weight in weights.items())
    return others * share / (1 - share) if others else 1.0


def validation_kind(data: DataSettings) -> ValidationKind:
    """What the validation of a training measures on; faults of its data are raised."""
    chosen = data.validation
    of_stills = chosen.stills.tables or chosen.stills.folders
    if of_stills or chosen.clips.tables or chosen.clips.folders or chosen.videos:
        return "named"
    if chosen.synthetic:
        return "synthetic"
    labels = find_labels(data)
    if labels.held_stills or labels.held_clips:
        return "held back"
    if labels.stills or labels.clips:
        return "training data"
    return "synthetic" if data.synthetic.backgrounds else "none"


def validation_dice(checkpoint: Path, training: TrainingSettings, *, device: str) -> float:
    """Pooled Dice of a trained network on the validation clips of a training, as it measures it.

    It sees them as it saw what it has learnt from: at its scale, with its intensity.
    """
    from dvos.networks.spec import Normalisation
    from dvos.prediction.network import choose_device
    from dvos.registry import load_network
    from dvos.training.data import build_validation_clips
    from dvos.training.networks import intensity_of, scale_of
    from dvos.training.objective import build_query_objective
    from dvos.training.targets import QueryTarget

    place = choose_device(device)
    network, info = load_network(checkpoint, device=str(place))
    data, _ = settle_intensity(training.data, intensity_of(checkpoint))
    data = data.model_copy(update={"scale": scale_of(checkpoint) or 1.0})
    training = training.model_copy(update={"data": data})
    target = QueryTarget(training, references=cast("int", network.references))
    normalisation = Normalisation(**info.extra["normalisation"])
    clips = build_validation_clips(training, target, normalisation)
    measure, every = build_query_objective(training, normalisation).measure, range(len(clips))
    with waiting("validates the network"):
        return measure(network, clips, every, device=place, add=lambda total: total).dice
