"""What each round does and is judged by: settings of its stages, and its validation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from dvos.config.base import merged
from dvos.config.data import DataSettings
from dvos.config.load import load_settings
from dvos.config.selftraining import PseudoLabelSettings, RoundsSettings
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, Fault
from dvos.files import stem_of

#: What the rounds are judged by: named real data; stills or clips held back
#: from training; the training data themselves; synthetic clips only; nothing, as nothing is
#: labelled.
ValidationKind = Literal["named", "held back", "training data", "synthetic", "none"]

#: What that is in words, and what it does not show.
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


def build_first_training(settings: RoundsSettings) -> TrainingSettings:
    """Settings of round 0, on labelled data alone; what the rounds choose may not be given."""
    faults = [
        Fault(f"{part}.{key}", "is chosen by the rounds", "", "leave it out")
        for part in ("train", "retrain")
        for key in ("out", "resume")
        if key in getattr(settings, part)
    ]
    if faults:
        raise ConfigError(faults)
    out = settings.out / "round_0" / "train"
    values = merged(settings.train, {"out": out, "resume": True})
    return _training_settings(settings, values, "train")


def _training_settings(
    settings: RoundsSettings, values: dict[str, Any], part: str
) -> TrainingSettings:
    """A training with the intensity of the rounds; faults are told under the key of this part."""
    if settings.intensity != "auto":
        values = merged({"data": {"intensity": settings.intensity}}, values)
    try:
        return load_settings(TrainingSettings, options=values)
    except ConfigError as error:
        places = [fault.where.rpartition(": ")[1:] for fault in error.faults]
        named = [f"{part}.{key}" if has_key else part for has_key, key in places]
        faults = zip(error.faults, named, strict=True)
        raise ConfigError(replace(fault, where=where) for fault, where in faults) from error


def build_labelling(
    settings: RoundsSettings, number: int, checkpoint: Path
) -> list[PseudoLabelSettings]:
    """Settings of round ``number``'s labelling by ``checkpoint``, one for each unlabelled input."""
    folder = settings.out / f"round_{number}" / "pseudo"
    options = dict(settings.pseudo_label)
    if options["intensity"] == "auto":
        options["intensity"] = settings.intensity
    return [
        PseudoLabelSettings(
            **options,
            input=unlabelled.input,
            stills=unlabelled.stills,
            checkpoint=checkpoint,
            out=folder / f"{place:02d}_{stem_of(unlabelled.input)}",
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
    there = {
        "stills": bool(data.stills.tables or data.stills.folders),
        "synthetic": bool(data.synthetic.backgrounds),
        "clips": bool(data.clips.tables or data.clips.folders),
        "empty": bool(data.empty.tables or data.empty.folders),
    }
    weights = {name: getattr(data.shares, name) for name in there}
    others = sum(float(there[n]) if weight == "auto" else weight for n, weight in weights.items())
    return others * share / (1 - share) if others else 1.0


def validation_kind(data: DataSettings) -> ValidationKind:
    """What the validation of a training measures on; faults of its data are raised."""
    from dvos.training.labels import find_labels

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
    """Pooled Dice of a trained network on the validation clips of a training, as it measures it."""
    from dvos.networks.spec import Normalisation
    from dvos.prediction.network import choose_device
    from dvos.registry import load_network
    from dvos.runner import waiting
    from dvos.training.data import build_validation_clips
    from dvos.training.objective import build_query_objective
    from dvos.training.targets import QueryTarget

    place = choose_device(device)
    network, info = load_network(checkpoint, device=str(place))
    target = QueryTarget(training, references=cast("int", network.references))
    normalisation = Normalisation(**info.extra["normalisation"])
    clips = build_validation_clips(training, target, normalisation)
    measure, every = build_query_objective(training, normalisation).measure, range(len(clips))
    with waiting("validates the network"):
        return measure(network, clips, every, device=place, add=lambda total: total).dice
