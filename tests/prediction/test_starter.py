"""Weights that come with the package, by their name."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import dvos
from dvos.config import base
from dvos.config.prediction import PredictionSettings
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, ConfigError
from dvos.media.image import write_image
from dvos.networks.weights import read_network_info
from dvos.prediction.calibration import read_calibration
from dvos.prediction.predictor import KnowsItsData
from dvos.sample.render import Renderer
from dvos.sample.variety import any_scene


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package's, which holds no weights yet; the current one is empty."""
    (tmp_path / "package/weights").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(base, "files", lambda _: tmp_path / "package")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "package"


@pytest.fixture
def shipped(package: Path, checkpoint: Path) -> Path:
    return Path(shutil.copy(checkpoint, package / "weights/wheat.safetensors"))


def test_a_name_stands_for_the_file_of_the_package(shipped: Path) -> None:
    assert PredictionSettings(input=Path("a.mp4")).checkpoint == shipped
    start = TrainingSettings.model_validate({"out": "run", "network": {"weights": "wheat"}})
    assert start.network.weights == shipped


def test_a_users_own_file_of_that_name_comes_first(shipped: Path) -> None:
    Path("wheat").touch()
    assert PredictionSettings(input=Path("a.mp4")).checkpoint == Path("wheat")


def test_a_folder_of_that_name_such_as_a_users_data_is_no_weights(shipped: Path) -> None:
    Path("wheat/annotated").mkdir(parents=True)
    assert PredictionSettings(input=Path("a.mp4")).checkpoint == shipped


def test_other_names_are_paths(package: Path) -> None:
    assert base.named_weights(Path("rye")) == Path("rye")
    assert base.named_weights(Path("runs/wheat")) == Path("runs/wheat")


@pytest.mark.usefixtures("package")
def test_an_installation_without_them_says_so() -> None:
    line = "the starter weights wheat are not in this installation; give a trained network"
    with pytest.raises(ConfigError, match=line):
        dvos.predict("a.mp4")
    with pytest.raises(CheckpointError, match=line):
        dvos.load_predictor("wheat")


@pytest.mark.usefixtures("shipped")
def test_prediction_without_a_checkpoint_says_what_it_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_image(Path("plot/f0.png"), np.zeros((40, 48, 3), np.uint8))
    dvos.predict("plot", out="named", checkpoint="wheat", device="cpu")
    assert "starter" not in caplog.text
    dvos.predict("plot", out="masks", device="cpu")
    assert "no checkpoint is given: the starter weights wheat are taken" in caplog.text
    assert Path("masks/plot/f0.png").read_bytes() == Path("named/plot/f0.png").read_bytes()


def test_the_shipped_weights_find_the_heads_of_a_field_they_have_not_seen() -> None:
    weights = base.named_weights(Path("wheat"))
    assert weights.stat().st_size < 15e6
    smallest, largest = read_calibration(read_network_info(weights).extra).sizes or (0, 0)
    assert 200 < smallest < 250
    assert 5500 < largest < 6000
    size = (192, 256)
    field = Renderer(any_scene(5, 3, size=size), frame_rate=1.0, size=size).frame(0)
    predictor = dvos.load_predictor("wheat", device="cpu")
    found = next(iter(predictor.segment([field.image]))).mask
    heads = field.instances > 0
    assert 2 * (found & heads).sum() > 0.6 * (found.sum() + heads.sum())


def test_the_starter_weights_know_fields_and_tell_bright_discs_in_the_dark_from_them() -> None:
    predictor = dvos.load_predictor("wheat", device="cpu")
    assert isinstance(predictor, KnowsItsData)
    scenes = (any_scene(7, number, size=(256, 256)) for number in range(3))
    fields = [Renderer(scene, frame_rate=1, size=(256, 256)).frame(0).image for scene in scenes]
    assert np.median([predictor.novelty(field) for field in fields]) < 1
    nuclei = np.full((256, 256, 3), 12, np.uint8)
    for x, y in ((60, 70), (150, 60), (120, 170), (210, 200)):
        cv2.circle(nuclei, (x, y), 24, (170, 170, 170), -1)
    assert predictor.novelty(nuclei) > 1
