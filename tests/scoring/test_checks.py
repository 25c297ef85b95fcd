from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import dvos.scoring.measure as measuring
from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError, OutputError, RunError, UsageError
from dvos.media.mask import write_mask
from dvos.runner.shards import taken_folder
from dvos.scoring.score import score
from dvos.scoring.summary import Scores


def _write(folder: Path, clip: str, frames: range, *, first: int = 0) -> None:
    """A disc that crosses a picture, its frames numbered from ``first``."""
    for frame in frames:
        mask = np.zeros((24, 80), np.uint8)
        cv2.circle(mask, (8 + 6 * frame, 12), 7, 1, -1)
        write_mask(folder / clip / f"{frame + first:03d}.png", mask > 0)


def _score(tmp_path: Path, **options: object) -> Scores:
    given = {"truth": tmp_path / "truth", "predictions": tmp_path / "predictions"}
    given |= {"out": tmp_path / "out", "workers": 1}
    return score(ScoringSettings.model_validate(given | options))


def test_scores_of_another_truth_are_not_replaced(tmp_path: Path) -> None:
    for name in ("truth", "other", "predictions"):
        _write(tmp_path / name, "a", range(3))
    before = _score(tmp_path)
    with pytest.raises(OutputError, match=r"scores of another truth, \S+/truth; .*choose another"):
        _score(tmp_path, truth=tmp_path / "other")
    assert json.loads((tmp_path / "out/scores.json").read_text())["truth"] == "../truth"
    assert _score(tmp_path).figures == before.figures
    # Both may be moved together, and a folder of an earlier version says nothing of its truth.
    told = json.loads((tmp_path / "out/scores.json").read_text())
    del told["truth"]
    (tmp_path / "out/scores.json").write_text(json.dumps(told))
    assert _score(tmp_path, truth=tmp_path / "other").figures == before.figures


@pytest.mark.parametrize("spoilt", [None, "{", "[]", '{"masks": 3}', "\\xff"])
@pytest.mark.parametrize("name", ["best.png", "scores.csv", "overlays/a_001.png", "tracks.json"])
def test_a_users_own_files_are_not_replaced(tmp_path: Path, name: str, spoilt: str | None) -> None:
    for folder in ("truth", "predictions"):
        _write(tmp_path / folder, "a", range(2))
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("of a user")
    if spoilt is not None:
        (tmp_path / "out/scores.json").write_bytes(spoilt.encode("latin-1"))
    with pytest.raises(OutputError, match=f"{name}: is there, and dvos score is not known"):
        _score(tmp_path, overlay_interval=1, tracks=name == "tracks.json")
    assert (tmp_path / "out" / name).read_text() == "of a user"
    # Of a folder that scores were written into, what bears such a name is theirs.
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out/scores.json").unlink(missing_ok=True)
    _score(tmp_path)
    _score(tmp_path, overlay_interval=1)


@pytest.mark.parametrize("out", ["truth", "truth/a", "predictions/a", "link"])
def test_no_picture_is_drawn_among_the_masks(tmp_path: Path, out: str) -> None:
    for folder in ("truth", "predictions"):
        _write(tmp_path / folder, "a", range(2))
    (tmp_path / "link").symlink_to(tmp_path / "truth")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="holds the masks that are scored; expected a folder apar"):
        _score(tmp_path, out=tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before
    # Beside folders of predictions they are no masks.
    assert _score(tmp_path, out=tmp_path / "predictions").figures == _score(tmp_path).figures


def test_two_runs_do_not_score_into_one_folder_at_once(tmp_path: Path) -> None:
    for folder in ("truth", "predictions"):
        _write(tmp_path / folder, "a", range(2))
    with (
        taken_folder(tmp_path / "out"),
        ThreadPoolExecutor() as other,
        pytest.raises(RunError, match="out: another run is at work here"),
    ):
        other.submit(_score, tmp_path).result()
    assert not (tmp_path / "out").exists()
    _score(tmp_path)


def test_a_name_that_is_no_text_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("truth", "predictions"):
        _write(tmp_path / name, "a", range(2))
        (tmp_path / name / "a/001.png").rename(tmp_path / name / os.fsdecode(b"a/\xff.png"))
    monkeypatch.setattr(measuring, "_read", lambda _: pytest.fail("was measured"))
    with pytest.raises(MediaError, match="not valid Unicode") as caught:
        _score(tmp_path)
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(("first", "number"), [(1, "lower"), (-1, "higher")])
def test_numbers_that_are_one_off_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int, number: str
) -> None:
    _write(tmp_path / "truth", "a", range(1, 10), first=first)
    _write(tmp_path / "predictions", "a", range(12))
    with caplog.at_level(logging.WARNING):
        _score(tmp_path)
    assert [f"one {number}" in line for line in caplog.messages] == [True]
    caplog.clear()
    _score(tmp_path, predictions=tmp_path / "truth")
    assert not caplog.messages


def test_processes_and_threads_give_the_same_scores_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, shift in (("truth", 0), ("predictions", 2)):
        for frame in range(20):
            mask = np.zeros((40, 40), np.uint8)
            cv2.circle(mask, (20 + shift, 12), 7, 1, -1)
            cv2.circle(mask, (20, 30), 6, 2, -1)
            # A border of 255, as VOC has it, in some frames of the second run.
            if frame > 16:
                cv2.circle(mask, (20, 30), 6, 255, 2)
            write_mask(tmp_path / name / f"a/{frame:03d}.png", mask)
    write_mask(tmp_path / "predictions/a/003.png", np.zeros((40, 40), np.uint8))
    outputs, words = [], []
    for many in (10**9, 0):
        monkeypatch.setattr(measuring, "_MANY", many)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            _score(tmp_path, workers=2)
        words.append(list(caplog.messages))
        outputs.append(
            [(tmp_path / f"out/{name}").read_bytes() for name in ("scores.csv", "scores.json")]
        )
    assert outputs[0] == outputs[1]
    assert "255" in words[1][0]
    assert len(words[1]) == 1
