"""A run is refused where what it learnt from is no longer what it was; a copy is the same."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from dvos.config.workflow import DemoSettings, FitSettings
from dvos.errors import RunError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.tables import ClipRow, write_clips
from dvos.workflow import demo as demo_run
from dvos.workflow import fit as fit_run
from dvos.workflow.data_folder import read_data_folder
from dvos.workflow.pipeline import check_data
from dvos.workflow.planning import Plan
from dvos.workflow.steps import MethodFolder

NAMES = ("annotated", "validation")


def put_still(folder: Path, name: str, value: int = 1) -> None:
    for inner, write in (("images", write_image), ("masks", write_mask)):
        (folder / inner).mkdir(parents=True, exist_ok=True)
        shape = (20, 30, 3) if inner == "images" else (20, 30)
        write(folder / inner / f"{name}.png", np.full(shape, value, np.uint8))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A data folder and the folder of a fit that has made its plan by it."""
    project = tmp_path / "project"
    data, run = project / "data", project / "run"
    for name in NAMES:
        put_still(data / name, "a")
    put_still(project / "clip", "f")
    frame, mask = project / "clip/images/f.png", project / "clip/masks/f.png"
    write_clips(data / "clips.csv", [ClipRow("", "c", 0, frame, mask, label=1)])
    for name in ("backgrounds/b.png", "unlabelled/u.png", "unlabelled/frames/f.png"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(data / name, np.zeros((20, 30, 3), np.uint8))
    run.mkdir()
    check(project)
    (run / "plan.json").write_text("{}")
    check(project)
    return project


def check(project: Path) -> None:
    check_data(MethodFolder(project / "run", "fit"), read_data_folder(project / "data"))


@pytest.mark.parametrize(
    "name",
    [
        *(f"data/{name}/{inner}/a.png" for name in NAMES for inner in ("images", "masks")),
        *("clip/images/f.png", "clip/masks/f.png", "data/backgrounds/b.png"),
        *("data/unlabelled/u.png", "data/unlabelled/frames/f.png"),
    ],
)
def test_an_edited_file_is_named(project: Path, name: str) -> None:
    if "/masks/" in name:
        write_mask(project / name, np.full((20, 30), 2, np.uint8))
    else:
        write_image(project / name, np.full((20, 30, 3), 2, np.uint8))
    told = rf"{name}: changed since the run in .*run began; choose another --out, or delete the fol"
    for _ in range(2):
        with pytest.raises(RunError, match=told) as caught:
            check(project)
        assert len(caught.value.faults) == 1


def test_what_was_added_and_what_is_gone_is_named(project: Path) -> None:
    write_image(project / "data/unlabelled/v.png", np.zeros((20, 30, 3), np.uint8))
    (project / "data/unlabelled/u.png").unlink()
    (project / "data/annotated/masks/void.txt").write_text("none")
    with pytest.raises(RunError) as caught:
        check(project)
    lines = [str(fault).removeprefix(f"{project}/data/") for fault in caught.value.faults]
    assert [line.split(" since")[0] for line in lines] == [
        "annotated/masks/void.txt: changed",
        "unlabelled/u.png: is gone",
        "unlabelled/v.png: is new",
    ]


def test_of_a_still_that_was_added_what_is_there_is_named(project: Path) -> None:
    put_still(project / "data/annotated", "z")
    put_still(project / "data/validation", "z")
    with pytest.raises(RunError) as caught:
        check(project)
    lines = [str(fault).removeprefix(f"{project}/data/") for fault in caught.value.faults]
    assert [line.split(" since")[0] for line in lines] == [
        f"{name}/{inner}/z.png: is new"
        for name in ("annotated", "validation")
        for inner in ("images", "masks")
    ]


def test_of_a_folder_of_frames_only_these_count(project: Path) -> None:
    folder = project / "data/unlabelled/frames"
    (folder / "notes.txt").write_text("beside them")
    put_still(folder / "annotated", "f")
    check(project)
    write_image(folder / "g.png", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(RunError, match=r"g\.png: is new since"):
        check(project)


def test_a_copy_a_move_and_a_run_of_an_earlier_version_go_on(project: Path) -> None:
    for file in (project / "data").rglob("*.png"):
        os.utime(file, (1, 1))
    check(project)
    moved = project.rename(project.with_name("moved"))
    table = moved / "data/clips.csv"
    table.write_text(table.read_text().replace(str(project), str(moved)))
    check(moved)
    copy = moved.with_name("copy")
    shutil.copytree(moved, copy)
    text = (copy / "data/clips.csv").read_text()
    (copy / "data/clips.csv").write_text(text.replace(str(moved), str(copy)))
    with pytest.raises(RunError, match="is gone since"):
        check_data(MethodFolder(moved / "run", "fit"), read_data_folder(copy / "data"))
    (moved / "run/data.json").unlink()
    write_image(moved / "data/annotated/images/a.png", np.full((20, 30, 3), 9, np.uint8))
    check(moved)
    check(moved)


def test_before_there_is_a_plan_data_may_change(project: Path) -> None:
    (project / "run/plan.json").unlink()
    (project / "run/start.json").write_text("{}")
    check(project)
    assert (project / "run/start.json").is_file()
    write_image(project / "data/annotated/images/a.png", np.full((20, 30, 3), 9, np.uint8))
    check(project)
    assert not (project / "run/start.json").exists()
    (project / "run/train").mkdir()
    (project / "run/train/config.yaml").write_text("")
    check(project)


def test_targets_may_come_and_go(project: Path) -> None:
    write_image(project / "data/photo.png", np.zeros((20, 30, 3), np.uint8))
    (project / "data/target").mkdir()
    check(project)


@pytest.mark.parametrize("run", ["fit", "demo"])
def test_each_run_looks_before_it_does_anything(
    project: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_run, "_fit", stopped)
    monkeypatch.setattr(demo_run, "choose_start", stopped)
    data, out = project / "data", project / "new"

    def start() -> None:
        if run == "fit":
            fit_run.fit(FitSettings(folder=data, out=out))
        else:
            demo_run.demo(DemoSettings(data=data, out=out))

    with pytest.raises(KeyboardInterrupt):
        start()
    (out / "train" / "config.yaml").write_text("")
    write_mask(data / "annotated/masks/a.png", np.full((20, 30), 2, np.uint8))
    with pytest.raises(RunError, match=r"masks/a\.png: changed since the run in"):
        start()


def test_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    plan = Plan(8, 64, 1, 0, 0, 0, 0, 1, "later", ())
    folder = MethodFolder(tmp_path / "my run", "fit")
    settings = FitSettings(folder=tmp_path / "my data", out=folder.root)
    words = shlex.split(fit_run._next_command(settings, folder, plan))
    assert words[2:] == [
        *(str(tmp_path / "my data" / "target"), "--checkpoint", str(folder.best)),
        *("--out", str(folder.predictions), "--overlay"),
    ]
