from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from dvos.config.network import DvosShapeSettings
from dvos.config.training import LossSettings, TrainingSettings
from dvos.errors import CheckpointError, ConfigError, RunError
from dvos.files import write_json
from dvos.training.run_folder import RunFolder, read_state, write_state


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "last.ckpt"
    write_state(path, {"step": 3, "network": {"weight": torch.arange(4.0)}})
    state = read_state(path)
    assert state["step"] == 3
    assert torch.equal(state["network"]["weight"], torch.arange(4.0))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_damaged(tmp_path, keep):
    path = tmp_path / "last.ckpt"
    write_state(path, {"step": 3})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)


def test_of_another_kind(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"model": 1}, path)
    with pytest.raises(CheckpointError, match="not the state"):
        read_state(path)


def _settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"out": Path("run"), "epochs": 3, "workers": 0} | changes))


@pytest.fixture
def stopped(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.begin(_settings())
    write_json(folder.metadata, {"data": {"a.csv": "11"}})
    write_state(folder.state, {"step": 3})
    return folder


def test_a_run_goes_on_with_the_same_settings_and_free_ones_changed(stopped):
    free = _settings(workers=4, out=Path("other"), devices=2, trackers=("wandb",))
    assert stopped.earlier(free, {"a.csv": "11"})["step"] == 3


def test_changed_settings_and_data_are_all_named(stopped):
    with pytest.raises(RunError) as caught:
        changed = _settings(epochs=4, optimiser={"lr": 0.2}, seed=1)
        stopped.earlier(changed, {"a.csv": "12"})
    text = str(caught.value)
    assert len(caught.value.faults) == 4
    assert "config.yaml: epochs: is 4 now, but the run in this folder has 3" in text
    assert "config.yaml: optimiser.lr" in text
    assert "config.yaml: seed: is 1 now, but the run in this folder has 123" in text
    assert "a.csv: changed" in text


def test_a_run_of_an_earlier_version_goes_on(stopped):
    """Its settings had other names; a preset then was all of its values."""
    values = yaml.safe_load(stopped.config.read_text())
    shape = DvosShapeSettings().model_dump(mode="json", exclude={"preset"})
    del values["network"]["dvos"]
    values["network"] |= shape
    values["losses"] = LossSettings().model_dump(mode="json", exclude={"preset"})
    stopped.config.write_text(yaml.safe_dump(values))
    assert stopped.earlier(_settings(), {})["step"] == 3
    stopped.config.write_text(yaml.safe_dump(values | {"other": 1}))
    with pytest.raises(ConfigError, match="other: unknown key"):
        stopped.earlier(_settings(), {})


def test_beginning_anew_removes_the_earlier_run(stopped):
    stopped.begin(_settings(epochs=4))
    assert stopped.earlier(_settings(epochs=4), {}) is None
    assert [file.name for file in stopped.path.iterdir()] == ["config.yaml"]
