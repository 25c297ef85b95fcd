"""Objects of another size than in training are told, and a fitting scale is found and kept."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from white_predictor import WhitePredictor

from dvos.config.prediction import PredictionSettings
from dvos.errors import OutputError
from dvos.media.image import write_image
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.inputs import find_clips
from dvos.prediction.predict import PredictResult, predict
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.scale import ClipScale, fitting_scale, measure_scale

#: Side of the squares in the pictures, and their usual area in training.
SIDE, USUAL = 12, 36.0


class Scaled(WhitePredictor):
    """A predictor that has learnt to count squares of a quarter of the area; notes its scales."""

    seen: ClassVar[list[float]] = []

    def __init__(self, options: Any, usual: float = USUAL, scale: float = 1.0) -> None:
        super().__init__(options)
        self.calibration = CountCalibration(area=usual, sizes=(usual / 2.5, usual * 2.5))
        self.scale = scale

    def novelty(self, image: np.ndarray) -> float | None:
        return None

    def at_scale(self, scale: float) -> Scaled:
        own = copy.copy(self)
        own.calibration, own.scale = self.calibration.at_scale(scale), scale
        return own

    def segment(self, video_or_frames: Any, *, start: int = 0) -> Iterator[FramePrediction]:
        frames = video_or_frames
        for one in super().segment(frames, start=start):
            if not isinstance(frames, list):
                self.seen.append(self.scale)
            yield one


def _clip(folder: Path, squares: int = 3, frames: int = 5) -> Path:
    image = np.zeros((80, 80, 3), np.uint8)
    for row in range(squares):
        for column in range(3):
            top, left = 4 + 20 * row, 4 + 20 * column
            image[top : top + SIDE, left : left + SIDE] = 255
    for index in range(frames):
        write_image(folder / f"f{index}.png", image)
    return folder


def _predict(tmp_path: Path, load: Any = Scaled, **options: Any) -> PredictResult:
    checkpoint = tmp_path / "best.safetensors"
    checkpoint.write_bytes(b"weights")
    given = {"checkpoint": checkpoint, "input": tmp_path / "clip", "out": tmp_path / "out"}
    return predict(PredictionSettings.model_validate(given | options), load)


def test_a_scale_brings_an_area_to_the_usual_one() -> None:
    assert fitting_scale(1.0, 1042 / 4122) == 0.5
    assert fitting_scale(0.5, 4) == 1.0
    assert fitting_scale(1.0, 1e9) == 8.0
    assert not ClipScale("", 1.0, 82, 4122, (417, 2605)).fits
    assert ClipScale("", 1.0, 82, 4122, (417, 2605)).ratio == pytest.approx(0.253, abs=1e-3)
    assert ClipScale("", 1.0, 82, 1000, (900, 1900)).fits
    assert ClipScale("", 1.0, 19, 1000, (900, 1900)).ratio is None


def test_objects_of_another_size_are_told_with_both_areas(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _clip(tmp_path / "clip")
    with caplog.at_level(logging.WARNING):
        _predict(tmp_path)
    (line,) = [text for text in caplog.messages if "do not trust" in text]
    assert line.startswith("clip: objects of 144 pixels were found")
    assert "of 14 to 90: do not trust the counts; try --scale 0.5, or --scale auto" in line


@pytest.mark.parametrize("options", [{"object_width": 12.0}, {"usual": 100.0}, {"frames": 1}])
def test_nothing_is_told_of_usual_sizes_or_few_objects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    _clip(tmp_path / "clip", frames=options.pop("frames", 5))
    usual = options.pop("usual", USUAL)
    _predict(tmp_path, lambda chosen: Scaled(chosen, usual), **options)
    assert "do not trust" not in caplog.text


def test_auto_takes_a_fitting_scale_notes_it_and_keeps_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _clip(tmp_path / "clip")
    Scaled.seen.clear()
    _predict(tmp_path, scale="auto")
    assert Scaled.seen == [0.5] * 5
    assert "do not trust" not in caplog.text
    noted = json.loads((tmp_path / "out/run.json").read_text())["scales"]["clip"]
    assert (noted["scale"], noted["objects"], noted["area"]) == (0.5, 36, 144.0)
    assert noted["sizes"] == [57.6, 360.0]
    # A run that goes on takes the scale it began with, whatever it would measure now.
    (tmp_path / "out/clip/f4.png").unlink()
    record = tmp_path / "out/.progress/clip.scale.json"
    record.write_text(record.read_text().replace('"scale": 0.5', '"scale": 0.6'))
    Scaled.seen.clear()
    _predict(tmp_path, scale="auto")
    assert Scaled.seen == [0.6]


def test_auto_changes_nothing_where_few_objects_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _clip(tmp_path / "clip", squares=1, frames=2)
    Scaled.seen.clear()
    with caplog.at_level(logging.WARNING):
        _predict(tmp_path, scale="auto")
    assert Scaled.seen == [1.0] * 2
    assert "clip: too few objects were found to tell a scale (20 are needed)" in caplog.text


def test_a_network_that_knows_no_size_is_left_as_it_is(tmp_path: Path) -> None:
    (clip,) = find_clips(_clip(tmp_path / "clip"))
    found = measure_scale(clip, WhitePredictor(None), "")
    assert (found.scale, found.fits, found.sizes) == (1.0, False, None)


def test_a_users_run_json_is_not_replaced(tmp_path: Path) -> None:
    _clip(tmp_path / "clip")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=r"run\.json"):
        _predict(tmp_path, scale="auto")
