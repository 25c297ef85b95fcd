from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvos.config.prediction import EvaluationSettings
from dvos.errors import OutputError, RunError, UsageError
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask
from dvos.prediction.predict import EvaluationResult, evaluate
from dvos.registry import predictor_for
from dvos.runner.shards import taken_folder
from dvos.tables import ClipRow, write_clips

SIZE = (32, 40)


def _labelled(root: Path, frames: int = 4) -> list[ClipRow]:
    rng = np.random.default_rng(0)
    rows = []
    for fid in range(frames):
        image, mask = root / f"frames/a/{fid}.png", root / f"masks/a/{fid}.png"
        write_image(image, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        write_mask(mask, rng.random(SIZE) < 0.4)
        rows.append(ClipRow("", "a", fid, image, mask, int(fid >= 2)))
    return rows


def _evaluate(checkpoint: Path, tmp_path: Path, **options: Any) -> EvaluationResult:
    values = {"checkpoint": checkpoint, "out": tmp_path / "out", "device": "cpu", **options}
    return evaluate(EvaluationSettings.model_validate(values), predictor_for)


def test_labelled_clips_of_a_table(checkpoint: Path, tmp_path: Path) -> None:
    rows = _labelled(tmp_path)
    write_clips(tmp_path / "clips.csv", rows)
    result = _evaluate(checkpoint, tmp_path, truth=tmp_path / "clips.csv")
    assert result.prediction.frames == 4
    assert [mask.pair.name for mask in result.scores.masks] == ["2", "3"]
    found = [read_mask(tmp_path / f"out/predictions/a/{k}.png") > 0 for k in (2, 3)]
    true = [read_mask(rows[k].mask) > 0 for k in (2, 3)]  # type: ignore[arg-type]
    both = sum(int((f & t).sum()) for f, t in zip(found, true, strict=True))
    size = sum(int(f.sum() + t.sum()) for f, t in zip(found, true, strict=True))
    stored = json.loads((tmp_path / "out/scores.json").read_text())
    assert stored["pooled_dice"] == pytest.approx(2 * both / size)
    assert (tmp_path / "out/scores.csv").is_file()
    assert (tmp_path / "out/worst.png").is_file()


def test_one_run_at_a_time_and_no_file_of_a_user(checkpoint: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "clips.csv", _labelled(tmp_path))
    given = {"checkpoint": checkpoint, "tmp_path": tmp_path, "truth": tmp_path / "clips.csv"}
    with taken_folder(tmp_path / "out"), ThreadPoolExecutor() as other:
        with pytest.raises(RunError, match="out: another run is at work here"):
            other.submit(_evaluate, **given).result()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/worst.png").write_text("of a user")
    with pytest.raises(OutputError, match=r"worst\.png: is there"):
        _evaluate(**given)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["worst.png"]


def test_frames_beside_masks_and_given_apart(checkpoint: Path, tmp_path: Path) -> None:
    _labelled(tmp_path / "root")
    beside = _evaluate(checkpoint, tmp_path, truth=tmp_path / "root")
    assert len(beside.scores.masks) == 4
    apart = _evaluate(
        checkpoint, tmp_path, truth=tmp_path / "root/masks", input=tmp_path / "root/frames"
    )
    assert apart.scores.pooled_dice == beside.scores.pooled_dice


def test_stills(checkpoint: Path, tmp_path: Path) -> None:
    _labelled(tmp_path / "root")
    result = _evaluate(
        checkpoint,
        tmp_path,
        truth=tmp_path / "root/masks/a",
        input=tmp_path / "root/frames/a",
        stills=True,
    )
    assert not result.scores.missing
    assert {mask.pair.clip for mask in result.scores.masks} == {"0", "1", "2", "3"}


def test_truth_without_frames(checkpoint: Path, tmp_path: Path) -> None:
    _labelled(tmp_path / "root")
    with pytest.raises(UsageError, match="holds no folder named frames"):
        _evaluate(checkpoint, tmp_path, truth=tmp_path / "root/masks/a")
