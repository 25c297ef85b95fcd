"""Training, predictions and export from the page, with a program that pretends to be ours."""

from __future__ import annotations

import sys

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


def test_training_shows_curves_and_then_predictions_of_all_frames(workshop, folder):
    workshop.train(3)
    status = finished(workshop)
    assert (status["running"], status["error"]) == (False, "")
    assert status["curves"] == {"epoch": [1, 2], "train_loss": [2.5, 1.5], "dice": [0.4]}
    assert f"fit {folder} --out {folder}/runs/001 --minutes 3" in status["said"]
    (layer,) = workshop.layers()
    assert layer.name == "training 001"
    assert read_mask(layer.mask("photo2")).shape == SIZE
    assert np.count_nonzero(read_mask(layer.mask("photo1"))) == 136
    workshop.train(3)
    status = finished(workshop)
    assert (
        f"runs/002 --minutes 3 --start {folder}/runs/001/train/best.safetensors" in status["said"]
    )
    assert len(workshop.layers()) == 2


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
