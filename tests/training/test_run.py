from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from made_stills import write_clip, write_stills

from dvos.api import load_predictor, train
from dvos.config.load import load_settings
from dvos.config.prediction import PredictorOptions
from dvos.config.training import TrainingSettings
from dvos.errors import CheckpointError, ConfigError, DvosError, RunError
from dvos.registry import load_network, network_spec
from dvos.tables import write_rows
from dvos.training import calibration
from dvos.training.displacement import Displacement
from dvos.training.loop import Training
from dvos.training.run import train_for
from dvos.training.run_folder import read_state

SHAPE = {"channels": (4, 4, 4, 4, 4), "widths": (4, 4, 4, 4)}
TINY = {"references": 2, "dvos": SHAPE}


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return write_stills(tmp_path_factory.mktemp("stills"), 5, (96, 96))


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _settings(out, stills, **changes) -> TrainingSettings:
    values = {
        "out": out,
        "network": TINY,
        "data": {"stills": {"folders": [stills]}, "crop": 32},
        "epochs": 2,
        "clips_per_epoch": 8,
        "batch": 4,
        "threads": 1,
        "pictures": 1,
    }
    return TrainingSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, stills):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, train(_settings(out, stills))


def test_a_run_from_labelled_stills(finished, stills):
    out, result = finished
    assert not result.already_finished
    assert math.isfinite(result.dice)
    facts = json.loads((out / "run.json").read_text())
    assert facts["clips_by_source"] == {"stills": 16}
    assert facts["data"][str(stills)]
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0] or facts["versions"]
    assert facts["network"]["parameters"] > 2_900_000
    config = yaml.safe_load((out / "config.yaml").read_text())
    settled = _settings(out, stills, network={**TINY, "dvos": {**SHAPE, "objects": False}})
    assert TrainingSettings.model_validate(config) == settled
    network, info = load_network(result.best)
    assert info.extra["normalisation"]["mean"] == pytest.approx([127 / 255] * 3)
    assert network.references == 2


def test_the_pictures_that_it_learnt_from_tell_where_their_labels_lie(
    tmp_path, stills, monkeypatch
):
    shown = []

    def learnt(clips, scale):
        shown.extend(clips)
        return Displacement(1.5, -0.5) if scale == 1 else None

    monkeypatch.setattr(calibration, "_EXPERIENCED", 16)
    monkeypatch.setattr(calibration, "learn_displacement", learnt)
    result = train(_settings(tmp_path / "run", stills))
    _, info = load_network(result.best)
    assert info.extra["displacement"] == {"x": 1.5, "y": -0.5}
    # Four of the five are learnt from, and shown whole.
    assert [tuple(clip.target.shape) for clip in shown] == [(1, 96, 96)] * 4
    assert all(clip.target.any() for clip in shown)
    longer = train(_settings(tmp_path / "run", stills, epochs=3))
    _, info = load_network(longer.best)
    assert info.extra["displacement"] == {"x": 1.5, "y": -0.5}


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [({"intervals": [3, 5]}, 3), ({}, None), ({"intervals": [3], "references": "random"}, None)],
)
def test_a_checkpoint_tells_how_far_apart_references_were(tmp_path, stills, chosen, kept):
    """Prediction goes by it, as validation has; of stills each frame's are the next."""
    write_clip(tmp_path / "clips", "one", 9, labelled=range(9))
    data = {"clips": {"folders": [tmp_path / "clips"], **chosen}, "crop": 32}
    result = train(_settings(tmp_path / "run", stills, data=data, epochs=1))
    assert load_network(result.best)[1].extra.get("reference_interval") == kept
    assert load_predictor(result.best).context == 2 * (kept or 1)
    data |= {"stills": {"folders": [stills]}, "clips": {}}
    result = train(_settings(tmp_path / "of stills", stills, data=data, epochs=1))
    assert "reference_interval" not in load_network(result.best)[1].extra


def test_a_checkpoint_tells_what_scenes_it_is_for(tmp_path, stills):
    """Those of its synthetic clips, or of the network it began from, where they say nothing."""

    def told(name, **given):
        result = train(_settings(tmp_path / name, stills, epochs=1, **given))
        return result.best, load_network(result.best)[1].extra.get("scene")

    plain, scene = told("plain")
    assert scene is None
    data = {"stills": {"folders": [str(stills)]}, "crop": 64}
    cells, scene = told("cells", data=data | {"synthetic": {"scene": "cells"}})
    assert scene == "cells"
    for weights, expected in ((plain, None), (cells, "cells")):
        begun = {**TINY, "weights": str(weights)}
        assert told(f"from_{weights.parent.name}", network=begun)[1] == expected


def test_a_finished_run_is_left_as_it_is(finished, stills):
    out, result = finished
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    again = train(_settings(out, stills, workers=3))
    assert again.already_finished
    assert (again.dice, again.best, again.epochs) == (result.dice, result.best, result.epochs)
    files = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}
    assert all(before[file] == stamp for file, stamp in files.items())


@pytest.mark.parametrize("kind", ["a weight", "what it says", "cut"])
def test_spoilt_weights_of_a_finished_run_are_told(tmp_path, finished, stills, kind):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    path = out / "best.safetensors"
    data = bytearray(path.read_bytes())
    if kind == "a weight":
        data[-5] ^= 1
    elif kind == "what it says":
        at = data.index(b'\\"mean\\": [0.') + len(b'\\"mean\\": [0.')
        data[at] ^= 1
    else:
        del data[-5:]
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="put a copy of it back, or start over") as caught:
        train(_settings(out, stills))
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{path}: damaged")
    assert path.read_bytes() == data


def test_other_settings_in_its_folder_are_refused_by_name(finished, stills):
    out, _ = finished
    with pytest.raises(RunError) as caught:
        train(_settings(out, stills, epochs=1, optimiser={"lr": 0.5}))
    text = str(caught.value)
    assert len(caught.value.faults) == 2
    assert "epochs" in text
    assert "optimiser.lr" in text


def test_a_finished_run_goes_on_for_more_epochs_and_says_what_that_is(
    tmp_path, finished, stills, caplog, capsys, monkeypatch
):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    step, taken = Training._step, []

    def stopping(self, number, batches):
        if number == 5:
            raise KeyboardInterrupt
        taken.append(number)
        step(self, number, batches)

    monkeypatch.setattr(Training, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(_settings(out, stills, epochs=4))
    assert "2 epochs more than the 2 that it finished with" in caplog.text
    assert f"{out / 'last.ckpt'} is kept: the same command goes on" in caplog.text
    assert "train: 4/8 steps, 4 of them finished before" in capsys.readouterr().err
    monkeypatch.setattr(Training, "_step", step)
    result = train(_settings(out, stills, epochs=4))
    assert (taken, result.epochs, result.already_finished) == ([4], 4, False)
    assert [row["epoch"] for row in read_state(out / "last.ckpt")["progress"]["records"]] == [
        1,
        2,
        3,
        4,
    ]
    assert train(_settings(out, stills, epochs=4)).already_finished
    with pytest.raises(RunError, match="epochs"):
        train(_settings(out, stills, epochs=3))


def test_a_run_that_patience_ended_goes_on_with_more_of_it_alone(tmp_path, stills, caplog):
    """More epochs alone would train nothing; with more patience it is as if never ended."""
    still = {"optimiser": {"lr": 1e-30}, "epochs": 5}
    out = tmp_path / "run"
    assert train(_settings(out, stills, patience=1, **still)).epochs == 2
    with pytest.raises(RunError) as caught:
        train(_settings(out, stills, patience=1, **{**still, "epochs": 9}))
    assert str(caught.value) == (
        f"{out / 'config.yaml'}: epochs: 9 change nothing, as patience (1) ended the run after "
        "epoch 2; give a larger patience, too, or 0 for no end by it"
    )
    assert train(_settings(out, stills, patience=1, **still)).already_finished
    longer = train(_settings(out, stills, patience=2, **still))
    assert (longer.epochs, longer.already_finished) == (3, False)
    assert not caplog.messages
    with pytest.raises(RunError, match="patience: is 1 now, but the run in this folder has 2"):
        train(_settings(out, stills, patience=1, **still))
    train(_settings(tmp_path / "unbroken", stills, patience=2, **still))
    once, unbroken = (
        [row.rpartition(",")[0] for row in (tmp_path / name / "records.csv").open()]
        for name in ("run", "unbroken")
    )
    assert once == unbroken
    last = train(_settings(out, stills, patience=0, **{**still, "epochs": 6}))
    assert last.epochs == 6
    assert "3 epochs more than the 3 that it finished with" in caplog.text
    assert train(_settings(out, stills, patience=0, **{**still, "epochs": 6})).already_finished


def test_a_finished_run_killed_while_it_got_more_epochs_goes_on(tmp_path, finished, stills):
    """Between what tells the epochs asked for and what tells that it runs."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("\nepochs: 2\n", "\nepochs: 3\n"))
    result = train(_settings(out, stills, epochs=3))
    assert (result.epochs, result.already_finished) == (3, False)


def test_changed_data_are_refused_and_what_systems_leave_is_no_change(tmp_path, finished):
    stills = write_stills(tmp_path / "stills", 4, (96, 96))
    out = tmp_path / "run"
    train(_settings(out, stills, epochs=1))
    (stills / "masks" / "Thumbs.db").write_bytes(b"left")
    (stills / "images" / "@eaDir").mkdir()
    (stills / "images" / "@eaDir" / "still_0.png").write_bytes(b"left")
    (stills / "images" / "._still_0.png").write_bytes(b"left")
    assert train(_settings(out, stills, epochs=1)).already_finished
    (stills / "images" / "still_0.png").rename(stills / "images" / "still_9.png")
    with pytest.raises(RunError, match="changed since"):
        train(_settings(out, stills, epochs=1))


@pytest.mark.parametrize("listed", [True, False])
def test_an_edited_picture_or_mask_is_named_and_a_copy_is_the_same(tmp_path, listed):
    """In a folder, also of the same size as before, and where a table lists it."""
    stills = write_stills(tmp_path / "stills", 4, (96, 96))
    source = {"folders": [stills]}
    if listed:
        rows = [
            [stills / place / f"still_{n}.png" for place in ("images", "masks")] for n in range(4)
        ]
        write_rows(tmp_path / "stills.csv", ("Image", "Mask"), rows)
        source = {"tables": [tmp_path / "stills.csv"]}
    data = {"stills": source, "crop": 32, "validation": {"share": 0}}
    settings = _settings(tmp_path / "run", stills, epochs=1, data=data)
    train(settings)
    for file in stills.rglob("*.png"):
        os.utime(file, (1, 1))
    assert train(settings).already_finished
    for name in ("images/still_1.png", "masks/still_2.png"):
        file = stills / name
        before = file.read_bytes()
        file.write_bytes(before[::-1])
        with pytest.raises(RunError, match=f"{name}: changed since the run in this folder began"):
            train(settings)
        with pytest.raises(RunError, match=rf"{name}: changed.*or delete {tmp_path}/run to start"):
            train_for(settings, network_spec("dvos"))
        file.write_bytes(before)
    assert train(settings).already_finished
    # A run of an earlier version kept no fingerprints of what a table lists.
    (tmp_path / "run" / "data.json").unlink()
    assert train(settings).already_finished


@pytest.mark.parametrize(("given", "meant"), [("on", "on"), ("off", "off"), ("auto", "auto")])
def test_a_switch_is_what_is_written_though_yaml_reads_truth(tmp_path, given, meant):
    file = tmp_path / "a.yaml"
    file.write_text(f"compile: {given}\n")
    for model, needed in (
        (TrainingSettings, {"out": "run"}),
        (PredictorOptions, {}),
    ):
        of_file = load_settings(model, config=file, options=needed)
        of_line = load_settings(model, overrides=[f"compile={given}"], options=needed)
        assert (of_file.compile, of_line.compile) == (meant, meant)
        with pytest.raises(ConfigError, match="'auto', 'on' or 'off'"):
            load_settings(model, overrides=["compile=1"], options=needed)


def test_starting_over_makes_the_same_weights(tmp_path, stills):
    out = tmp_path / "run"
    train(_settings(out, stills, epochs=1))
    first = read_state(out / "last.ckpt")["network"]
    result = train(_settings(out, stills, epochs=1, resume=False))
    assert not result.already_finished
    second = read_state(out / "last.ckpt")["network"]
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_starting_from_the_weights_of_a_run(tmp_path, finished, stills):
    _, result = finished
    settings = _settings(
        tmp_path, stills, epochs=1, network=TINY | {"weights": result.best}, optimiser={"lr": 1e-9}
    )
    begun = load_network(train(settings).best)[0].state_dict()
    expected = load_network(result.best)[0].state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(begun[key], value, atol=1e-5, rtol=1e-5)
    other = TINY | {"weights": result.best, "dvos": SHAPE | {"widths": (8, 4, 4, 4)}}
    with pytest.raises(CheckpointError, match="other widths"):
        train(_settings(tmp_path / "other", stills, network=other))


def test_without_pretrained_weights_the_statistics_follow_the_batches(tmp_path, stills):
    network = TINY | {"encoder_weights": "none"}
    result = train(_settings(tmp_path, stills, epochs=1, network=network))
    assert load_network(result.best)[1].arguments["frozen_statistics"] is False


def test_missing_data_leave_no_run_behind(tmp_path, stills):
    out = tmp_path / "run"
    with pytest.raises(DvosError):
        train(_settings(out, tmp_path / "nowhere"))
    assert list(out.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_fault(tmp_path, stills):
    tmp_path.chmod(0o500)
    with pytest.raises(DvosError, match="cannot be written"):
        train(_settings(tmp_path / "run", stills))


def test_a_file_in_the_way_is_one_fault(tmp_path, stills):
    (tmp_path / "run").write_text("")
    with pytest.raises(DvosError, match="cannot be written"):
        train(_settings(tmp_path / "run", stills))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 6, "accumulate": 4}, "multiple of 4"),
        ({"losses": {"bce": 0, "dice": 0}}, "no loss"),
        ({"network": {"dvos": {"channels": [1, 2]}}}, "channels has 2 values"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path, stills, changes, words):
    with pytest.raises(ValueError, match=words):
        _settings(tmp_path, stills, **changes)


def test_the_published_recipe_trains_the_published_network(tmp_path, stills):
    recipe = Path(__file__).resolve().parents[2] / "configs" / "train_published.yaml"
    settings = load_settings(
        TrainingSettings,
        config=recipe,
        overrides=[
            "network.paper={base: 4, multipliers: [1, 2], latent: 8, hidden: 8}",
            "network.references=2",
            f"data.stills.folders=[{stills}]",
            "data.clips.tables=[]",
            "data.validation.clips.tables=[]",
            "data.crop=32",
            "epochs=1",
            "clips_per_epoch=2",
            "batch=2",
            "threads=1",
            "trackers=[]",
        ],
        options={"out": tmp_path},
    )
    result = train(settings)
    header, row = (tmp_path / "records.csv").read_text().splitlines()
    assert "train_loss,train_bce,train_soft_dice,train_mse,train_ms_ssim,val_loss" in header
    assert "" not in row.split(",")
    assert load_network(result.best)[1].name == "paper"
