from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from dvos.api import load_predictor
from dvos.config.prediction import PredictionSettings
from dvos.errors import CheckpointError, DvosError, MediaError, OutputError, UsageError
from dvos.media.image import read_image, write_image
from dvos.media.mask import read_mask
from dvos.media.video import VideoFile, VideoFrame
from dvos.media.video_write import VideoWriter
from dvos.prediction import write
from dvos.prediction.predict import PredictResult, predict
from dvos.prediction.predictor import FramePrediction
from dvos.registry import predictor_for

SIZE = (40, 48)


def _frame(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(4, 0).repeat(4, 1))


def _frames(folder: Path, count: int, seed: int = 0) -> Path:
    for index in range(count):
        write_image(folder / f"f{index}.png", _frame(seed + index))
    return folder


def _video(path: Path, count: int = 5) -> Path:
    with VideoWriter(path, frame_rate=10, size=SIZE) as video:
        for index in range(count):
            video.write(_frame(index))
    return path


def _predict(checkpoint: Path, source: Path, out: Path, **options: Any) -> PredictResult:
    values = {"checkpoint": checkpoint, "input": source, "out": out, "device": "cpu", **options}
    return predict(PredictionSettings.model_validate(values), predictor_for)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
    }


def _counts(out: Path) -> list[dict[str, str]]:
    with open(out / "counts.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_video_becomes_masks_counts_and_an_overlay(checkpoint: Path, tmp_path: Path) -> None:
    result = _predict(checkpoint, _video(tmp_path / "field.mp4"), tmp_path / "out", overlay=True)
    names = [f"field_{index:06d}" for index in range(5)]
    masks = [read_mask(tmp_path / f"out/field/{name}.png") for name in names]
    assert all(mask.shape == SIZE for mask in masks)
    assert set(np.unique(np.stack(masks))) == {0, 255}
    rows = _counts(tmp_path / "out")
    assert list(rows[0])[:5] == ["clip", "frame_index", "time_s", "coverage", "count"]
    assert [row["frame"] for row in rows] == names
    assert [float(row["time_s"]) for row in rows] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [float(row["coverage"]) for row in rows] == [float((m > 0).mean()) for m in masks]
    assert result.clips[0].overlay == tmp_path / "out/field.mp4"
    overlay = VideoFile(tmp_path / "out/field.mp4")
    assert (overlay.size, overlay.frame_count) == (SIZE, 5)
    assert result.frames == 5


def test_probabilities_on_request(checkpoint: Path, tmp_path: Path) -> None:
    _predict(checkpoint, _frames(tmp_path / "clip", 2), tmp_path / "out", probabilities=True)
    soft = read_mask(tmp_path / "out/clip/probabilities/f1.png")
    assert soft.dtype == np.uint16
    mask = read_mask(tmp_path / "out/clip/f1.png") > 0
    assert soft[mask].min() >= 32767
    assert soft[~mask].max() <= 32768


def test_stills_give_one_mask_each(checkpoint: Path, tmp_path: Path) -> None:
    _frames(tmp_path / "photos", 2)
    result = _predict(checkpoint, tmp_path / "photos", tmp_path / "out", stills=True, overlay=True)
    assert set(_contents(tmp_path / "out")) == {
        "counts.csv", "f0/f0.png", "f1/f1.png", "overlays/f0.jpg", "overlays/f1.jpg",
    }  # fmt: skip
    assert [row["frame_index"] for row in _counts(tmp_path / "out")] == ["0", "0"]
    assert result.frames == 2
    drawn = read_image(tmp_path / "out/overlays/f0.jpg")
    assert drawn.shape == (*SIZE, 3)
    # The count is written into it.
    frame = VideoFrame(0, 0.0, "f0", read_image(tmp_path / "photos/f0.png"))
    count = float(_counts(tmp_path / "out")[0]["count"])
    as_said, other = (write.overlaid(frame, tmp_path / "out/f0", n) for n in (count, count + 8))
    assert not np.array_equal(as_said, other)
    near, far = (np.abs(drawn - one.astype(float)).mean() for one in (as_said, other))
    assert near < far


class _KilledError(BaseException):
    pass


def _kill_at(monkeypatch: pytest.MonkeyPatch, frames: int) -> list[str]:
    """Let the process "die" after some masks; give the names of those written."""
    written: list[str] = []
    original = write.write_mask

    def write_mask(path: Path, mask: np.ndarray) -> None:
        if len(written) >= frames:
            raise _KilledError
        original(path, mask)
        written.append(path.stem)

    monkeypatch.setattr(write, "write_mask", write_mask)
    return written


@pytest.mark.parametrize("batch", [1, 3])
def test_a_killed_run_goes_on_at_the_next_frame_with_the_same_result(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    for name, seed in (("a", 0), ("b", 50)):
        _frames(tmp_path / "clips" / name, 7, seed)
    options = {"overlay": True, "batch": batch}
    _predict(checkpoint, tmp_path / "clips", tmp_path / "whole", **options)
    for killed_at in (2, 4, 3):
        with monkeypatch.context() as patch:
            _kill_at(patch, killed_at)
            with pytest.raises(_KilledError):
                _predict(checkpoint, tmp_path / "clips", tmp_path / "out", **options)
    with monkeypatch.context() as patch:
        written = _kill_at(patch, 1000)
        result = _predict(checkpoint, tmp_path / "clips", tmp_path / "out", **options)
    assert len(written) < 14
    assert sum(clip.continued_at for clip in result.clips) + len(written) == 14
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")


def test_finished_work_is_not_done_again_until_something_changes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = _frames(tmp_path / "clip", 3), tmp_path / "out"
    _predict(checkpoint, source, out)
    before = _contents(out)
    written = _kill_at(monkeypatch, 1000)
    assert _predict(checkpoint, source, out).clips[0].continued_at == 3
    assert written == []
    assert _contents(out) == before
    _predict(checkpoint, source, out, threshold=0.4)
    assert sorted(written) == ["f0", "f1", "f2"]
    (source / "f2.png").unlink()
    _predict(checkpoint, source, out, threshold=0.4)
    assert sorted(path.name for path in (out / "clip").iterdir()) == ["f0.png", "f1.png"]


def test_overlay_asked_for_later_needs_no_second_prediction(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = _frames(tmp_path / "clip", 3), tmp_path / "out"
    _predict(checkpoint, source, out)
    written = _kill_at(monkeypatch, 1000)
    _predict(checkpoint, source, out, overlay=True)
    assert written == []
    assert (out / "clip.mp4").is_file()


def test_bad_clips_are_reported_together_and_the_others_kept(
    checkpoint: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    _video(videos / "a.mp4", 3)
    (videos / "b.mp4").write_bytes(b"not a video")
    (videos / "c.mp4").write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        _predict(checkpoint, videos, tmp_path / "out")
    assert len(caught.value.faults) == 2
    assert {"b.mp4", "c.mp4"} == {Path(fault.where).name for fault in caught.value.faults}
    assert len(_counts(tmp_path / "out")) == 3


def test_frames_of_changing_size_keep_what_came_before(checkpoint: Path, tmp_path: Path) -> None:
    from dvos.tables import ClipRow, write_clips

    _frames(tmp_path / "clip", 3)
    write_image(tmp_path / "clip/f3.png", np.zeros((30, 30, 3), np.uint8))
    rows = [ClipRow("", "v", k, tmp_path / f"clip/f{k}.png", None, 0) for k in range(4)]
    write_clips(tmp_path / "clips.csv", rows)
    with pytest.raises(MediaError, match=r"f3: is 30 x 30 pixels; expected 48 x 40"):
        _predict(checkpoint, tmp_path / "clips.csv", tmp_path / "out")
    assert len(_counts(tmp_path / "out")) == 3


def test_results_never_replace_the_input(checkpoint: Path, tmp_path: Path) -> None:
    _frames(tmp_path / "clips/a", 2)
    video = _video(tmp_path / "field.mp4")
    before = _contents(tmp_path)
    with pytest.raises(UsageError, match="would replace its frames"):
        _predict(checkpoint, tmp_path / "clips", tmp_path / "clips")
    with pytest.raises(UsageError, match="would replace its frames"):
        _predict(checkpoint, video, tmp_path, overlay=True)
    assert _contents(tmp_path) == before


def _damaged(checkpoint: Path, folder: Path) -> Path:
    path = folder / "damaged.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:200])
    return path


def _foreign(checkpoint: Path, folder: Path) -> Path:
    path = folder / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    return path


@pytest.mark.parametrize(
    "make", [_damaged, _foreign, lambda checkpoint, folder: folder / "nowhere.safetensors"]
)
def test_checkpoints_of_another_kind(checkpoint: Path, tmp_path: Path, make: Any) -> None:
    _frames(tmp_path / "clip", 1)
    with pytest.raises(CheckpointError) as caught:
        _predict(make(checkpoint, tmp_path), tmp_path / "clip", tmp_path / "out")
    assert len(caught.value.faults) == 1


def test_places_that_cannot_be_read_or_written(checkpoint: Path, tmp_path: Path) -> None:
    _frames(tmp_path / "clip", 1)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        _predict(checkpoint, tmp_path / "clip", tmp_path / "file/out")
    with pytest.raises(UsageError, match="no such file or folder"):
        _predict(checkpoint, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="'abacus' is not available"):
        _predict(checkpoint, tmp_path / "clip", tmp_path / "out", device="abacus")


def test_a_disk_that_fills_up_keeps_the_work_so_far(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _frames(tmp_path / "clip", 6)
    original = write.write_mask

    def write_mask(path: Path, mask: np.ndarray) -> None:
        if path.stem == "f2":
            raise OutputError.at(path, "cannot be written (No space left on device)")
        original(path, mask)

    monkeypatch.setattr(write, "write_mask", write_mask)
    with pytest.raises(OutputError, match="No space left"):
        _predict(checkpoint, source, tmp_path / "out")
    assert [row["frame"] for row in _counts(tmp_path / "out")] == ["f0", "f1"]


def test_load_predictor_segments_what_predict_writes(checkpoint: Path, tmp_path: Path) -> None:
    source = _frames(tmp_path / "clip", 4)
    _predict(checkpoint, source, tmp_path / "out")
    predictor = load_predictor(checkpoint, device="cpu")
    assert predictor.context == 3
    for one in predictor.segment(source):
        assert isinstance(one, FramePrediction)
        assert one.probability.dtype == np.float32
        stored = read_mask(tmp_path / f"out/clip/{one.name}.png") > 0
        assert (stored == one.mask).all()


def test_a_truncated_video_is_used_as_far_as_it_goes(checkpoint: Path, tmp_path: Path) -> None:
    whole = _video(tmp_path / "whole.mkv", 60)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    try:
        expected = sum(1 for _ in VideoFile(cut))
    except DvosError:
        pytest.fail("the cut file should still be readable")
    result = _predict(checkpoint, cut, tmp_path / "out")
    assert 0 < result.frames == expected < 60
    shutil.rmtree(tmp_path / "out")
