from __future__ import annotations

import csv
import errno
import json
import math
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import Squares, tiny_run

from dvos.errors import CheckpointError, MediaError, OutputError, RunError
from dvos.registry import load_network
from dvos.training.run_folder import columns_of, read_state


class Killed(BaseException):
    """Stands for a kill: nothing of the loop may catch it."""


class KilledAt(Squares):
    """Kills the run when a clip is asked for."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def __getitem__(self, k: int):
        if k == self.k:
            raise Killed
        return super().__getitem__(k)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    return out, tiny_run(out, pictures=2).run()


def _rows(out):
    with open(out / "records.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def _same_tensors(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_run_folder_holds_what_the_contract_names(unbroken):
    out, result = unbroken
    assert (out / "losses.png").stat().st_size > 1000
    rows = _rows(out)
    assert list(rows[0]) == columns_of(["loss", "bce", "soft_dice", "mse"])
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    facts = json.loads((out / "run.json").read_text())
    assert facts["status"] == "finished"
    assert (facts["epochs"], facts["steps"], facts["clips"]) == (2, 6, 24)
    assert len(list((out / "predictions").glob("epoch_*_clip_*.jpg"))) >= 2
    assert result.best == out / "best.safetensors"
    assert result.dice == pytest.approx(max(float(row["dice"]) for row in rows), rel=1e-5)
    assert not [file for file in out.iterdir() if file.name.startswith(".")]


def test_the_best_weights_are_the_averaged_ones_of_the_best_epoch(unbroken):
    out, result = unbroken
    network, info = load_network(result.best)
    assert info.extra["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert info.extra["training"]["epoch"] == result.best_epoch
    if result.best_epoch == 2:
        assert _same_tensors(
            network.state_dict(), read_state(out / "last.ckpt")["average"]["state"]
        )


def test_the_network_learns(tmp_path):
    result = tiny_run(tmp_path, epochs=3, lr=5e-2).run()
    losses = [float(row["train_loss"]) for row in _rows(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    assert result.dice > 0.6


@pytest.mark.parametrize(
    ("clip", "save_steps"),
    [(2, 0), (12, 0), (15, 0), (20, 1), (8, 2)],
    ids=["before-any-state", "between-epochs", "mid-epoch", "mid-epoch-saved", "first-epoch"],
)
def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(unbroken, tmp_path, clip, save_steps):
    out, _ = unbroken
    with pytest.raises(Killed):
        tiny_run(tmp_path, training=KilledAt(clip), save_steps=save_steps).run()
    again = tiny_run(tmp_path, save_steps=save_steps, pictures=2)
    if again.folder.state.is_file():
        again.restore(read_state(again.folder.state))
    again.run()
    one, other = read_state(out / "last.ckpt"), read_state(tmp_path / "last.ckpt")
    assert _same_tensors(one["network"], other["network"])
    assert _same_tensors(one["average"]["state"], other["average"]["state"])
    assert _same_tensors(
        load_file(out / "best.safetensors"), load_file(tmp_path / "best.safetensors")
    )
    for row, twin in zip(_rows(out), _rows(tmp_path), strict=True):
        assert row | {"seconds": ""} == twin | {"seconds": ""}


@pytest.mark.parametrize("written", [1, 3, 4, 5, 7, 10])
def test_a_full_disk_is_one_line_and_the_run_goes_on_from_there(
    unbroken, tmp_path, monkeypatch, written
):
    """Whichever file it meets: metadata, weights, a table, the plot, the state."""
    rename, done = os.replace, iter(range(1, 10_000))

    def replace(source, target):
        if next(done) == written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
            tiny_run(tmp_path, pictures=2).run()
    assert not list(tmp_path.rglob(".writing-*"))
    again = tiny_run(tmp_path, pictures=2)
    if again.folder.state.is_file():
        again.restore(read_state(again.folder.state))
    again.run()
    one, other = (load_file(out / "best.safetensors") for out in (unbroken[0], tmp_path))
    assert _same_tensors(one, other)


def test_worker_processes_do_not_change_the_result(unbroken, tmp_path):
    out, _ = unbroken
    tiny_run(tmp_path, workers=2).run()
    one, other = read_state(out / "last.ckpt"), read_state(tmp_path / "last.ckpt")
    assert _same_tensors(one["network"], other["network"])


def test_parts_of_a_batch_use_the_same_clips(unbroken, tmp_path):
    out, _ = unbroken
    tiny_run(tmp_path, accumulate=2).run()
    one, other = float(_rows(out)[0]["train_bce"]), float(_rows(tmp_path)[0]["train_bce"])
    # Dice is of each part on its own; all else is equal.
    assert one == pytest.approx(other, rel=0.05)


def test_without_validation_the_last_weights_are_kept(tmp_path):
    result = tiny_run(tmp_path, validation=None).run()
    assert result.best_epoch == 2
    assert math.isnan(result.dice)
    assert _rows(tmp_path)[0]["dice"] == ""


def test_patience_ends_a_run_that_does_not_improve(tmp_path):
    class Constant(Squares):
        def __getitem__(self, k: int):
            item = super().__getitem__(k)
            return item | {"target": torch.zeros_like(item["target"])}

    # Nothing to find: Dice is 0 or 1 and does not improve for long.
    result = tiny_run(
        tmp_path, epochs=9, patience=2, lr=1e-6, clips=4, validation=Constant(count=1)
    ).run()
    assert result.epochs == result.best_epoch + 2 < 9
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"


class _Odd(Squares):
    def __init__(self, k: int, error: Exception | None) -> None:
        super().__init__()
        self.k, self.error = k, error

    def __getitem__(self, k: int):
        item = super().__getitem__(k)
        if k == self.k and self.error is not None:
            raise self.error
        return item | {"frames": item["frames"] * (math.nan if k == self.k else 1)}


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(RunError, match=r"loss is nan at step 5.*last\.ckpt.*optimiser\.lr"):
        tiny_run(tmp_path, training=_Odd(18, None)).run()
    state = read_state(tmp_path / "last.ckpt")
    assert state["progress"]["step"] == 3
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def _failed_allocation() -> RuntimeError:
    """What torch raises on a machine with less than a million TiB."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.int8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), _failed_allocation()],
    ids=["python", "cuda", "cpu"],
)
def test_full_memory_is_said_in_words_and_the_last_good_state_kept(tmp_path, error):
    with pytest.raises(RunError, match=r"4 clips .* do not fit into memory.*accumulate"):
        tiny_run(tmp_path, training=_Odd(13, error)).run()
    again = tiny_run(tmp_path)
    again.restore(read_state(again.folder.state))
    assert again.progress.step == 3
    assert load_network(tmp_path / "best.safetensors")[1].extra["training"]["epoch"] == 1
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    assert again.run().epochs == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_data_come_through_whole(tmp_path, workers):
    error = MediaError.at("photo.png", "truncated")
    with pytest.raises(MediaError) as caught:
        tiny_run(tmp_path, training=_Odd(5, error), workers=workers).run()
    assert caught.value.faults == error.faults


class _Killed(Squares):
    """A clip that ends the process that makes it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.parent = number, os.getpid()

    def __getitem__(self, k: int):
        if os.getpid() != self.parent:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(k)


def test_a_killed_process_that_makes_clips_is_told(tmp_path):
    with pytest.raises(RunError, match=r"^workers: a process that makes clips .*lower workers"):
        tiny_run(tmp_path, training=_Killed(signal.SIGKILL), workers=1).run()


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(), BrokenPipeError()])
def test_a_process_killed_before_it_is_at_work_is_told(tmp_path, error):
    with pytest.raises(RunError, match=r"^workers: a process that makes clips was killed"):
        tiny_run(tmp_path, training=_Odd(5, error)).run()


def test_a_single_value_of_a_channel_is_told_with_its_remedy(tmp_path):
    text = "Expected more than 1 value per channel when training, got input size [1, 720, 1, 1]"
    with pytest.raises(RunError, match=r"^batch: leaves normalisation .*; raise batch"):
        tiny_run(tmp_path, training=_Odd(5, ValueError(text))).run()


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory.",
        "unable to write to file </torch_7_1_0>: No space left on device (28)",
        "unable to allocate shared memory(shm) for file </torch_7_1_0>: Success (0)",
    ],
)
def test_little_shared_memory_is_told_with_its_remedy(tmp_path, text):
    training = _Odd(5, RuntimeError(text))
    with pytest.raises(RunError, match=r"^workers: .*/dev/shm.*too small.*--shm-size"):
        tiny_run(tmp_path, training=training).run()


def _replace(tensors, change):
    """Change the first of several tensors that is larger than one number."""
    key = next(key for key, value in tensors.items() if value.numel() > 1)
    tensors[key] = change(tensors[key])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("optimiser"),
        lambda state: state["optimiser"].pop("param_groups"),
        lambda state: state.update(network=[1]),
        lambda state: state["average"].update(state=3),
        lambda state: state["average"]["state"].popitem(),
        lambda state: _replace(state["average"]["state"], lambda value: value.flatten()[:1]),
        lambda state: _replace(state["network"], lambda value: value.to(torch.int8)),
        lambda state: _replace(state["optimiser"]["state"][0], lambda value: value.flatten()[:1]),
        lambda state: state["progress"].update(step="five"),
        lambda state: state["progress"].update(records={}),
        lambda state: state["progress"].pop("records") and state.update(progress=None),
    ],
)
def test_a_state_that_is_not_that_of_a_run_is_told(unbroken, tmp_path, spoil):
    out, _ = unbroken
    state = read_state(out / "last.ckpt")
    spoil(state)
    with pytest.raises(CheckpointError, match=r"last.ckpt: damaged; start over with resume off"):
        tiny_run(tmp_path).restore(state)


def test_best_weights_that_are_gone_are_told_before_training_goes_on(unbroken, tmp_path):
    out, _ = unbroken
    with pytest.raises(CheckpointError, match=r"best.safetensors"):
        tiny_run(tmp_path).restore(read_state(out / "last.ckpt"))
