from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dvos.config.prediction import PredictionSettings
from dvos.media.image import write_image
from dvos.networks.weights import save_network
from dvos.prediction.calibration import CountCalibration, PlattScaling, read_calibration
from dvos.prediction.predict import predict
from dvos.registry import load_network, predictor_for


def test_what_a_checkpoint_says_is_read() -> None:
    calibration = read_calibration(
        {
            "normalisation": {"mean": [0.5] * 3},
            "objects": {"width": 14.5, "area": 400.0, "error": 0.06},
            "calibration": {"temperature": 1.5, "bias": -0.2},
            "counting": {"dispersion": 1.5},
        }
    )
    scaling, sizes = PlattScaling(1.5, -0.2), (160.0, 1000.0)
    assert calibration == CountCalibration(14.5, 400.0, 0.06, 1.5, scaling, sizes=sizes)


def test_a_network_of_many_sizes_says_which() -> None:
    sizes = {"smallest": 212.0, "largest": 4545.0}
    calibration = read_calibration({"objects": sizes})
    assert calibration == CountCalibration(sizes=(212.0, 4545.0))
    assert calibration.at_scale(0.5).sizes == (848.0, 18180.0)
    # A usual area of one's own does not narrow them.
    assert read_calibration({"objects": sizes | {"area": 900.0}}).sizes == (212.0, 4545.0)


@pytest.mark.parametrize(
    "older",
    [{}, {"objects": {"width": 9.0, "area": 81.0}}],
)
def test_older_checkpoints_still_predict(
    checkpoint: Path, tmp_path: Path, older: dict[str, object]
) -> None:
    network, info = load_network(checkpoint)
    path = tmp_path / "older.safetensors"
    save_network(path, network, name=info.name, arguments=info.arguments, extra=info.extra | older)
    for number in range(3):
        shade = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        write_image(tmp_path / f"clip/{number}.png", shade)
    predict(
        PredictionSettings(checkpoint=path, input=tmp_path / "clip", out=tmp_path / "out"),
        predictor_for,
    )
    with open(tmp_path / "out/counts.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    for row in rows:
        low, smooth, high = (float(row[f"count_{name}"]) for name in ("low", "smooth", "high"))
        assert low <= smooth <= high


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"objects": None, "calibration": 3},
        {"objects": {"width": "wide", "area": -1.0, "error": True}},
        {"calibration": {"temperature": 0.0, "bias": 0.0}},
        {"calibration": {"temperature": 1.0}},
        {"objects": {"width": float("nan")}},
        {"objects": {"smallest": 9.0}},
        {"objects": {"smallest": 9.0, "largest": 8.0}},
        {"objects": {"error": -0.9}, "counting": {"dispersion": -1.0}},
    ],
)
def test_what_is_absent_or_makes_no_sense_is_none(extra: dict[str, object]) -> None:
    assert read_calibration(extra) == CountCalibration()


def test_sizes_follow_the_scale_frames_are_resized_by() -> None:
    calibration = CountCalibration(width=10.0, area=80.0, error=0.1).at_scale(0.5)
    assert calibration == CountCalibration(width=20.0, area=320.0, error=0.1)
    assert CountCalibration().at_scale(2.0) == CountCalibration()


def test_calibration_is_a_line_of_the_logits() -> None:
    probability = np.array([[0.0, 0.1, 0.5, 0.9, 1.0]], np.float32)
    calibrated = PlattScaling(temperature=2.0, bias=0.5)(probability)
    assert calibrated.dtype == np.float32
    inner = probability[0, 1:4].astype(np.float64)
    expected = 1 / (1 + np.exp(-(np.log(inner / (1 - inner)) / 2 + 0.5)))
    assert calibrated[0, 1:4] == pytest.approx(expected, abs=1e-6)
    assert 0 < calibrated[0, 0] < calibrated[0, 1] < calibrated[0, 3] < calibrated[0, 4] < 1
    assert PlattScaling(2.0, 0.5).before(float(calibrated[0, 1])) == pytest.approx(0.1, abs=1e-6)
    assert PlattScaling(1.0, 0.0)(probability) == pytest.approx(probability, abs=2e-6)
