"""Training, predictions and export from the page, with a program that pretends to be ours."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from page_support import SIZE

from dvos.errors import UsageError
from dvos.labelling.documents import open_document
from dvos.labelling.work import Workshop
from dvos.media.mask import read_mask

#: ``fit`` writes records and weights, ``predict`` masks of what is there, ``export`` a file.
PROGRAM = """
import sys, json
from pathlib import Path
command, first, *words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
print(command, first, *words, flush=True)
if command == "fit" and "7" in words:
    sys.exit("error: no stills are labelled; label some")
if command == "fit" and "9" in words:
    sys.stdin.read(); import time; time.sleep(600)
if command == "fit":
    (out / "train").mkdir(parents=True)
    (out / "train" / "records.csv").write_text("epoch,train_loss,dice\\n1,2.5,0.4\\n2,1.5,\\n")
    (out / "train" / "best.safetensors").write_text("")
elif command == "predict":
    import numpy as np
    from dvos.media.mask import write_mask
    from dvos.runner.manifest import ClipManifest
    for path in sorted(Path(first).glob("*.png")):
        mask = np.zeros((48, 64), bool); mask[3:9, 3:9] = mask[20:30, 20:30] = True
        write_mask(out / path.stem / path.name, mask)
        (out / ".progress").mkdir(exist_ok=True)
        place = out / ".progress" / f"{path.stem}.jsonl"
        record = ClipManifest(place, fingerprint="x", source=path, complete=lambda row: True)
        record.begin(); record.append({"frame": path.stem, "frame_index": 0, "count": 2})
elif command == "suggest":
    out.parent.mkdir(exist_ok=True)
    out.write_text("rank,clip,frame,distance,uncertainty\\n1,,photo2,2.5,\\n2,,gone,1,\\n")
else:
    out.mkdir(parents=True)
"""


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
