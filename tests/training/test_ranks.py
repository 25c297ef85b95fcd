"""Several processes on one machine's CPU: how many, that they agree, and that none is left over."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from made_stills import write_stills

from dvos.api import train
from dvos.config.training import TrainingSettings
from dvos.errors import MediaError, RunError
from dvos.registry import network_spec
from dvos.training import launch
from dvos.training.devices import cpu_processes
from dvos.training.launch import Launcher
from dvos.training.run import take_part
from dvos.training.run_folder import read_state

#: More clips than a run that is over before other processes have started.
_LONG = {"epochs": 10, "clips_per_epoch": 512, "batch": 8}


def _counted(monkeypatch, *, cores=2, memory=16.0, gains=True, hardware=None, **changes) -> int:
    """Processes of a run on a machine with so many cores and GiB of memory."""
    monkeypatch.setattr("dvos.training.devices.worker_count", lambda asked: cores)
    monkeypatch.setattr("dvos.training.devices.memory_gib", lambda: memory)
    settings = TrainingSettings(out=Path("run"), **({"device": "cpu"} | _LONG | changes))
    return cpu_processes(settings, gains=gains, hardware=hardware)


@pytest.fixture
def plain(monkeypatch):
    """No variables that say something about processes and threads."""
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("cores", "memory", "batch", "accumulate", "clips", "earlier", "count"),
    [
        (1, 16.0, 8, 1, 5000, 0, 1),
        (2, 16.0, 8, 1, 5000, 0, 2),
        (3, 16.0, 8, 1, 5000, 0, 2),  # three do not divide the batch
        (3, 16.0, 12, 1, 5000, 0, 3),
        (64, 16.0, 8, 1, 5000, 0, 4),
        (64, 7.6, 8, 1, 5000, 0, 2),
        (64, 1.9, 8, 1, 5000, 0, 1),
        (64, 16.0, 8, 4, 5000, 0, 2),
        (64, 16.0, 8, 8, 5000, 0, 1),
        (8, 16.0, 7, 1, 5000, 0, 1),
        (8, 16.0, 1, 1, 5000, 0, 1),
        (8, 16.0, 8, 1, 64, 0, 1),  # over before others have started
        (8, 16.0, 8, 1, 64, 2, 2),  # goes on as it was begun
        (8, 16.0, 8, 1, 5000, 1, 1),
        (2, 16.0, 8, 1, 5000, 4, 2),  # on a machine with fewer cores
    ],
)
def test_processes_by_cores_and_batch(
    monkeypatch, plain, cores, memory, batch, accumulate, clips, earlier, count
):
    plan = {"epochs": 1, "clips_per_epoch": clips, "batch": batch, "accumulate": accumulate}
    hardware = {"device": "cpu", "devices": earlier} if earlier else {}
    found = _counted(monkeypatch, cores=cores, memory=memory, hardware=hardware, **plan)
    assert found == count
    assert batch % (accumulate * found) == 0


@pytest.mark.parametrize(
    ("environment", "changes", "count"),
    [
        ({}, {}, 2),
        ({}, {"devices": 4}, 4),
        ({}, {"threads": 1}, 1),
        ({"OMP_NUM_THREADS": "2"}, {}, 1),
        ({"OMP_NUM_THREADS": "1"}, {"devices": 2}, 2),
        ({"TORCHELASTIC_RUN_ID": "none"}, {"devices": 2}, 1),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}, {"devices": 2}, 1),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, {"devices": 2}, 2),
        ({}, {"nodes": 2, "devices": 2}, 1),
        ({}, {"device": "cuda", "devices": 2}, 1),
        ({}, {"gains": False}, 1),
        ({}, {"hardware": {"device": "cpu", "devices": 1}}, 1),
        ({}, {"hardware": {"device": "cuda", "devices": 1}}, 2),
    ],
)
def test_processes_by_settings_and_surroundings(monkeypatch, plain, environment, changes, count):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _counted(monkeypatch, **changes) == count


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return write_stills(tmp_path_factory.mktemp("stills"), 5, (96, 96))


def _values(out: Path, stills: Path, **changes) -> dict[str, object]:
    values = {
        "out": str(out),
        "network": {"references": 2, "dvos": {"channels": [4] * 5, "widths": [4] * 4}},
        "data": {"stills": {"folders": [str(stills)]}, "crop": 32},
        "epochs": 2,
        "clips_per_epoch": 8,
        "batch": 4,
        "threads": 1,
        "pictures": 0,
        "device": "cpu",
    }
    return values | changes


def _train(out: Path, stills: Path, **changes):
    return train(TrainingSettings.model_validate(_values(out, stills, **changes)))


def test_two_processes_from_python_learn_what_one_learns(tmp_path, stills, capfd, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment, threads = dict(os.environ), torch.get_num_threads()
    result = _train(tmp_path / "two", stills, devices=2, epochs=1)
    assert result.epochs == 1
    # Variables that torch and Fabric set when they look for devices, in any run.
    libraries = {"TORCHINDUCTOR_CACHE_DIR", "PYTORCH_NVML_BASED_CUDA_CHECK"}
    after = {name: value for name, value in os.environ.items() if name not in libraries}
    assert after == {name: environment[name] for name in environment.keys() - libraries}
    assert torch.get_num_threads() == threads
    assert not torch.distributed.is_initialized()
    told = capfd.readouterr()
    assert told.out == ""
    # On a busy machine what is waited for is told, too: "...: 5 s".
    expected = re.compile(r"(train|calibrate): .*|.*: \d+ s")
    assert [line for line in told.err.splitlines() if not expected.fullmatch(line)] == []
    _train(tmp_path / "one", stills, devices=1, epochs=1)
    two, one = (read_state(tmp_path / name / "last.ckpt") for name in ("two", "one"))
    for record, twin in zip(one["progress"]["records"], two["progress"]["records"], strict=True):
        for name in set(record) - {"seconds", "dice", "iou"}:
            assert record[name] == pytest.approx(twin[name], rel=1e-4, abs=1e-6), name
    for key, value in one["network"].items():
        torch.testing.assert_close(value, two["network"][key], atol=1e-5, rtol=1e-4)


def test_a_process_that_is_killed_ends_the_run_with_one_line(tmp_path, stills, monkeypatch):
    started = []
    begin = launch._started
    monkeypatch.setattr(
        launch, "_started", lambda *told: started.append(begin(*told)) or started[-1]
    )

    def kill() -> None:
        while not (tmp_path / "run" / "last.ckpt").is_file():
            time.sleep(0.05)
        started[0].process.kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(RunError) as caught:
        _train(tmp_path / "run", stills, devices=2, epochs=10_000)
    (fault,) = caught.value.faults
    assert "process 2 of 2 was killed by SIGKILL; it may" in str(fault)
    assert not torch.distributed.is_initialized()


def test_a_fault_that_only_another_process_meets_is_told_as_its_own(tmp_path):
    broken = write_stills(tmp_path / "broken", 2, (96, 96))
    for image in (broken / "images").iterdir():
        image.write_bytes(b"no picture")
    settings = TrainingSettings.model_validate(_values(tmp_path / "run", broken))
    with pytest.raises(MediaError, match="still_0"):
        message = (settings, network_spec("dvos"), False)
        with Launcher(take_part, message, count=2) as rank:
            rank.wait()


_SCRIPT = """
import sys
import dvos
dvos.train(config=sys.argv[1])
"""


def _processes() -> dict[int, tuple[str, int]]:
    """State and parent of each process."""
    found = {}
    for told in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = told.read_text().rpartition(")")[2].split()[:2]
            found[int(told.parent.name)] = (state, int(parent))
    return found


def _descendants(process: int) -> set[int]:
    listed, found = _processes(), {process}
    for _ in listed:
        found |= {own for own, (_, parent) in listed.items() if parent in found}
    return found - {process}


def _alive(processes: set[int]) -> set[int]:
    # Where nothing waits for orphans they stay listed as ended (Z).
    return processes & {own for own, (state, _) in _processes().items() if state != "Z"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed in /proc")
def test_no_process_outlives_the_first(tmp_path, stills):
    """The first is killed in the midst of the run."""
    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump(_values(tmp_path / "run", stills, devices=2, epochs=10_000)))
    first = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(config)])
    others: set[int] = set()
    until = time.monotonic() + 120
    try:
        while not (tmp_path / "run" / "last.ckpt").is_file():
            assert first.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        others = _descendants(first.pid)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    # A server and what it tracks, another process, and for each a worker that makes its clips.
    assert len(others) >= 5
    until = time.monotonic() + 60
    while _alive(others):
        assert time.monotonic() < until, "a process is left over"
        time.sleep(0.1)


def test_a_machine_on_which_processes_cannot_meet_is_told_of(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Cannot assign requested address")

    monkeypatch.setattr(launch.distributed, "init_process_group", refuse)
    rank = launch.Rank(0, 2, tmp_path, lambda: None)
    with pytest.raises(RunError, match=r"cannot meet .*requested address.*set devices=1"):
        rank.connect(None)
