"""``dvos train`` with the network xmem, from settings to weights that load again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_tracks import write_tree

from dvos.api import train
from dvos.checking import check, draw_batch
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError
from dvos.media.image import image_size
from dvos.networks.weights import save_network
from dvos.registry import load_network, network_spec
from dvos.training.networks import build_trained_network

NARROW = {"key_dim": 4, "value_dim": 8, "hidden_dim": 4}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tree"), frames=4, clips=2)


def _settings(out: Path, tree: Path, **changes) -> TrainingSettings:
    values = {
        "out": out,
        "network": {"name": "xmem", "xmem": NARROW},
        "data": {"clips": {"folders": [tree]}, "crop": 32, "validation": {"largest_side": 48}},
        "xmem": {"frames": 3, "validation_frames": 3},
        "epochs": 1,
        "clips_per_epoch": 1,
        "batch": 1,
        "threads": 1,
        "pictures": 1,
        "keep_epochs": 1,
    }
    return TrainingSettings.model_validate(values | changes)


def _started(settings: TrainingSettings) -> torch.nn.Module:
    return build_trained_network(network_spec("xmem"), settings).module


def test_a_run_writes_what_every_run_writes(tmp_path, tree, caplog, monkeypatch):
    # The state of the whole network would be half a gigabyte.
    monkeypatch.setattr("dvos.training.loop.write_state", lambda path, state: None)
    result = train(_settings(tmp_path / "run", tree))
    assert "starts from scratch" in caplog.text
    header = (tmp_path / "run" / "records.csv").read_text().splitlines()[0]
    assert "train_cross_entropy,train_soft_dice,val_loss" in header
    assert (tmp_path / "run" / "predictions" / "epoch_001_clip_00.jpg").is_file()
    network, info = load_network(result.best)
    assert (info.name, info.arguments) == ("xmem", {**NARROW, "single_object": False})
    kept = load_network(tmp_path / "run" / "weights" / "epoch_001.safetensors")[0].state_dict()
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())


def test_it_starts_from_weights_of_either_form(tmp_path, tree):
    single = network_spec("xmem").network(**NARROW, single_object=True)
    file = tmp_path / "single.safetensors"
    save_network(file, single, name="xmem", arguments={**NARROW, "single_object": True})
    chosen = _settings(tmp_path, tree, network={"name": "xmem", "xmem": NARROW, "weights": file})
    network = _started(chosen)
    stem = network.state_dict()["value_encoder.conv1.weight"]
    assert torch.equal(stem[:, :4], single.state_dict()["value_encoder.conv1.weight"])
    assert not stem[:, 4].any()
    other = _settings(tmp_path, tree, network={"name": "xmem", "weights": file})
    with pytest.raises(CheckpointError, match="of other widths"):
        _started(other)


def test_weights_of_another_network_are_told(tmp_path, tree):
    file = tmp_path / "paper.safetensors"
    arguments = {"base": 4, "multipliers": [1], "latent": 4, "hidden": 8}
    save_network(
        file, network_spec("paper").network(**arguments), name="paper", arguments=arguments
    )
    chosen = _settings(tmp_path, tree, network={"name": "xmem", "weights": file})
    with pytest.raises(CheckpointError, match="holds the network paper; expected weights of xmem"):
        _started(chosen)


def test_a_configuration_can_be_checked_and_looked_at(tmp_path, tree):
    file = tmp_path / "train.yaml"
    file.write_text(
        f"out: run\nnetwork: xmem\ndata: {{clips: {{folders: [{tree}]}}, crop: 32}}\n"
        "xmem: {frames: 3}\n"
    )
    assert "settings of dvos train" in check(file)
    draw_batch(file, tmp_path / "batch.png")
    assert image_size(tmp_path / "batch.png")[1] >= 4 * 32
