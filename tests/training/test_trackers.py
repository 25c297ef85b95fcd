"""Trackers beside records.csv: what each is told, from stand-ins and, where installed, for real."""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import math
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_training import tiny_run

from dvos.api import train
from dvos.config.training import TrainingSettings
from dvos.errors import ConfigError, RunError
from dvos.media.image import write_image
from dvos.training.run_folder import RunFolder
from dvos.training.trackers import Trackers, check_trackers, open_trackers

NAMES = ("tensorboard", "wandb", "mlflow")


class Calls(list):
    """What a stand-in for a tracker's package was called with."""

    def of(self, name: str) -> list:
        return [call[1:] for call in self if call[0] == name]


def _tensorboard(calls: Calls) -> dict[str, ModuleType]:
    """Stand-ins that keep each event and write it as text."""
    board, summary = ModuleType("torch.utils.tensorboard"), ModuleType("summary")
    events = ModuleType("tensorboard.compat.proto.event_pb2")

    def event(**fields):
        calls.append(("tensorboard", fields))
        return SimpleNamespace(SerializeToString=lambda: f"{fields}".encode())

    board.RecordWriter = lambda stream: SimpleNamespace(write=stream.write)
    for name in ("text", "scalar", "image"):
        setattr(summary, name, lambda *values, name=name, **_: (name, *values))
    events.Event, events.SessionLog = event, lambda status: ("session", status)
    events.SessionLog.START = 1
    return {
        "tensorboard": ModuleType("tensorboard"),
        "tensorboard.compat.proto.event_pb2": events,
        "torch.utils.tensorboard": board,
        "torch.utils.tensorboard.summary": summary,
    }


@pytest.fixture
def stand_ins(monkeypatch) -> Calls:
    """Recorded stand-ins for the packages of all three trackers."""
    calls = Calls()

    def told(name):
        return lambda *values, **named: calls.append((name, *values, named))

    wandb = ModuleType("wandb")

    def init(**named):
        calls.append(("wandb", named))
        return SimpleNamespace(
            id=named["id"] or "chosen",
            log=told("wandb.log"),
            finish=told("wandb.finish"),
            summary={},
        )

    wandb.init, wandb.Image = init, str

    class Client:
        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            calls.append(("mlflow.experiment", name))
            return "7"

        def create_run(self, experiment, run_name):
            calls.append(("mlflow.run", experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="made"))

        def __getattr__(self, name):
            return told(f"mlflow.{name}")

    tracking, entities = ModuleType("mlflow.tracking"), ModuleType("mlflow.entities")
    tracking.MlflowClient, entities.Param = Client, lambda key, value: (key, value)
    modules = {
        **_tensorboard(calls),
        "wandb": wandb,
        "mlflow": ModuleType("mlflow"),
        "mlflow.tracking": tracking,
        "mlflow.entities": entities,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return calls


def _open(folder: RunFolder, names=NAMES, epochs: int = 0) -> Trackers:
    settings = TrainingSettings(out=folder.path, seed=1, trackers=names)
    return open_trackers(settings, folder, epochs=epochs)


def _picture(folder: Path) -> Path:
    path = folder / "clip.jpg"
    write_image(path, np.full((20, 30, 3), 90, np.uint8))
    return path


def test_each_is_told_settings_epochs_and_the_best_pictures(stand_ins, tmp_path):
    folder = RunFolder(tmp_path / "field")
    folder.path.mkdir()
    picture = _picture(folder.path)
    trackers = _open(folder)
    trackers.epoch(1, {"train_bce": 0.5, "dice": 0.75, "lr": 1e-3})
    trackers.finish([picture, folder.path / "gone.jpg"], completed=True)

    version, text, *scalars, image = [call[0] for call in stand_ins.of("tensorboard")]
    assert version["file_version"] == "brain.Event:2"
    assert text["summary"][:2] == ("text", "config")
    assert "seed: 1" in text["summary"][2]
    assert [(scalar["step"], *scalar["summary"][1:]) for scalar in scalars] == [
        (1, "train/bce", 0.5),
        (1, "val/dice", 0.75),
        (1, "lr", 1e-3),
    ]
    assert (image["step"], image["summary"][1]) == (1, "predictions/clip_00")
    assert image["summary"][2].shape == (20, 30, 3)
    (file,) = folder.tensorboard.iterdir()
    assert file.name.startswith("events.out.tfevents.")
    written = [f"{call[0]}" for call in stand_ins.of("tensorboard")]
    assert file.read_text() == "".join(written)

    (begun,) = stand_ins.of("wandb")[0]
    assert (begun["project"], begun["name"], begun["config"]["seed"]) == ("dvos", "field", 1)
    assert (begun["id"], begun["resume"]) == (None, None)
    values = {"train/bce": 0.5, "val/dice": 0.75, "lr": 1e-3}
    assert stand_ins.of("wandb.log") == [(values, {"step": 1})]
    assert stand_ins.of("wandb.finish") == [({"exit_code": 0},)]

    assert stand_ins.of("mlflow.run") == [("7", "field")]
    made, text, name = stand_ins.of("mlflow.log_text")[0][:3]
    assert (made, name) == ("made", "config.yaml")
    assert "\nseed: 1\n" in text
    batches = stand_ins.of("mlflow.log_batch")
    params = [param for batch in batches for param in batch[1]["params"]]
    assert ("seed", "1") in params
    assert ("losses.bce", "1.0") in params
    assert all(len(batch[1]["params"]) <= 100 for batch in batches)
    metrics = [(call[1], call[2], call[3]["step"]) for call in stand_ins.of("mlflow.log_metric")]
    assert metrics == [("train/bce", 0.5, 1), ("val/dice", 0.75, 1), ("lr", 1e-3, 1)]
    assert stand_ins.of("mlflow.log_artifact")[0][:3] == ("made", str(picture), "predictions")
    assert stand_ins.of("mlflow.set_terminated")[0][:2] == ("made", "FINISHED")
    assert json.loads(folder.trackers.read_text()) == {"wandb": "chosen", "mlflow": "made"}


def test_a_run_that_goes_on_is_the_same_run_there(stand_ins, tmp_path):
    folder = RunFolder(tmp_path)
    _open(folder).finish([], completed=False)
    assert stand_ins.of("wandb.finish") == [({"exit_code": 1},)]
    assert stand_ins.of("mlflow.set_terminated")[0][:2] == ("made", "FAILED")
    del stand_ins[:]
    _open(folder, epochs=3).epoch(4, {"lr": 1.0})
    _, begun, scalar = [call[0] for call in stand_ins.of("tensorboard")]
    assert (begun["step"], begun["session_log"]) == (4, ("session", 1))
    assert scalar["summary"] == ("scalar", "lr", 1.0)
    assert len(list(folder.tensorboard.iterdir())) == 2
    (begun,) = stand_ins.of("wandb")[0]
    assert (begun["id"], begun["resume"]) == ("chosen", "allow")
    assert not stand_ins.of("mlflow.run")
    assert stand_ins.of("mlflow.update_run") == [("made", {"status": "RUNNING"})]
    assert not stand_ins.of("mlflow.log_batch")


def test_a_run_that_starts_over_is_a_new_one(stand_ins, tmp_path):
    folder = RunFolder(tmp_path)
    _open(folder)
    folder.begin(TrainingSettings(out=tmp_path))
    assert not folder.trackers.exists()
    assert not folder.tensorboard.exists()


def test_names_from_the_environment(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "heads")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ears")
    _open(RunFolder(tmp_path))
    assert stand_ins.of("wandb")[0][0]["project"] == "heads"
    assert stand_ins.of("mlflow.experiment") == [("ears",)]


def test_missing_packages_are_told_each_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    settings = TrainingSettings(out=tmp_path / "run", trackers=("wandb", "mlflow"))
    with pytest.raises(ConfigError) as caught:
        train(settings)
    first, second = map(str, caught.value.faults)
    assert 'package wandb is not installed; pip install "dvos[wandb]"' in first
    assert 'pip install "dvos[mlflow]"' in second
    assert not (tmp_path / "run").exists()
    check_trackers(())


def test_a_tracker_that_does_not_start_is_told_and_the_others_are_ended(stand_ins, tmp_path):
    def refuse(**_):
        raise ConnectionError("no account")

    sys.modules["wandb"].init = refuse
    with pytest.raises(RunError, match=r"wandb does not start \(no account\)"):
        _open(RunFolder(tmp_path))
    assert stand_ins.of("mlflow.set_terminated")


def test_a_disk_that_is_full_for_a_while_costs_tensorboard_what_did_not_fit(
    stand_ins, tmp_path, monkeypatch, caplog
):
    folder = RunFolder(tmp_path)
    trackers = _open(folder, ["tensorboard"])
    trackers.epoch(1, {"lr": 1.0})
    (file,) = folder.tensorboard.iterdir()
    before = file.read_bytes()
    write, room = os.write, 5

    def full(handle, data):
        nonlocal room
        written, room = write(handle, data[:room]) if room else 0, 0
        if written:
            return written
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "write", full)
        trackers.epoch(2, {"lr": 0.5})
    assert "TensorBoard did not take epoch 2 (" in caplog.text
    assert "No space left" in caplog.text
    assert file.read_bytes() == before
    trackers.epoch(3, {"lr": 0.25})
    assert file.read_bytes() > before
    assert file.read_bytes().startswith(before)


def test_a_full_disk_at_the_start_is_told(stand_ins, tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RunError, match=r"tensorboard does not start \(.*No space left"):
        _open(RunFolder(tmp_path), ["tensorboard"])
    assert not any((tmp_path / "tensorboard").iterdir())


class Recorder:
    """A tracker that keeps what it is told, and fails if asked to."""

    identity = ""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.epochs: list[tuple[int, dict[str, float]]] = []
        self.ended: list[tuple[list[Path], bool]] = []

    def epoch(self, epoch, values):
        if self.fails:
            raise OSError("no route to host")
        self.epochs.append((epoch, dict(values)))

    def finish(self, pictures, *, completed):
        self.ended.append((list(pictures), completed))


def test_a_run_tells_its_trackers_and_outlives_them(tmp_path, caplog):
    good, bad = Recorder(), Recorder(fails=True)
    run = tiny_run(tmp_path, pictures=2)
    run.trackers = Trackers({"wandb": good, "mlflow": bad})
    with caplog.at_level(logging.WARNING):
        result = run.run()
    assert [epoch for epoch, _ in good.epochs] == [1, 2]
    for (_, values), record in zip(good.epochs, run.progress.records, strict=True):
        assert values == record
        assert all(math.isfinite(value) for value in values.values())
    ((pictures, completed),) = good.ended
    assert completed
    assert pictures == [run.folder.picture(result.best_epoch, number) for number in range(2)]
    assert "MLflow did not take epoch 1 (no route to host)" in caplog.text
    assert bad.ended


def test_a_run_that_breaks_off_says_so(tmp_path):
    tracker = Recorder()
    run = tiny_run(tmp_path, lr=1e30, clip_norm=0.0)
    run.trackers = Trackers({"wandb": tracker})
    with pytest.raises(RunError):
        run.run()
    assert [completed for _, completed in tracker.ended] == [False]


def _real(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the extra {name} is not installed")


def test_tensorboard_itself(tmp_path):
    _real("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path)
    trackers = _open(folder, ["tensorboard"])
    for epoch in (1, 2):
        trackers.epoch(epoch, {"train_loss": 1 / epoch})
    again = _open(folder, ["tensorboard"], epochs=1)
    for epoch in (2, 3):
        again.epoch(epoch, {"train_loss": 1 / epoch})
    again.finish([_picture(tmp_path)], completed=True)
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert events.Tags()["images"] == ["predictions/clip_00"]


def test_wandb_itself(tmp_path, monkeypatch):
    _real("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = RunFolder(tmp_path)
    for epochs in (0, 1):
        trackers = _open(folder, ["wandb"], epochs=epochs)
        trackers.epoch(epochs + 1, {"train_loss": 0.5})
        trackers.finish([_picture(tmp_path)], completed=bool(epochs))
    name = json.loads(folder.trackers.read_text())["wandb"]
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{name}/*.wandb"))) == 2


def test_mlflow_itself(tmp_path, monkeypatch):
    _real("mlflow")
    if importlib.util.find_spec("sqlalchemy") is None:
        pytest.skip("only mlflow-skinny is installed, which keeps nothing on this machine")
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path)
    for epochs in (0, 1):
        trackers = _open(folder, ["mlflow"], epochs=epochs)
        trackers.epoch(epochs + 1, {"train_loss": 1 / (epochs + 1)})
        trackers.finish([_picture(tmp_path)], completed=bool(epochs))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    run = client.get_run(json.loads(folder.trackers.read_text())["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.data.params["losses.bce"] == "1.0"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]


def test_trackers_do_not_draw_from_the_generators(stand_ins, tmp_path):
    before = torch.get_rng_state()
    _open(RunFolder(tmp_path)).epoch(1, {"lr": 1.0})
    assert torch.equal(before, torch.get_rng_state())
