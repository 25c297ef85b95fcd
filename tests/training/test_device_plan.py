"""What is chosen for a GPU, and what is left as it was given."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dvos.config.training import TrainingSettings
from dvos.registry import network_spec
from dvos.training.devices import settle_plan
from dvos.training.run_folder import RunFolder

DVOS = network_spec("dvos")


def _settings(out: Path, **values: Any) -> TrainingSettings:
    return TrainingSettings.model_validate({"out": out, **values})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Properties:
        total_memory = 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    return Properties


def _chosen(settings: TrainingSettings) -> tuple[int, int, int]:
    return settings.batch, settings.data.crop, settings.clips_per_epoch


def test_a_cpu_trains_the_plan_of_the_settings(tmp_path: Path) -> None:
    settings = _settings(tmp_path, device="cpu")
    assert settle_plan(settings, DVOS) is settings


def test_a_gpu_trains_a_larger_one_and_tells(
    tmp_path: Path, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        chosen = settle_plan(_settings(tmp_path), DVOS)
    assert _chosen(chosen) == (32, 256, 1344)
    assert "batch 32, clips_per_epoch 1344, crop 256" in caplog.text
    gpu.total_memory = 8 * 2**30
    assert _chosen(settle_plan(_settings(tmp_path), DVOS)) == (16, 160, 1344)
    gpu.total_memory = 2 * 2**30
    assert _chosen(settle_plan(_settings(tmp_path), DVOS)) == (8, 160, 512)


def test_what_is_given_stays(tmp_path: Path, gpu: Any) -> None:
    given = _settings(tmp_path, batch=8, data={"crop": 160})
    assert _chosen(settle_plan(given, DVOS)) == (8, 160, 1344)
    whole = _settings(tmp_path, batch=8, data={"crop": 160}, clips_per_epoch=512)
    assert settle_plan(whole, DVOS) is whole
    assert _chosen(settle_plan(_settings(tmp_path, device="cpu"), DVOS)) == (8, 160, 512)


@pytest.mark.parametrize(
    ("values", "batch"),
    [({"accumulate": 3, "batch": 9}, 9), ({"devices": 4, "batch": 8}, 8), ({"devices": 2}, 32)],
)
def test_devices_share_the_batch_alike(
    tmp_path: Path, gpu: Any, values: dict[str, int], batch: int
) -> None:
    assert settle_plan(_settings(tmp_path, **values), DVOS).batch == batch


def test_other_networks_keep_their_plan(tmp_path: Path, gpu: Any) -> None:
    settings = _settings(tmp_path, network={"name": "paper"})
    assert settle_plan(settings, network_spec("paper")) is settings


def test_a_run_goes_on_with_the_plan_it_began_with(
    tmp_path: Path, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tmp_path)
    RunFolder(tmp_path).begin(settle_plan(settings, DVOS))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _chosen(settle_plan(settings, DVOS)) == (32, 256, 1344)
    anew = settings.model_copy(update={"resume": False})
    assert _chosen(settle_plan(anew, DVOS)) == (8, 160, 512)
