from __future__ import annotations

import numpy as np
import pytest

from dvos.prediction.objects import Calibration, ObjectKnowledge, read_knowledge


def test_what_a_checkpoint_says_is_read() -> None:
    knowledge = read_knowledge(
        {
            "normalisation": {"mean": [0.5] * 3},
            "objects": {"width": 14.5, "area": 400.0, "found": 0.97, "spread": 0.04},
            "calibration": {"temperature": 1.5, "bias": -0.2},
        }
    )
    assert knowledge == ObjectKnowledge(14.5, 400.0, 0.97, 0.04, Calibration(1.5, -0.2))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"objects": None, "calibration": 3},
        {"objects": {"width": "wide", "area": -1.0, "found": True}},
        {"calibration": {"temperature": 0.0, "bias": 0.0}},
        {"calibration": {"temperature": 1.0}},
        {"objects": {"width": float("nan")}},
    ],
)
def test_what_is_absent_or_makes_no_sense_is_none(extra: dict[str, object]) -> None:
    assert read_knowledge(extra) == ObjectKnowledge()


def test_sizes_follow_the_scale_frames_are_resized_by() -> None:
    knowledge = ObjectKnowledge(width=10.0, area=80.0, found=0.9).at_scale(0.5)
    assert knowledge == ObjectKnowledge(width=20.0, area=320.0, found=0.9)
    assert ObjectKnowledge().at_scale(2.0) == ObjectKnowledge()


def test_calibration_is_a_line_of_the_logits() -> None:
    probability = np.array([[0.0, 0.1, 0.5, 0.9, 1.0]], np.float32)
    calibrated = Calibration(temperature=2.0, bias=0.5)(probability)
    assert calibrated.dtype == np.float32
    inner = probability[0, 1:4].astype(np.float64)
    expected = 1 / (1 + np.exp(-(np.log(inner / (1 - inner)) / 2 + 0.5)))
    assert calibrated[0, 1:4] == pytest.approx(expected, abs=1e-6)
    assert 0 < calibrated[0, 0] < calibrated[0, 1] < calibrated[0, 3] < calibrated[0, 4] < 1
    assert Calibration(2.0, 0.5).before(float(calibrated[0, 1])) == pytest.approx(0.1, abs=1e-6)
    assert Calibration(1.0, 0.0)(probability) == pytest.approx(probability, abs=2e-6)
