"""How long a training takes here, by a few steps of it, and the length that ends in time."""

from __future__ import annotations

import csv
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError
from dvos.networks.spec import NetworkSpec
from dvos.training import devices
from dvos.training.records import TrainResult
from dvos.training.run_folder import RunFolder

_LOGGER = logging.getLogger(__name__)

#: Steps that are timed, after as many that warm up.
_CPU_STEPS, _GPU_STEPS = 6, 40
#: Of the time left, what is used: the rest is for what goes slower than it was timed; and of that,
#: validation between epochs.
_USED, _VALIDATION = 0.9, 0.08
_MOST_CLIPS = 100_000

Train = Callable[[TrainingSettings, NetworkSpec], TrainResult]


class Rates(NamedTuple):
    """What a run takes here, seconds, and with which plan that was timed."""

    clip: float  # A training clip.
    validation: float  # Of the validation clips, once.
    start: float  # Starting and ending.
    batch: int
    crop: int
    device: str  # ``cpu`` or another.


def time_training(settings: TrainingSettings, spec: NetworkSpec, train: Train) -> Rates:
    """Train a few steps of a run into its folder, which is removed, and validate twice."""
    settled = devices.settle_plan(settings, spec)
    device = devices.build_fabric(settled.model_copy(update={"devices": 1})).device.type
    steps, processes = _GPU_STEPS, 0
    if device == "cpu":
        steps = _CPU_STEPS
        # As many as a long run gets, which a short one would not be worth.
        long = settled.model_copy(update={"clips_per_epoch": _MOST_CLIPS})
        processes = devices.cpu_processes(long, gains=spec.splits)
    count = steps * settled.batch
    trial: dict[str, Any] = {
        "epochs": 2,
        "clips_per_epoch": count,
        "devices": processes,
        "minutes": None,
    }
    trial |= {"pictures": 0, "keep_epochs": 0, "trackers": (), "resume": False}
    begun = time.monotonic()
    folder = RunFolder(train(settled.model_copy(update=trial), spec).run_folder)
    whole = time.monotonic() - begun
    spent = folder.read_metadata()["seconds"]
    with open(folder.records, encoding="utf-8", newline="") as stream:
        last = [float(row["seconds"]) for row in csv.DictReader(stream)][-1]
    shutil.rmtree(folder.path)
    validation = spent["validation"] / 2
    # The first epoch waited for the processes that make clips.
    clip = max(last - validation, spent["training"] / 8) / count
    start = max(0.0, whole - sum(spent.values()))
    return Rates(max(clip, 1e-4), validation, start, settled.batch, settled.data.crop, device)


def fit_length(settings: TrainingSettings, rates: Rates, seconds: float) -> TrainingSettings:
    """The settings with epochs, at most theirs, and clips that end in this time."""
    left = _USED * seconds - rates.start - rates.validation
    epochs = max(1, min(settings.epochs, int(_VALIDATION * left / max(rates.validation, 0.01))))
    clips = (left - epochs * rates.validation) / rates.clip
    steps = max(1, int(clips / epochs / rates.batch))
    length = {"epochs": epochs, "clips_per_epoch": steps * rates.batch}
    message = "%d epochs of %d clips, at %.1f clips a second, to end within %g minutes"
    _LOGGER.info(message, *length.values(), 1 / rates.clip, settings.minutes)
    if clips < epochs * rates.batch:
        _LOGGER.warning("%g minutes are too few for a single step here", settings.minutes)
    return settings.model_copy(update=length)


def settle_length(settings: TrainingSettings, spec: NetworkSpec, train: Train) -> TrainingSettings:
    """The settings with the length that ``minutes``, if given, are enough for, or a run had."""
    if settings.minutes is None:
        return settings
    begun, earlier = time.monotonic(), devices.earlier_settings(settings)
    if earlier is not None and earlier.minutes is not None:
        kept = {"epochs": earlier.epochs, "clips_per_epoch": earlier.clips_per_epoch}
        return settings.model_copy(update=kept)
    if devices.has_other_processes(settings):
        found = "is for one machine, and one GPU of it"
        raise ConfigError.at(
            "minutes", found, remedy="give epochs and clips_per_epoch in its place"
        )
    with TemporaryDirectory(prefix="dvos-timing-") as place:
        trial = settings.model_copy(update={"out": Path(place) / "run"})
        rates = time_training(trial, spec, train)
    return fit_length(settings, rates, 60 * settings.minutes - (time.monotonic() - begun))
