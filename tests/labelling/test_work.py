"""Training, predictions and export from the page, with a program that pretends to be ours."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from page_support import PROGRAM, SIZE

from dvos.errors import UsageError
from dvos.labelling.documents import open_document
from dvos.labelling.work import Workshop
from dvos.media.mask import read_mask


@pytest.fixture
def workshop(folder, monkeypatch, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr("dvos.labelling.work._PROGRAM", (sys.executable, str(program)))
    made = Workshop(open_document(folder), None)
    yield made
    made.close()


def finished(workshop):
    workshop._thread.join()
    return workshop.status()


def test_a_file_that_no_command_has_written_is_not_shown(workshop, folder):
    """Not even one that has the name of the folder, and not before something was started."""
    folder.with_name(f"{folder.name}.log").write_text("private notes")
    status = workshop.status()
    assert (status["said"], status["run"], status["kind"], status["curves"]) == ("", "", "", {})


def test_of_what_a_command_says_the_end_alone_is_read(workshop, folder):
    """However long that is, at every look."""
    workshop.train(7)
    finished(workshop)
    end = "é" * 5000 + "\n"
    with open(folder / "runs" / "001.log", "r+b") as log:
        log.seek(2**26)
        log.write(end.encode())
    tracemalloc.start()
    said = workshop.status()["said"]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said == end[-4000:]
    assert most < 2**20


def test_training_shows_curves_and_then_predictions_of_all_frames(workshop, folder):
    workshop.train(3)
    status = finished(workshop)
    assert (status["running"], status["error"]) == (False, "")
    assert status["curves"] == {"epoch": [1, 2], "train_loss": [2.5, 1.5], "dice": [0.4, None]}
    assert f"fit {folder} --out {folder}/runs/001 --minutes 3" in status["said"]
    (layer,) = workshop.layers()
    assert layer.name == "training 001"
    assert read_mask(layer.mask("photo2")).shape == SIZE
    assert np.count_nonzero(read_mask(layer.mask("photo1"))) == 136
    workshop.train(3)
    status = finished(workshop)
    weights = f"{folder}/runs/001/best.safetensors"
    assert f"runs/002 --minutes 3 --start {weights}" in status["said"]
    assert len(workshop.layers()) == 2


def test_a_server_that_is_started_again_goes_on_from_the_latest_weights(workshop, folder):
    workshop.train(3)
    finished(workshop)
    # Of a training that was cut off there are none.
    (folder / "runs" / "002" / "train").mkdir(parents=True)
    (folder / "runs" / "002" / "train" / "best.safetensors").touch()
    again = Workshop(workshop.document, None)
    assert again.checkpoint == folder / "runs" / "001" / "best.safetensors"
    assert Workshop(workshop.document, folder / "own").checkpoint == folder / "own"


def test_what_runs_ends_with_a_server_that_is_killed(folder):
    """It holds the server's standard output, so that this waits for both."""
    script = (
        "import os, signal, subprocess\n"
        "from dvos.labelling.work import _PROGRAM\n"
        f"words = ['label', {str(folder)!r}, '--port', '0', '--no-browser']\n"
        "subprocess.Popen([*_PROGRAM, *words], stdin=subprocess.PIPE)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, stdout=subprocess.PIPE).returncode == -signal.SIGKILL


def test_what_went_wrong_is_said_as_the_command_says_it(workshop):
    workshop.train(7)
    status = finished(workshop)
    assert status["error"] == "no stills are labelled; label some"
    assert workshop.layers() == []


def test_one_thing_runs_at_a_time_and_can_be_stopped(workshop):
    workshop.train(9)
    with pytest.raises(UsageError, match="train is at work"):
        workshop.export("coco")
    workshop.stop()
    assert finished(workshop)["error"] == ""
    workshop.export("coco")
    assert finished(workshop)["error"] == ""


def test_frames_worth_labelling_first_are_looked_for(workshop):
    assert workshop.suggested() == []
    workshop.suggest()
    assert finished(workshop)["error"] == ""
    assert workshop.suggested() == [1]


def test_each_export_has_a_folder_of_its_own(workshop, folder):
    for number in (1, 2):
        assert workshop.export("coco") == folder / "exports" / f"coco-00{number}"
        finished(workshop)


def test_tracks_are_exported_as_they_were_corrected(monkeypatch, run, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr("dvos.labelling.work._PROGRAM", (sys.executable, str(program)))
    workshop = Workshop(open_document(run), None)
    out = workshop.export("cvat")
    assert finished(workshop)["said"] == f"export {run} --out {out} --format cvat\n"


def test_what_lies_in_several_runs_is_not_exported_in_part(run, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    for place in (tmp_path / "other").rglob("film*"):
        if place.exists():
            place.rename(place.with_name(place.name.replace("film", "other")))
    record = tmp_path / "other" / ".progress" / "other.jsonl"
    assert record.is_file()
    workshop = Workshop(open_document(tmp_path), None)
    found = rf"lies in {re.escape(str(tmp_path / 'other'))}, {re.escape(str(run))}"
    with pytest.raises(UsageError, match=rf"{found}; export each: dvos export PLACE --format cvat"):
        workshop.export("cvat")
