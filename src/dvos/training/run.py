"""``dvos train``: from settings to a finished run folder; and how long that takes here."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from dvos.config.data import DataSettings
from dvos.config.network import section_of
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, ConfigError, RunError
from dvos.files import make_folder, write_json
from dvos.networks.spec import NetworkSpec
from dvos.runner.display import waiting
from dvos.tables.cells import table_values
from dvos.training import data as clip_data
from dvos.training import devices, networks
from dvos.training.datasets import TrainingClips
from dvos.training.fingerprints import KnownFiles, content_digests, data_digests, files_of
from dvos.training.labels import settle_intensity, take_labels
from dvos.training.launch import Launcher, Rank
from dvos.training.loop import RunClips, Training
from dvos.training.records import TrainResult, hardware, now, versions
from dvos.training.run_folder import RESUME_OFF, RunFolder, read_state
from dvos.training.trackers import check_trackers, open_trackers

_LOGGER = logging.getLogger(__name__)

#: Steps that are timed, after as many that warm up.
_CPU_STEPS, _GPU_STEPS = 6, 40
#: Of the time left, what is used, as work may go slower than timed; of that, validation's share.
_USED, _VALIDATION = 0.9, 0.08
_MOST_CLIPS = 100_000


def train(settings: TrainingSettings, spec: NetworkSpec) -> TrainResult:
    """Train the network of this spec, or go on with a run that was stopped.

    A finished run of the same settings and data is left as it is, or goes on for more epochs, or
    with more patience. A DvosError has a fault for each thing wrong, a RunError a loss that is no
    number, or full memory.
    """
    check_trackers(settings.trackers)
    settings = settle_length(devices.settle_plan(settle_scale(settings), spec), spec)
    folder = RunFolder(make_folder(settings.out))
    inputs = Inputs.of(settings)
    state = None
    if not settings.resume:
        folder.check_own()
    elif (state := folder.earlier(settings, *inputs)) is None and folder.finished():
        folder.check_best()
        _LOGGER.info("%s is finished already", folder.path)
        return folder.result(already_finished=True)
    before = folder.read_metadata().get("hardware") if state is not None else None
    # Each process has batch statistics of its own share, where they are learnt.
    gains = spec.splits and networks.arguments_of(spec, settings).get("frozen_statistics", True)
    count = devices.cpu_processes(settings, gains=gains, hardware=before)
    if count == 1:
        return _train(settings, spec, state, inputs)
    with Launcher(take_part, (settings, spec, state is not None), count=count) as rank:
        return _train(settings, spec, state, inputs, rank)


def train_for(settings: TrainingSettings, spec: NetworkSpec) -> TrainResult:
    """As :func:`train`, for another command, which begins a training anew without its folder."""
    try:
        return train(settings, spec)
    except (RunError, ConfigError, CheckpointError) as error:
        anew = f"delete {settings.out} to start over"
        told = [(fault, fault.remedy.replace(RESUME_OFF, anew)) for fault in error.faults]
        raise type(error)(replace(fault, remedy=remedy) for fault, remedy in told) from error


class Inputs(NamedTuple):
    """Fingerprints of what a run learns from: of settings' files and folders, and of each file."""

    digests: dict[str, str]
    files: dict[str, str]

    @classmethod
    def of(cls, settings: TrainingSettings) -> Inputs:
        """Those of now."""
        parts = (settings.data, settings.network, settings.losses)
        with waiting("compares the data with those of an earlier start"):
            return cls(data_digests(*parts), content_digests(files_of(parts)))


def take_part(settings: TrainingSettings, spec: NetworkSpec, goes_on: bool, rank: Rank) -> None:
    """Train as a further process of a run that another one started and writes."""
    state = read_state(RunFolder(settings.out).state) if goes_on else None
    _train(settings, spec, state, Inputs({}, {}), rank)


def _train(
    settings: TrainingSettings,
    spec: NetworkSpec,
    state: dict[str, Any] | None,
    inputs: Inputs,
    rank: Rank | None = None,
) -> TrainResult:
    threads = torch.get_num_threads()
    strictness = torch.get_deterministic_debug_mode()
    try:
        fabric = devices.build_fabric(settings, rank)
        # A run that 0.1.0 began divided by 257, whatever the samples.
        kept = RunFolder(settings.out).read_metadata().get("intensity", "full") if state else None
        with waiting("reads the data and builds the network"):
            run = build_training(settings, spec, fabric, rank, kept=kept)
        # Every process has looked for an earlier state before the first clears it.
        fabric.barrier()
        with run.folder.taken() if fabric.is_global_zero else nullcontext():
            if state is not None:
                run.restore(state)
            if fabric.is_global_zero:
                _begin(run, inputs, anew=state is None)
            return run.run()
    finally:
        torch.set_num_threads(threads)
        if torch.get_deterministic_debug_mode() != strictness:
            torch.set_deterministic_debug_mode(strictness)


def _begin(run: Training, inputs: Inputs, *, anew: bool) -> None:
    """Write what is known of a run before its first step, and open its trackers."""
    settings, folder, fabric = run.settings, run.folder, run.fabric
    (folder.begin if anew else folder.extend)(settings)
    parameters = sum(parameter.numel() for parameter in run.network.parameters())
    metadata = {"started": now(), **folder.read_metadata(), "seed": settings.seed}
    metadata |= {
        "versions": versions(),
        "hardware": hardware(fabric.device, devices=fabric.world_size),
        "network": {"name": run.trained.spec.name, "parameters": parameters},
        "data": inputs.digests,
        "intensity": run.trained.extra.get("intensity"),
    }
    if settings.minutes is not None:
        planned = ("minutes", "epochs", "clips_per_epoch")
        metadata["plan"] = {name: getattr(settings, name) for name in planned}
    write_json(folder.metadata, metadata)
    write_json(folder.data, asdict(KnownFiles(str(folder.path.absolute()), inputs.files)))
    run.trackers = open_trackers(settings, folder, epochs=len(run.progress.records))


def build_training(
    settings: TrainingSettings,
    spec: NetworkSpec,
    fabric: Any,
    rank: Rank | None = None,
    *,
    kept: str | None = None,
) -> Training:
    """Data, network and all else of a run that has not begun; a DvosError tells what is wrong.

    A rank among those of one machine's CPU is connected here; ``kept`` is the intensity of an
    earlier run that this one goes on with.
    """
    data = take_labels(settings.data, settings.out / "sources")
    settings = settle_objects(settings, data)
    target, norm = spec.target(settings), networks.normalisation_of(spec, settings.network)
    kept = kept or networks.intensity_of(settings.network.weights)
    data, intensity = settle_intensity(data, kept)
    settled = settings.model_copy(update={"data": data})
    training = clip_data.build_training_clips(settled, target, norm)
    validation = clip_data.build_validation_clips(settled, target, norm)
    objective = spec.objective(settings, norm)
    trained = networks.build_trained_network(spec, settings)
    objects = clip_data.build_object_sizes(data, seed=settings.seed)
    learnt: dict[str, Any] = {"objects": objects, "intensity": intensity}
    learnt["scale"] = None if data.scale == 1 else data.scale
    learnt["reference_interval"] = clip_data.reference_interval(data, trained.module)
    scene = data.synthetic.scene.preset
    told = networks.scene_of(settings.network.weights) if scene == "generic" else scene
    learnt["scene"] = told
    extra = {name: value for name, value in learnt.items() if value is not None}
    trained = replace(trained, extra=extra)
    if rank is not None:
        # Only now: while the other processes still start, faults are told at once.
        rank.connect(fabric)
    clips = RunClips(training, validation, judged=partial(clip_data.judged_clips, data))
    if not spec.starts_from_masks:
        # One that is given a mask goes on as that lies.
        labelled = partial(clip_data.build_labelled_clips, settled, target, norm)
        clips = clips._replace(labelled=labelled)
    return Training(settings, trained, objective, clips, RunFolder(settings.out), fabric)


def settle_scale(settings: TrainingSettings) -> TrainingSettings:
    """Settings with the scale of the network that is started from, where ``data.scale`` is open.

    A run that goes on keeps its own: earlier versions took 1.
    """
    data = settings.data
    if "scale" in data.model_fields_set:
        return settings
    earlier = devices.earlier_settings(settings)
    start = networks.scale_of(settings.network.weights) if earlier is None else earlier.data.scale
    if start is None or start == data.scale:
        return settings
    _LOGGER.warning("pictures are shown at %g of their size (data.scale), as of the start", start)
    return settings.model_copy(update={"data": data.model_copy(update={"scale": start})})


def settle_objects(settings: TrainingSettings, data: DataSettings) -> TrainingSettings:
    """Settings that say whether objects are told apart, by ``data`` where they leave it open."""
    network, name = settings.network, settings.network.name
    section = section_of(network, name)
    if getattr(section, "objects", None) != "auto":
        return settings
    chosen = section.model_copy(update={"objects": clip_data.tells_objects_apart(data)})
    return settings.model_copy(update={"network": network.model_copy(update={name: chosen})})


def build_clips(settings: TrainingSettings, spec: NetworkSpec, place: Path) -> TrainingClips:
    """The endless training clips of a run; ``place`` is for what other programs' labels become."""
    settings = settle_scale(settings)
    data = take_labels(settings.data, place)
    settings = settle_objects(settings.model_copy(update={"data": data}), data)
    norm = networks.normalisation_of(spec, settings.network)
    return clip_data.build_training_clips(settings, spec.target(settings), norm)


class Rates(NamedTuple):
    """What a run takes here, seconds, and with which plan that was timed."""

    clip: float  # A training clip.
    validation: float  # Of the validation clips, once.
    start: float  # Starting and ending.
    batch: int
    crop: int
    device: str  # ``cpu`` or another.


def time_training(settings: TrainingSettings, spec: NetworkSpec) -> Rates:
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
    trial: dict[str, Any] = {"epochs": 2, "clips_per_epoch": count, "devices": processes}
    trial |= {"pictures": 0, "keep_epochs": 0, "trackers": (), "resume": False, "minutes": None}
    begun = time.monotonic()
    folder = RunFolder(train(settled.model_copy(update=trial), spec).run_folder)
    whole = time.monotonic() - begun
    spent = folder.read_metadata()["seconds"]
    last = float(table_values(folder.records)[-1]["seconds"] or 0.0)
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


def settle_length(settings: TrainingSettings, spec: NetworkSpec) -> TrainingSettings:
    """The settings with the length that ``minutes``, if given, are enough for, or a run had."""
    if settings.minutes is None:
        return settings
    begun, earlier = time.monotonic(), devices.earlier_settings(settings)
    if earlier is not None and earlier.minutes is not None:
        kept = {"epochs": earlier.epochs, "clips_per_epoch": earlier.clips_per_epoch}
        return settings.model_copy(update=kept)
    if earlier is not None:
        found = f"is {settings.minutes:g} now, and the run in {settings.out} had none"
        remedy = "leave it out, give another --out, or start over with resume off"
        raise RunError.at("minutes", found, remedy=remedy)
    if devices.has_other_processes(settings):
        found = "is for one machine, and one GPU of it"
        remedy = "give epochs and clips_per_epoch in its place"
        raise ConfigError.at("minutes", found, remedy=remedy)
    with TemporaryDirectory(prefix="dvos-timing-") as place:
        trial = settings.model_copy(update={"out": Path(place) / "run"})
        rates = time_training(trial, spec)
    return fit_length(settings, rates, 60 * settings.minutes - (time.monotonic() - begun))
