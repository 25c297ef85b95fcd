"""The folder of a run: what is written where, and whether a run in it can go on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from pydantic import BaseModel, model_validator

from dvos.config.base import Intensity, placed
from dvos.config.load import load_settings
from dvos.config.show import Move, run_changes, settings_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, ConfigError, Fault, FaultCollector, RunError
from dvos.files import atomic_path, parse_json, remove_leftovers, write_json, write_text
from dvos.networks.weights import TRAINING_STATE, read_checkpoint, torch_load
from dvos.runner.manifest import read_record
from dvos.runner.shards import taken
from dvos.tables import write_rows
from dvos.training.fingerprints import KnownFiles, changed_files
from dvos.training.records import Record, TrainResult, is_over, now

_LOGGER = logging.getLogger(__name__)

_FORMAT = 1

_GONE, _OTHER = "is gone, so that the run cannot go on", "give another --out"
#: How ``dvos train`` begins anew in a folder.
RESUME_OFF = "start over with resume off"
_ANEW = f"{_OTHER}, or {RESUME_OFF}"
#: What may be another in the same run, later.
_LATER = ("epochs", "patience", "out")


class _Best(BaseModel):
    epoch: int
    dice: float | None
    iou: float | None


class _Metadata(BaseModel):
    """What is read of run.json; there is more in it."""

    status: str = ""
    started: str = ""
    epochs: int = 0
    best: _Best | None = None
    seconds: dict[str, float] = {}
    clips_per_second: float = 0.0
    data: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    intensity: Intensity | None = None

    @model_validator(mode="after")
    def _check_finished(self) -> Self:
        needed = {"epochs", "best", "seconds", "clips_per_second"}
        if self.status == "finished" and (self.best is None or needed - self.model_fields_set):
            raise ValueError("a finished run tells its best epoch, its time and its speed")
        return self


class RunFolder:
    """Names of a run's files, and how each is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metadata = path / "run.json"
        self.data = path / "data.json"
        self.records = path / "records.csv"
        self.losses = path / "losses.png"
        self.pictures = path / "predictions"
        self.best = path / "best.safetensors"
        self.weights = path / "weights"
        self.state = path / "last.ckpt"
        self.trackers = path / "trackers.json"
        self.tensorboard = path / "tensorboard"
        self._subfolders = self.pictures, self.weights, self.tensorboard

    def earlier(
        self,
        settings: TrainingSettings,
        digests: Mapping[str, str],
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any] | None:
        """The state of an earlier run in the folder, to go on from; None without one, or need.

        Settings that affect nothing may be others than before, patience may grow, and a finished
        run may be given more epochs. ``digests`` are fingerprints of the data of now, by path, and
        ``files`` of each file by its content, which earlier versions kept none of. A RunError tells
        other settings or data, a ConfigError unknown ones, a CheckpointError a damaged or lost
        state.
        """
        if not self.config.is_file():
            if self.state.is_file():
                raise RunError.at(self.config, _GONE, "", _ANEW)
            self.check_own()
            return None
        try:
            before = load_settings(TrainingSettings, config=self.config)
        except ConfigError as error:
            raise ConfigError(replace(fault, remedy=_ANEW) for fault in error.faults) from error
        with FaultCollector(RunError) as faults:
            self._compare_settings(before, settings, faults)
            move = Move.of(before.out.absolute(), settings.out.absolute())
            self._compare_data(digests, files, move, faults)
        if self.finished() and self._is_over(settings):
            return None
        if self.state.is_file():
            return read_state(self.state)
        if self.read_metadata().get("epochs"):
            raise CheckpointError.at(self.state, _GONE, "", _ANEW)
        self.check_own()
        return None

    def _compare_settings(
        self, before: TrainingSettings, now: TrainingSettings, faults: FaultCollector
    ) -> None:
        """A fault for each setting that affects the result and is another than before.

        More patience changes nothing of what is learnt until then, nor do more epochs where these
        are done; patience that ended the run keeps more of them from coming.
        """
        # Left to the data, it is what the same data made of it before.
        open_ = (f"network.{now.network.name}.objects", "auto")
        finished, patient = (
            self.finished(),
            _epochs_without_gain(now.patience) > _epochs_without_gain(before.patience),
        )
        longer = {"epochs": finished and now.epochs > before.epochs, "patience": patient}
        for key, old, new in run_changes(before, now)[0]:
            if (key, new) != open_ and not longer.get(key):
                found = f"is {new} now, but the run in this folder has {old}"
                remedy = f"give the earlier value, {_ANEW}"
                faults.add(f"{self.config}: {key}", found, "", remedy)
        if longer["epochs"] and self._is_over(now):
            epoch = self.read_metadata()["epochs"]
            ended = f"patience ({now.patience}) ended the run after epoch {epoch}"
            found = f"{now.epochs} change nothing, as {ended}"
            remedy = "give a larger patience, too, or 0 for no end by it"
            faults.add(f"{self.config}: epochs", found, "", remedy)

    def _is_over(self, settings: TrainingSettings) -> bool:
        """Whether a run that ended here is at its end by these settings, too."""
        told = self.read_metadata()
        return is_over(settings, told["epochs"], told["best"]["epoch"])

    def _compare_data(
        self,
        digests: Mapping[str, str],
        files: Mapping[str, str],
        move: Move,
        faults: FaultCollector,
    ) -> None:
        """A fault for each file that holds something else than before, or the folder around it."""
        known = read_record(self.data, KnownFiles)
        changed = changed_files(files, known.files, move) if known else []
        named = {parent for place in changed for parent in Path(place).parents}
        named |= {Path(place) for place in changed}
        for place in changed_files(digests, self.read_metadata().get("data", {}), move):
            if Path(place).absolute() not in named:
                changed.append(place)
        for place in changed:
            faults.add(place, "changed since the run in this folder began", "", _ANEW)

    def finished(self) -> bool:
        """Whether a run ended here, and left its weights and what it says of them."""
        return self.read_metadata().get("status") == "finished" and self.best.is_file()

    def check_own(self) -> None:
        """A RunError with a fault for each link, and each file of others, that a run replaces."""
        faults = [
            Fault(str(x), f"is a link to {x.readlink()}", "a folder", f"remove it, or {_OTHER}")
            for x in self._subfolders
            if x.is_symlink()
        ]
        if "started" not in self.read_metadata():
            found = "is there, and no training is known to have written it"
            faults += [Fault(str(x), found, "", f"move it, or {_OTHER}") for x in self._files()]
        if faults:
            raise RunError(faults)

    def check_best(self) -> None:
        """Raise a CheckpointError if the best weights are damaged, gone, or others than written."""
        try:
            read_checkpoint(self.best)
        except CheckpointError as error:
            remedy = f"put a copy of it back, or {RESUME_OFF}"
            raise CheckpointError(replace(x, remedy=remedy) for x in error.faults) from error

    def _files(self) -> list[Path]:
        """What a run wrote, by its names; other files in the same folders are a user's."""
        names = (
            *(self.state, self.records, self.losses, self.best, self.config, self.trackers),
            self.data,
        )
        return [
            *(file for file in (*names, self.metadata) if os.path.lexists(file)),
            *self.pictures.glob("epoch_[0-9]*_clip_[0-9]*.jpg"),
            *self.weights.glob("epoch_[0-9]*.safetensors"),
            *self.tensorboard.glob("events.out.tfevents.*"),
        ]

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep other trainings out, by a RunError, and remove what a killed one was writing."""
        with taken(self.path):
            for folder in (self.path, self.pictures, self.weights):
                remove_leftovers(folder)
            yield

    def begin(self, settings: TrainingSettings) -> None:
        """Remove what an earlier run left and write config.yaml."""
        # The state first: without it nothing of the rest can be taken for a run. The metadata
        # tell that what lies here is a run's, and stay.
        self.state.unlink(missing_ok=True)
        write_json(self.metadata, {"started": now(), "status": "running"})
        for file in self._files():
            if file != self.metadata:
                file.unlink()
        for subfolder in self._subfolders:
            with suppress(OSError):
                subfolder.rmdir()
        self._write_config(settings)

    def extend(self, settings: TrainingSettings) -> None:
        """Note where a run goes on, and that it may go on for longer; a line tells of epochs."""
        known = placed(load_settings(TrainingSettings, config=self.config))
        if known.epochs < settings.epochs:
            epochs, done = settings.epochs, self.read_metadata()["epochs"]
            told = "%s: %d epochs more than the %d that it finished with; a run of %d from the"
            told += " start would have had other learning rates"
            _LOGGER.warning(told, self.path, epochs - done, done, epochs)
        if any(getattr(known, x) != getattr(placed(settings), x) for x in _LATER):
            self._write_config(settings)

    def _write_config(self, settings: TrainingSettings) -> None:
        write_text(self.config, settings_yaml(placed(settings), full=True))

    def read_metadata(self) -> dict[str, Any]:
        """run.json, or nothing where there is none that can be trusted, of which a line warns."""
        if not os.path.lexists(self.metadata):
            return {}
        try:
            metadata: dict[str, Any] = parse_json(self.metadata.read_text(encoding="utf-8"))
            _Metadata.model_validate(metadata)
        except (OSError, ValueError):
            _LOGGER.warning("%s cannot be read and is not gone by", self.metadata)
            return {}
        return metadata

    def result(self, *, already_finished: bool) -> TrainResult:
        """What run.json says about a finished run, and whether there was nothing left to do."""
        metadata = self.read_metadata()
        best = metadata["best"]
        return TrainResult(
            run_folder=self.path,
            best=self.best,
            epochs=metadata["epochs"],
            best_epoch=best["epoch"],
            dice=math.nan if best["dice"] is None else best["dice"],
            iou=math.nan if best["iou"] is None else best["iou"],
            seconds=sum(metadata["seconds"].values()),
            clips_per_second=metadata["clips_per_second"],
            already_finished=already_finished,
        )

    def write_records(self, records: list[Record], losses: Sequence[str]) -> None:
        """Write records.csv, a row an epoch, what was not measured empty, and losses.png."""
        columns = columns_of(losses)

        def cell(value: float) -> int | str:
            if isinstance(value, int):
                return value
            return "" if math.isnan(value) else f"{value:.6g}"

        rows = [[cell(record.get(name, math.nan)) for name in columns] for record in records]
        write_rows(self.records, columns, rows)
        _draw_losses(self.losses, records, losses)

    def picture(self, epoch: int, number: int) -> Path:
        """Where the picture of a validation clip at an epoch goes."""
        return self.pictures / f"epoch_{epoch:03d}_clip_{number:02d}.jpg"

    def kept(self, epoch: int) -> Path:
        """Where the weights of an epoch go that are kept beside the best."""
        return self.weights / f"epoch_{epoch:03d}.safetensors"


def _epochs_without_gain(patience: int) -> float:
    """How many epochs may come without a better one: endless where patience is 0."""
    return patience or math.inf


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state atomically: tensors, numbers, text, and lists and dicts of these."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save({"kind": TRAINING_STATE, "format": _FORMAT, **state}, stream)
        except RuntimeError as error:
            # Torch words what the stream raised as a fault of its archive.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote, to the CPU; a CheckpointError if it is damaged."""
    try:
        state = torch_load(path)
    except Exception as error:
        found, remedy = "damaged, so the run cannot go on", RESUME_OFF
        raise CheckpointError.at(path, found, remedy=remedy) from error
    if (
        not isinstance(state, dict)
        or state.get("kind") != TRAINING_STATE
        or state.get("format") != _FORMAT
    ):
        found = "not the state of a training run of this version"
        raise CheckpointError.at(path, found, remedy=_ANEW)
    return state


def columns_of(losses: Sequence[str]) -> list[str]:
    """Columns of records.csv for a run with these losses: the total, then each part."""
    parts = [f"{kind}_{name}" for kind in ("train", "val") for name in losses]
    return ["epoch", *parts, "dice", "iou", "lr", "seconds"]


def _draw_losses(path: Path, records: Sequence[Record], losses: Sequence[str]) -> None:
    """Plot losses and scores over the epochs into an image file, atomically."""
    # Without pyplot: it keeps global state and chooses a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    # A layout that looks for the room that its words need takes as long as all the rest.
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.13, top=0.91, wspace=0.16)
    epochs = [record["epoch"] for record in records]
    of_losses = ("train_loss", "val_loss", *(f"train_{name}" for name in losses[1:]))
    for axes, title, columns in (
        (left, "loss", of_losses),
        (right, "validation, pooled over pixels", ("dice", "iou")),
    ):
        for column in columns:
            values = [record.get(column, math.nan) for record in records]
            if not all(math.isnan(value) for value in values):
                axes.plot(epochs, values, marker=".", label=column.replace("_", " "))
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
