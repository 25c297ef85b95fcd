from __future__ import annotations

import pytest
import torch

from dvos.errors import CheckpointError, RunError
from dvos.files import write_json
from dvos.training.checkpoint import read_state, write_state
from dvos.training.run_folder import RunFolder


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


@pytest.fixture
def stopped(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.begin("epochs: 3\noptimiser:\n  lr: 0.1\nworkers: 0\n")
    write_json(folder.facts, {"data": {"a.csv": "11"}})
    folder.write_state({"step": 3})
    return folder


def test_a_run_goes_on_with_the_same_settings_and_free_ones_changed(stopped):
    state = stopped.earlier("epochs: 3\noptimiser:\n  lr: 0.1\nworkers: 4\n", {"a.csv": "11"})
    assert state["step"] == 3


def test_changed_settings_and_data_are_all_named(stopped):
    with pytest.raises(RunError) as caught:
        stopped.earlier("epochs: 4\noptimiser:\n  lr: 0.2\nseed: 1\n", {"a.csv": "12"})
    text = str(caught.value)
    assert len(caught.value.faults) == 4
    assert "config.yaml: epochs: is 4 now, but the run in this folder has 3" in text
    assert "config.yaml: optimiser.lr" in text
    assert "config.yaml: seed: is 1 now, but the run in this folder has absent" in text
    assert "a.csv: changed" in text


def test_beginning_anew_removes_the_earlier_run(stopped):
    stopped.begin("epochs: 4\n")
    assert stopped.earlier("epochs: 4\n", {}) is None
    assert [file.name for file in stopped.path.iterdir()] == ["config.yaml"]
