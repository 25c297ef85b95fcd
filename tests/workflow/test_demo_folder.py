"""The folder of a demo: one run at a time in it, and nothing replaced that no demo made."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dvos.config.workflow import DemoSettings
from dvos.errors import OutputError, RunError
from dvos.files import locked
from dvos.training.run_folder import RunFolder
from dvos.workflow import demo as workflow
from dvos.workflow.demo import demo
from dvos.workflow.steps import MethodFolder


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["run", "run/train"])
def test_it_is_refused_where_another_run_is_at_work(tmp_path: Path, name: str) -> None:
    """Another demo, or a training into the folder that it would train in."""
    settings = DemoSettings(out=tmp_path / "run")
    place = tmp_path / name
    place.mkdir(parents=True)
    if name != "run":
        place.rmdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workflow, "_make_sample", stopped)
            with pytest.raises(KeyboardInterrupt):
                demo(settings)
    before = sorted(tmp_path.rglob("*"))
    with locked(place):
        with pytest.raises(RunError, match=f"{place}: another run is at work here; wait for it"):
            demo(settings)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_training_begins_in_its_folder_at_any_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def other_training() -> None:
        try:
            with RunFolder(tmp_path / "train").taken():
                told.append("begun")
        except RunError as error:
            told.append(str(error))

    def stages(*_: object) -> None:
        thread = threading.Thread(target=other_training)
        thread.start()
        thread.join()
        with RunFolder(tmp_path / "train").taken():
            told.append("its own")
        stopped()

    monkeypatch.setattr(workflow, "_make_sample", stages)
    with pytest.raises(KeyboardInterrupt):
        demo(DemoSettings(out=tmp_path))
    assert "train: another run is at work here" in told[0]
    assert told[1:] == ["its own"]


@pytest.mark.parametrize("path", MethodFolder(Path(), "demo").makes(), ids=str)
def test_what_no_demo_made_is_not_replaced(tmp_path: Path, path: Path) -> None:
    users = tmp_path / path
    users.parent.mkdir(exist_ok=True)
    users.write_text("mine")
    with pytest.raises(OutputError, match="is there, and dvos demo is not known to have made it"):
        demo(DemoSettings(out=tmp_path))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [users]
    assert users.read_text() == "mine"
