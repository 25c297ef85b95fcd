from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
import torch
import yaml

from dvos.config.network import DvosShapeSettings
from dvos.config.training import LossSettings, TrainingSettings
from dvos.errors import CheckpointError, ConfigError, OutputError, RunError
from dvos.files import locked, write_json
from dvos.training.fingerprints import data_digests
from dvos.training.run_folder import RunFolder, read_state, write_state


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "last.ckpt"
    write_state(path, {"step": 3, "network": {"weight": torch.arange(4.0)}})
    state = read_state(path)
    assert state["step"] == 3
    assert torch.equal(state["network"]["weight"], torch.arange(4.0))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_damaged(tmp_path, keep):
    path = tmp_path / "last.ckpt"
    write_state(path, {"step": 3})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)


def test_of_another_kind(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"model": 1}, path)
    with pytest.raises(CheckpointError, match="not the state"):
        read_state(path)


def _settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"out": Path("run"), "epochs": 3, "workers": 0} | changes))


@pytest.fixture
def stopped(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.begin(_settings())
    write_json(folder.metadata, {"started": "then", "data": {"a.csv": "11"}})
    write_state(folder.state, {"step": 3})
    return folder


def test_a_run_goes_on_with_the_same_settings_and_free_ones_changed(stopped):
    free = _settings(workers=4, out=Path("other"), devices=2, trackers=("wandb",))
    assert stopped.earlier(free, {"a.csv": "11"})["step"] == 3


def test_a_run_moved_with_its_data_goes_on_by_what_the_data_hold(tmp_path):
    def settings(project: Path) -> TrainingSettings:
        stills = {"tables": [project / "stills.csv"]}
        return _settings(out=project / "run", data={"stills": stills})

    old = tmp_path / "old"
    folder = RunFolder(old / "run")
    folder.path.mkdir(parents=True)
    (old / "stills.csv").write_text("Image,Mask\na.png,b.png\n")
    digests = data_digests(settings(old).data)
    folder.begin(settings(old))
    write_json(folder.metadata, {"started": "then", "data": digests})
    write_state(folder.state, {"step": 3})
    for name in ("new", "newer"):
        new = tmp_path / name
        folder.path.parent.rename(new)
        folder = RunFolder(new / "run")
        assert folder.earlier(settings(new), data_digests(settings(new).data))["step"] == 3
        folder.extend(settings(new))
        assert f"out: {new}/run" in folder.config.read_text()
        data = data_digests(settings(new).data)
        write_json(folder.metadata, {"started": "then", "data": data})
    last = tmp_path / "last"
    folder.path.parent.rename(last)
    (last / "stills.csv").write_text("Image,Mask\na.png,c.png\n")
    with pytest.raises(RunError, match=f"{last}/stills.csv: changed since the run") as caught:
        RunFolder(last / "run").earlier(settings(last), data_digests(settings(last).data))
    assert len(caught.value.faults) == 1


def test_changed_settings_and_data_are_all_named(stopped):
    with pytest.raises(RunError) as caught:
        changed = _settings(epochs=4, optimiser={"lr": 0.2}, seed=1)
        stopped.earlier(changed, {"a.csv": "12"})
    text = str(caught.value)
    assert len(caught.value.faults) == 4
    assert "config.yaml: epochs: is 4 now, but the run in this folder has 3" in text
    assert "config.yaml: optimiser.lr" in text
    assert "config.yaml: seed: is 1 now, but the run in this folder has 123" in text
    assert "a.csv: changed" in text


def test_a_run_of_an_earlier_version_goes_on(stopped):
    """Its settings had other names; a preset then was all of its values."""
    values = yaml.safe_load(stopped.config.read_text())
    shape = DvosShapeSettings().model_dump(mode="json", exclude={"preset", "objects"})
    del values["network"]["dvos"]
    values["network"] |= shape
    values["losses"] = LossSettings().model_dump(mode="json", exclude={"preset"})
    stopped.config.write_text(yaml.safe_dump(values))
    assert stopped.earlier(_settings(), {})["step"] == 3
    stopped.config.write_text(yaml.safe_dump(values | {"other": 1}))
    with pytest.raises(ConfigError, match="other: unknown key"):
        stopped.earlier(_settings(), {})


def test_beginning_anew_removes_the_earlier_run(stopped):
    stopped.begin(_settings(epochs=4))
    assert stopped.earlier(_settings(epochs=4), {}) is None
    assert {file.name for file in stopped.path.iterdir()} == {"run.json", "config.yaml"}


def test_beginning_anew_leaves_what_a_user_put_beside(stopped):
    """Files under a run's own names go; all else in its folders stays."""
    own = ["predictions/epoch_001_clip_00.jpg", "weights/epoch_001.safetensors"]
    own += ["tensorboard/events.out.tfevents.1"]
    users = ["predictions/field.mp4", "weights/notes.txt", "tensorboard/a/b.csv", "notes.txt"]
    for name in own + users:
        (stopped.path / name).parent.mkdir(parents=True, exist_ok=True)
        (stopped.path / name).write_text("mine")
    stopped.begin(_settings())
    left = {str(x.relative_to(stopped.path)) for x in stopped.path.rglob("*") if x.is_file()}
    assert left == {*users, "run.json", "config.yaml"}


@pytest.mark.parametrize("name", ["best.safetensors", "config.yaml", "weights/epoch_1.safetensors"])
@pytest.mark.parametrize("resume", [True, False])
def test_what_no_run_wrote_is_refused_before_anything_is_done(tmp_path, name, resume):
    folder = RunFolder(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(f"{{out: {tmp_path}, epochs: 3}}")
    with pytest.raises(RunError, match=rf"{name}: is there, and no training .*move it"):
        if resume:
            folder.earlier(_settings(), {})
        else:
            folder.check_own()
    assert [x.name for x in tmp_path.rglob("*") if x.is_file()] == [Path(name).name]


@pytest.mark.parametrize("name", ["tensorboard", "weights", "predictions"])
def test_nothing_is_removed_where_a_link_leads(stopped, tmp_path_factory, name):
    """A folder that collects the files of several runs is not emptied for one of them."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    names = ["events.out.tfevents.1", "epoch_001.safetensors", "epoch_001_clip_00.jpg"]
    for each in names:
        (elsewhere / each).write_text("of another run")
    (stopped.path / name).symlink_to(elsewhere)
    assert stopped.earlier(_settings(), {})["step"] == 3  # what goes on removes nothing
    with pytest.raises(RunError, match=rf"{name}: is a link to {elsewhere}; expected a folder"):
        stopped.check_own()
    stopped.state.unlink()
    with pytest.raises(RunError, match=f"{name}: is a link to"):
        stopped.earlier(_settings(), {})
    assert sorted(x.name for x in elsewhere.iterdir()) == sorted(names)


def test_a_run_of_other_settings_without_a_state_yet_is_not_wiped(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin(_settings())
    with pytest.raises(RunError, match="epochs: is 9 now, but the run in this folder has 3"):
        folder.earlier(_settings(epochs=9), {})
    assert folder.earlier(_settings(), {}) is None


def test_two_trainings_do_not_share_a_folder(tmp_path):
    with locked(tmp_path):
        with pytest.raises(RunError, match="another run is at work here; wait for it"):
            with RunFolder(tmp_path).taken():
                pass
    leftover = tmp_path / ".writing-abc.ckpt"
    leftover.write_text("half")
    with RunFolder(tmp_path).taken():
        assert not leftover.exists()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", "\x00", '{"started": 4}', '{"epochs": "three"}', "[" * 5000, '"\ud800"'],
)
def test_metadata_that_cannot_be_trusted_are_not_gone_by(stopped, caplog, text):
    stopped.metadata.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert stopped.read_metadata() == {}
    assert "run.json cannot be read" in caplog.text
    assert stopped.earlier(_settings(), {"a.csv": "11"})["step"] == 3


@pytest.mark.parametrize("text", ["\x07", "[1]", "{", "epochs: [1, 2]", "a: " + "[" * 4000])
def test_settings_of_a_run_that_are_spoiled_are_told(stopped, text):
    stopped.config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        stopped.earlier(_settings(), {})
    assert str(stopped.config) in str(caught.value)
    assert "start over with resume off" in str(caught.value)


def test_a_state_that_is_gone_is_told(stopped):
    stopped.state.unlink()
    assert stopped.earlier(_settings(), {}) is None
    write_json(stopped.metadata, {"started": "now", "status": "running", "epochs": 1})
    with pytest.raises(CheckpointError, match=r"last.ckpt: is gone.*start over with resume off"):
        stopped.earlier(_settings(), {})
    stopped.config.unlink()
    write_state(stopped.state, {"step": 3})
    with pytest.raises(RunError, match=r"config.yaml: is gone"):
        stopped.earlier(_settings(), {})


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    class Full(io.RawIOBase):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def writable(self):
            return True

    monkeypatch.setattr(Path, "open", lambda self, *_, **__: Full())
    with pytest.raises(OutputError, match=r"last.ckpt: cannot be written \(No space left"):
        write_state(tmp_path / "last.ckpt", {"weight": torch.zeros(1000)})
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


FINISHED = {
    "status": "finished",
    "epochs": 3,
    "best": {"epoch": 2, "dice": 0.5, "iou": None},
    "seconds": {"train": 1.5},
    "clips_per_second": 2.0,
    "intensity": "74,262",
}


def test_a_finished_run_is_told_from_run_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.metadata, FINISHED)
    assert folder.read_metadata() == FINISHED
    result = folder.result(already_finished=True)
    assert (result.epochs, result.best_epoch, result.dice, result.seconds) == (3, 2, 0.5, 1.5)


@pytest.mark.parametrize(
    "changed",
    [
        *({key: None} for key in ("epochs", "best", "seconds", "clips_per_second")),
        *({"best": {}}, {"seconds": [1]}, {"intensity": "262,74"}, {"intensity": 5}, {"data": 3}),
    ],
)
def test_a_finished_run_without_what_it_found_is_not_gone_by(
    tmp_path: Path, changed: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.metadata, FINISHED | changed)
    assert folder.read_metadata() == {}
    write_json(
        folder.metadata, {key: value for key, value in FINISHED.items() if key not in changed}
    )
    left_out = {"epochs", "best", "seconds", "clips_per_second"} & changed.keys()
    assert (folder.read_metadata() == {}) is bool(left_out)
    folder.metadata.write_text("[" * 3000)
    assert folder.read_metadata() == {}
    assert "cannot be read and is not gone by" in caplog.text
