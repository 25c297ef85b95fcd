"""Every so many frames of a clip: names, numbers, times, video and tracks keep to the source's."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predictor_contract import textured
from pydantic import ValidationError
from white_predictor import WhitePredictor

from dvos.api import load_predictor
from dvos.config.prediction import PredictionSettings
from dvos.media.video import VideoFile
from dvos.media.video_write import VideoWriter
from dvos.prediction.predict import predict

SIZE = (64, 96)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_frames_that_are_left_refer_to_each_other(checkpoint: Path, batch: int) -> None:
    frames = textured(11)
    expected = list(load_predictor(checkpoint, "cpu").segment(frames[::3]))
    predictor = load_predictor(checkpoint, "cpu", every=3, batch=batch)
    found = list(predictor.segment(frames))
    assert [one.frame_index for one in found] == [0, 3, 6, 9]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)
    later = list(predictor.segment(frames, start=4))
    assert [one.frame_index for one in later] == [6, 9]
    for one, other in zip(later, found[2:], strict=True):
        assert one.probability.tobytes() == other.probability.tobytes()


def test_references_lie_as_near_to_those_of_training_as_the_frames_allow(checkpoint: Path) -> None:
    plain = load_predictor(checkpoint, "cpu", reference_interval=4)
    assert load_predictor(checkpoint, "cpu", reference_interval=4, every=2).context == plain.context
    assert load_predictor(checkpoint, "cpu", reference_interval=4, every=3).context == (
        plain.context * 3 // 4
    )


def _video(path: Path, frames: int = 20) -> Path:
    """Squares that move to the right, one pixel a frame."""
    with VideoWriter(path, frame_rate=10, size=SIZE) as video:
        for index in range(frames):
            image = np.zeros((*SIZE, 3), np.uint8)
            for row in range(2):
                for column in range(4):
                    top, left = 8 + 30 * row, 4 + 20 * column + index
                    image[top : top + 10, left : left + 10] = 255
            video.write(image)
    return path


def _predict(tmp_path: Path, **options: Any) -> Path:
    checkpoint, out = tmp_path / "best.safetensors", tmp_path / "out"
    checkpoint.write_bytes(b"weights")
    given = {"checkpoint": checkpoint, "input": tmp_path / "field.mp4", "out": out, "every": 4}
    predict(PredictionSettings.model_validate(given | options), WhitePredictor)
    return out


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_names_numbers_times_and_video_are_in_step(tmp_path: Path) -> None:
    _video(tmp_path / "field.mp4")
    out = _predict(tmp_path, overlay=True)
    wanted = [0, 4, 8, 12, 16]
    names = [f"field_{index:06d}" for index in wanted]
    assert sorted(path.stem for path in (out / "field").glob("*.png")) == names
    rows = _table(out / "counts.csv")
    assert [(int(row["frame_index"]), row["frame"]) for row in rows] == list(
        zip(wanted, names, strict=True)
    )
    assert [float(row["time_s"]) for row in rows] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    assert {row["count"] for row in rows} == {"8"}
    assert [frame.time_s for frame in VideoFile(out / "field.mp4")] == pytest.approx(
        [0, 0.4, 0.8, 1.2, 1.6], abs=1e-3
    )


def test_tracks_link_the_steps_and_a_run_goes_on(tmp_path: Path) -> None:
    _video(tmp_path / "field.mp4")
    out = _predict(tmp_path, tracks=True)
    tracks = _table(out / "field.tracks.csv")
    assert len(tracks) == 8
    assert {(row["first_frame"], row["last_frame"], row["frames"]) for row in tracks} == {
        ("0", "16", "5")
    }
    assert _table(out / "totals.csv")[0]["distinct"] == "8"
    whole = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    (out / "field/field_000012.png").unlink()
    _predict(tmp_path, tracks=True)
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == whole


@pytest.mark.parametrize("options", [{"stills": True}, {"format": "ctc"}])
def test_where_every_frame_is_needed_it_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="every is 2"):
        PredictionSettings.model_validate({"input": "clip", "every": 2} | options)
