"""A run's folder that was moved with its data goes on; other data at the new place is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvos.config.selftraining import RoundsSettings
from dvos.config.show import Move, check_run_settings
from dvos.config.workflow import FitSettings
from dvos.errors import UsageError
from dvos.files import file_digest


def _fit(project: Path, **values: Any) -> FitSettings:
    chosen = {"folder": project / "data", "out": project / "runs/run"} | values
    return FitSettings.model_validate(chosen)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "a/runs/run").mkdir(parents=True)
    (tmp_path / "a/data").mkdir()
    check_run_settings(tmp_path / "a/runs/run/fit.yaml", _fit(tmp_path / "a"))
    return tmp_path / "a"


def test_a_folder_moved_with_its_data_is_the_same_run(project: Path) -> None:
    moved = project.rename(project.with_name("b"))
    check_run_settings(moved / "runs/run/fit.yaml", _fit(moved))
    again = moved.rename(moved.with_name("c"))
    check_run_settings(again / "runs/run/fit.yaml", _fit(again))


def test_a_folder_moved_alone_goes_on_with_the_data_where_it_lies(project: Path) -> None:
    out = (project / "runs/run").rename(project.with_name("elsewhere"))
    check_run_settings(out / "fit.yaml", _fit(project, out=out))


@pytest.mark.parametrize("there", [False, True])
def test_other_data_is_told_in_one_line(project: Path, there: bool) -> None:
    moved = project.rename(project.with_name("b"))
    if there:
        (moved / "other").mkdir()
        settings = _fit(moved, folder=moved / "other")
    else:
        (moved / "data").rmdir()
        settings = _fit(moved)
    with pytest.raises(UsageError, match=r"fit\.yaml: folder: the run in this folder has") as told:
        check_run_settings(moved / "runs/run/fit.yaml", settings)
    assert len(told.value.faults) == 1


def test_paths_in_lists_and_in_settings_of_a_training_move_too(tmp_path: Path) -> None:
    def rounds(project: Path) -> RoundsSettings:
        train = {"data": {"stills": {"folders": [str(project / "labelled")]}}}
        videos = [{"input": project / name} for name in ("a.mp4", "b.mp4")]
        return RoundsSettings(out=project / "run", unlabelled=videos, train=train)

    old, new = tmp_path / "old", tmp_path / "new/inner"
    for project in (old, new):
        (project / "labelled").mkdir(parents=True)
        (project / "a.mp4").touch()
    note = new / "rounds.yaml"
    check_run_settings(note, rounds(old))
    with pytest.raises(UsageError, match=r"rounds\.yaml: unlabelled"):
        check_run_settings(note, rounds(new))
    (new / "b.mp4").touch()
    check_run_settings(note, rounds(new))


def test_a_table_is_known_by_its_content_before_the_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    table = new / "annotated.csv"
    table.write_text(f"Image,Mask\n{old}/data/a.png,b.png\n")
    before = file_digest(table)
    table.write_text(f"Image,Mask\n{new}/data/a.png,b.png\n")
    move = Move.of(old / "run", new / "run")
    assert move.earlier(str(table)) == str(old / "annotated.csv")
    known = {str(old / "annotated.csv"): before}
    assert move.has_content(str(table), file_digest(table), known)
    table.write_text(f"Image,Mask\n{new}/data/c.png,b.png\n")
    assert not move.has_content(str(table), file_digest(table), known)
    assert move.has_content("other.csv", "11", {"other.csv": "11"})
    assert not move.has_content("other.csv", "12", {"other.csv": "11"})
