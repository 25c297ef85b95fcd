"""A network that is registered from outside is trained, goes on, starts others and predicts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import dvos
from dvos.errors import ConfigError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.registry import NETWORKS
from dvos.training.run_folder import write_state
from toy_network import TOY

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "toy", TOY)


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    """Bright squares on noise."""
    rng = np.random.default_rng(0)
    for number in range(4):
        image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), bool)
        mask[8 * number : 8 * number + 24, 10:40] = True
        image[mask] += 150
        write_image(tmp_path / "stills" / "images" / f"{number}.png", image)
        write_mask(tmp_path / "stills" / "masks" / f"{number}.png", mask)
    return tmp_path / "stills"


def _options(out: Path, stills: Path, **network: Any) -> dict[str, Any]:
    return {
        "out": out,
        "network": {"name": "toy", "references": 2, "options": {"width": 6}, **network},
        "data": {"stills": {"folders": [str(stills)]}, "crop": 32},
        "optimiser": {"lr": 0.01},
        "epochs": 2,
        "clips_per_epoch": 8,
        "batch": 4,
        "threads": 1,
        "pictures": 0,
        "device": "cpu",
    }


def test_it_trains_goes_on_and_predicts(
    tmp_path: Path, stills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dvos.train(**_options(tmp_path / "whole", stills))
    with open(whole.run_folder / "records.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {"train_bce", "train_lovasz", "val_lovasz"} <= rows[0].keys()

    def stop(path: Path, state: dict[str, Any]) -> None:
        write_state(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dvos.training.loop.write_state", stop)
        with pytest.raises(KeyboardInterrupt):
            dvos.train(**_options(tmp_path / "broken", stills))
    broken = dvos.train(**_options(tmp_path / "broken", stills))
    one, other = load_file(whole.best), load_file(broken.best)
    assert all(torch.equal(one[key], other[key]) for key in one)

    frames = [np.full((48, 40, 3), 30, np.uint8) for _ in range(3)]
    found = list(dvos.load_predictor(whole.best, "cpu").segment(frames))
    assert [frame.probability.shape for frame in found] == [(48, 40)] * 3
    result = dvos.predict(stills / "images", checkpoint=whole.best, out=tmp_path / "predicted")
    assert result.frames == 4


def test_it_starts_from_an_earlier_runs_weights(tmp_path: Path, stills: Path) -> None:
    first = dvos.train(**_options(tmp_path / "first", stills) | {"epochs": 1})
    options = _options(tmp_path / "second", stills, weights=str(first.best))
    still = {"epochs": 1, "optimiser": {"lr": 1e-9}, "ema_decay": 0}
    second = dvos.train(**options | still)
    one, other = load_file(first.best), load_file(second.best)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-5, rtol=1e-5)


def test_its_own_settings_are_checked_as_any(tmp_path: Path, stills: Path) -> None:
    wrong = {"width": 0, "depth": 2}
    with pytest.raises(ConfigError) as caught:
        dvos.train(**_options(tmp_path / "run", stills, options=wrong))
    first, second = sorted(map(str, caught.value.faults))
    assert "network.options" in first
    assert "depth: unknown key" in first
    assert "width: found 0" in second


def test_settings_of_other_networks_are_refused(tmp_path: Path, stills: Path) -> None:
    with pytest.raises(ConfigError, match="encoder cannot be set for the network toy"):
        dvos.train(**_options(tmp_path / "run", stills, encoder="lite0"))
