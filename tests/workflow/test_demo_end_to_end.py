"""The whole method on a tiny sample field: killed half-way, run again, complete."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dvos.errors import UsageError

pytestmark = pytest.mark.end_to_end

SETTINGS = """
sample: {size: [128, 160], stills: 3, background_videos: 1, background_frames: 8,
         target_frames: 6, heldout_frames: 5}
clips: 12
epochs: 2
preview_clips: 1
min_object_size: 20
synthetic_share: 0.4
background_share: 0.3
train: {batch: 2, pictures: 1, data: {crop: 64}}
workers: 1
"""

#: What a user puts beside what the demo makes.
USERS = (
    *("notes.txt", "train/notes.txt", "train/predictions/field.mp4", "train/weights/a.txt"),
    *("clips/notes.txt", "clips/VID_00000/notes.txt", "predict/notes.txt", "frames/notes.txt"),
    *("objects/real/notes.txt", "predict/target/notes.txt", "heldout/notes.txt"),
)


def command(folder: Path) -> list[str]:
    return [
        *(sys.executable, "-c", "from dvos.cli.main import run; run()"),
        *("demo", "--config", str(folder / "demo.yaml"), "--out", str(folder / "run")),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that was killed while it trained, and then run again to its end."""
    folder = tmp_path_factory.mktemp("demo folder")
    (folder / "demo.yaml").write_text(SETTINGS)
    killed = subprocess.Popen(command(folder), stderr=subprocess.DEVNULL)
    records = folder / "run" / "train" / "records.csv"
    deadline = time.monotonic() + 300
    while not records.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "the demo ended before it could be killed"
    for name in USERS:
        (folder / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "run" / name).write_text("mine")
    result = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert str(folder / "run" / "report.html") in result.stdout
    return folder


def test_it_leaves_what_the_contract_names(folder: Path) -> None:
    run = folder / "run"
    for name in (
        *("report.html", "scores.json", "scores.csv", "train/best.safetensors"),
        *("train/config.yaml", "train/run.json", "train/losses.png", "train/last.ckpt"),
        *("predict/target.mp4", "predict/counts.csv", "stages.json"),
    ):
        assert (run / name).stat().st_size > 0, name
    masks = sorted((run / "predict" / "target").glob("*.png"))
    assert [path.name for path in masks] == [f"target_{i:06d}.png" for i in range(6)]
    scores = json.loads((run / "scores.json").read_text())
    assert scores["masks"] == 5
    assert scores["missing"] == 0
    assert 0 <= scores["pooled_dice"] <= 1
    with open(run / "predict" / "counts.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["frame_index"] for row in rows] == [str(i) for i in range(6)]


def test_training_went_on_where_it_was_killed(folder: Path) -> None:
    with open(folder / "run" / "train" / "records.csv", newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2"]
    facts = json.loads((folder / "run" / "train" / "run.json").read_text())
    assert set(facts["clips_by_source"]) == {"stills", "synthetic", "empty"}
    assert sum(facts["clips_by_source"].values()) == 12
    stages = json.loads((folder / "run" / "stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == [
        *("sample field", "extract frames", "extract objects", "synthesize", "train"),
        *("predict", "predict held-out", "score", "report"),
    ]
    assert all(stage["finished"] for stage in stages)


def test_what_it_started_from_is_kept_and_is_what_it_trained_from(folder: Path) -> None:
    start = json.loads((folder / "run" / "start.json").read_text())
    settings = yaml.safe_load((folder / "run" / "train" / "config.yaml").read_text())
    assert (settings["network"]["weights"] or None) == start["weights"]
    assert "Dice" in start["reason"]
    assert settings["start_share"] == 0


def test_what_a_user_put_there_stays(folder: Path) -> None:
    assert {(folder / "run" / name).read_text() for name in USERS} == {"mine"}


def test_nothing_half_written_is_left(folder: Path) -> None:
    assert not list((folder / "run").rglob(".writing-*"))


def test_run_again_it_changes_nothing(folder: Path) -> None:
    run = folder / "run"
    kept = ("train/best.safetensors", "predict/counts.csv", "scores.json", "clips/clips.csv")
    before = {name: (run / name).read_bytes() for name in kept}
    result = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert {name: (run / name).read_bytes() for name in kept} == before


def test_a_folder_with_other_settings_is_refused(folder: Path) -> None:
    import dvos

    with pytest.raises(UsageError, match="choose another out") as caught:
        dvos.demo(config=folder / "demo.yaml", out=folder / "run", clips=13, seed=4)
    assert len(caught.value.faults) == 2
