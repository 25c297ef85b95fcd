"""A whole fit of a tiny folder: planned, trained, cross-validated, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvos
from dvos.config import base
from dvos.config.load import load_settings
from dvos.config.training import TrainingSettings
from dvos.errors import UsageError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.networks.weights import read_network_info
from dvos.training import run as training_run
from dvos.workflow import planning
from dvos.workflow.fit import FitResult

pytestmark = pytest.mark.end_to_end

TRAIN = {
    "batch": 2,
    "pictures": 0,
    "network": {"encoder": "lite0", "dvos": "narrow"},
    "data": {"crop": 32},
}


def put_still(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    image = rng.integers(40, 90, (64, 96, 3), dtype=np.uint8)
    ids = np.zeros((64, 96), np.uint16)
    for each in range(6):
        top, left = 4 + 30 * (each // 3), 6 + 30 * (each % 3)
        ids[top : top + 18, left : left + 12] = each + 1
    image[ids > 0] += 120
    for name, write, pixels in (("images", write_image, image), ("masks", write_mask, ids)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        write(folder / name / f"s{number}.png", pixels)  # type: ignore[operator]


def fit(folder: Path, out: Path, **options: Any) -> FitResult:
    options = {"preview_clips": 0, "augment": "none", "workers": 1, **options}
    options = {"train": TRAIN, **options}
    found: FitResult = dvos.fit(folder, out=out, minutes=0.05, **options)
    return found


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitResult]:
    """A folder of two stills, and what became of it."""
    folder = tmp_path_factory.mktemp("fit")
    for number in range(2):
        put_still(folder / "data" / "annotated", number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "_CPU_STEPS", 1)
        return folder, fit(folder / "data", folder / "run")


def test_it_ends_with_a_network_a_figure_and_the_next_command(
    fitted: tuple[Path, FitResult],
) -> None:
    folder, found = fitted
    run = folder / "run"
    assert found.checkpoint == run / "best.safetensors"
    assert found.checkpoint.read_bytes() == (run / "train" / "best.safetensors").read_bytes()
    assert found.report == run / "report.html"
    scores = json.loads((run / "scores.json").read_text())
    assert scores["masks"] == 2
    assert scores["missing"] == 0
    assert scores["pooled_dice_interval"] is not None
    told = str(found).splitlines()
    assert [line.split(":")[0] for line in told[:5]] == ["data", "size", "mix", "start", "time"]
    assert told[-1].endswith(f"dvos predict VIDEO --checkpoint {found.checkpoint} --overlay")
    assert not (run / "timing").exists()


def test_its_network_follows_objects_that_the_masks_tell_apart(
    fitted: tuple[Path, FitResult],
) -> None:
    assert "objects" in read_network_info(fitted[1].checkpoint).arguments["heads"]


def test_no_fold_has_seen_what_it_is_judged_by(fitted: tuple[Path, FitResult]) -> None:
    for number in (1, 2):
        fold = fitted[0] / "run" / "folds" / str(number)
        held = (fold / "backgrounds.csv").read_text()
        seen = (fold / "annotated.csv").read_text() + (fold / "cutouts.csv").read_text()
        assert ("s0" in held) != ("s0" in seen)
        assert ("s1" in held) != ("s1" in seen)


def test_started_again_it_changes_nothing(fitted: tuple[Path, FitResult]) -> None:
    folder, before = fitted
    names = ("plan.json", "best.safetensors", "scores.json", "folds/1/train/best.safetensors")
    kept = {name: (folder / "run" / name).read_bytes() for name in names}
    # The plan would be another one on a machine of another speed: it is not made again.
    again = fit(folder / "data", folder / "run")
    assert {name: (folder / "run" / name).read_bytes() for name in names} == kept
    assert again.plan == before.plan
    with pytest.raises(UsageError, match="choose another out"):
        fit(folder / "data", folder / "run", seed=5)


def test_larger_clips_are_what_it_trains_on(
    fitted: tuple[Path, FitResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_MANY_CLIPS", 1)
    monkeypatch.setattr(planning, "_LARGE_CROP", 64)
    monkeypatch.setattr(training_run, "_CPU_STEPS", 1)
    train = {**TRAIN, "data": {"validation": {"largest_side": 64}}}
    found = fit(fitted[0] / "data", tmp_path / "run", train=train, folds=0)
    assert found.plan.crop == 64
    assert "crops of 64 pixels" in str(found)
    trained = load_settings(TrainingSettings, config=tmp_path / "run" / "train" / "config.yaml")
    assert trained.data.crop == 64
    again = fit(fitted[0] / "data", tmp_path / "run", train=train, folds=0)
    assert again.plan == found.plan


@pytest.mark.parametrize("given", [True, False])
def test_photos_without_labels_are_learnt_from_with_a_network_to_start_from(
    fitted: tuple[Path, FitResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    given: bool,
) -> None:
    found = fitted[1]
    put_still(tmp_path / "data", 7)
    (tmp_path / "data" / "images").rename(tmp_path / "data" / "unlabelled")
    package = tmp_path / "package"
    monkeypatch.setattr(base, "files", lambda _: package)
    with pytest.raises(UsageError, match="nothing in it is labelled, and no network is given"):
        fit(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (package / "weights").mkdir(parents=True)
    shutil.copy(found.checkpoint, package / "weights/wheat.safetensors")
    start = {"start": found.checkpoint} if given else {}
    adapted = fit(tmp_path / "data", tmp_path / "run", **start)
    assert ("the starter weights wheat label it" in caplog.text) != given
    assert adapted.scores is None
    assert adapted.plan.clips == 0
    assert adapted.plan.rounds == 1
    assert (tmp_path / "run" / "rounds" / "rounds.json").is_file()
    assert adapted.checkpoint.is_file()
