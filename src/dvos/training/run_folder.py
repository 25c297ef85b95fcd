"""The folder of a run: what is written where, and whether a run in it can go on."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dvos.config.base import values_affecting
from dvos.config.load import load_settings
from dvos.config.show import settings_yaml
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, Fault, RunError
from dvos.files import atomic_path, make_folder, write_text
from dvos.tables import write_rows
from dvos.training.records import TrainResult

#: One epoch; NaN where there is no value.
Record = dict[str, float]

_KIND = "dvos training state"
_FORMAT = 1


class RunFolder:
    """Names of a run's files, and how each is written.

    Args:
        path: The folder; made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metadata = path / "run.json"
        self.records = path / "records.csv"
        self.losses = path / "losses.png"
        self.pictures = path / "predictions"
        self.best = path / "best.safetensors"
        self.weights = path / "weights"
        self.state = path / "last.ckpt"
        self.trackers = path / "trackers.json"
        self.tensorboard = path / "tensorboard"

    def earlier(
        self, settings: TrainingSettings, digests: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """The state of an earlier run in the folder, to go on from; nothing is changed.

        Settings that affect nothing may be others than the earlier run's.

        Args:
            settings: Of now.
            digests: Fingerprints of the data of now, by path.

        Returns:
            The state, or None where no run got far enough to have one.

        Raises:
            RunError: If the earlier run had other settings or data.
            ConfigError: If its settings are of a version that knew others.
            CheckpointError: If its state is damaged.
        """
        if not self.state.is_file():
            return None
        remedy = "give another --out, the earlier value, or start over with resume off"
        faults = []
        earlier = flattened(values_affecting(load_settings(TrainingSettings, config=self.config)))
        now = flattened(values_affecting(settings))
        for key in sorted(earlier.keys() | now.keys()):
            before, after = earlier.get(key, "absent"), now.get(key, "absent")
            if before != after:
                found = f"is {after} now, but the run in this folder has {before}"
                faults.append(Fault(f"{self.config}: {key}", found, "", remedy))
        known = self.read_metadata().get("data", {})
        faults += [
            Fault(path, "changed since the run in this folder began", "", remedy)
            for path, value in digests.items()
            if known.get(path, value) != value
        ]
        if faults:
            raise RunError(faults)
        return read_state(self.state)

    def begin(self, settings: TrainingSettings) -> None:
        """Remove what an earlier run left and write config.yaml.

        Raises:
            OutputError: If the folder cannot be written.
        """
        make_folder(self.path)
        # The state first: without it nothing of the rest can be taken for a run.
        files = (self.state, self.metadata, self.records, self.losses, self.best, self.config)
        for file in (*files, self.trackers):
            file.unlink(missing_ok=True)
        for subfolder in (self.pictures, self.weights, self.tensorboard):
            shutil.rmtree(subfolder, ignore_errors=True)
        write_text(self.config, settings_yaml(TrainingSettings, settings, full=True))

    def read_metadata(self) -> dict[str, Any]:
        """run.json, or nothing where there is none yet."""
        if not self.metadata.is_file():
            return {}
        metadata: dict[str, Any] = json.loads(self.metadata.read_text(encoding="utf-8"))
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
        """Write records.csv, a row an epoch, and losses.png.

        Args:
            records: One an epoch; a value that was not measured is left empty.
            losses: The total and the parts; of the latter the training's are drawn.
        """
        columns = columns_of(losses)
        rows = [[record.get(column, math.nan) for column in columns] for record in records]
        cells = [
            [x if isinstance(x, int) else "" if math.isnan(x) else f"{x:.6g}" for x in row]
            for row in rows
        ]
        write_rows(self.records, columns, cells)
        _draw_losses(self.losses, records, losses)

    def picture(self, epoch: int, number: int) -> Path:
        """Where the picture of a validation clip at an epoch goes."""
        return self.pictures / f"epoch_{epoch:03d}_clip_{number:02d}.jpg"

    def kept(self, epoch: int) -> Path:
        """Where the weights of an epoch go that are kept beside the best."""
        return self.weights / f"epoch_{epoch:03d}.safetensors"


def flattened(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    if not isinstance(values, dict):
        return {prefix.removesuffix("."): values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flattened(value, f"{prefix}{key}."))
    return flat


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state atomically.

    Args:
        path: Replaced only when the new file is complete.
        state: Tensors, numbers, text, and lists and dicts of these.

    Raises:
        OutputError: If it cannot be written.
    """
    with atomic_path(path) as temporary:
        torch.save({"kind": _KIND, "format": _FORMAT, **state}, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; tensors come to the CPU.

    Raises:
        CheckpointError: If the file is damaged or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files surface as many unrelated types: zip, pickle, EOF, key errors.
        raise CheckpointError.at(
            path, "damaged, so the run cannot go on", remedy="start over with resume off"
        ) from error
    if not isinstance(state, dict) or state.get("kind") != _KIND or state.get("format") != _FORMAT:
        raise CheckpointError.at(
            path,
            "not the state of a training run of this version",
            remedy="give another --out, or start over with resume off",
        )
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
    for axes, columns in (
        (left, ("train_loss", "val_loss", *(f"train_{name}" for name in losses[1:]))),
        (right, ("dice", "iou")),
    ):
        for column in columns:
            values = [record.get(column, math.nan) for record in records]
            if not all(math.isnan(value) for value in values):
                axes.plot(epochs, values, marker=".", label=column.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    left.set_title("loss")
    right.set_title("validation, pooled over pixels")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
