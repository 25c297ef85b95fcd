"""A run killed at any moment, also while it writes, goes on to the bits of an unbroken one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dvos.training.run_folder import read_state

# Runs in a process of its own, which forks one child for each start of the run
# so that torch is loaded once. It does no arithmetic itself: threads would not
# survive the fork.
_SCRIPT = """
import csv, json, os, random, signal, sys, time
from pathlib import Path
import matplotlib.backends.backend_agg, matplotlib.figure
import torch
from safetensors import safe_open
from dvos.training.run_folder import read_state
from tiny_training import tiny_run

torch.set_num_threads(1)
KINDS = ("time", "half-written", "renamed")

def start(out, kind=None, moment=None):
    run = tiny_run(out, save_steps=1, pictures=1, clips=8)
    if run.folder.state.is_file():
        run.restore(read_state(run.folder.state))
    if kind in ("half-written", "renamed"):
        rename, count = os.replace, 0
        def replace(source, target):
            nonlocal count
            count += 1
            if count == moment and kind == "half-written":
                os.truncate(source, os.stat(source).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        os.replace = replace
    run.run()

def child(out, kind=None, moment=None):
    begun = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            start(out, kind, moment)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if kind == "time":
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return time.perf_counter() - begun, status

def check(out):
    "Whatever has its final name is whole."
    for name in ("last.ckpt", "best.safetensors", "run.json", "records.csv"):
        path = out / name
        if path.is_file():
            if name == "last.ckpt":
                read_state(path)
            elif name == "run.json":
                json.loads(path.read_text())
            elif name == "records.csv":
                assert all(None not in row.values() for row in csv.DictReader(path.open()))
            else:
                with safe_open(path, "pt") as stored:
                    assert stored.metadata()["dvos"]

root, seed = Path(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
seconds, status = child(root / "unbroken")
assert status == 0
killed = 0
while killed < 6:
    kind = KINDS[killed % len(KINDS)]
    moment = rng.uniform(0, 0.6 * seconds) if kind == "time" else rng.randint(1, 5)
    status = child(root / "killed", kind, moment)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    killed += 1
    check(root / "killed")
assert child(root / "killed")[1] == 0
print(killed)
"""


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_run_killed_many_times_ends_with_the_bits_of_an_unbroken_one(tmp_path):
    seed = int.from_bytes(os.urandom(4))
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), str(seed)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert int(done.stdout) >= 3
    one, other = (read_state(tmp_path / name / "last.ckpt") for name in ("unbroken", "killed"))
    assert one["progress"]["finished"]
    assert other["progress"]["finished"]
    assert _same(one["network"], other["network"])
    assert _same(one["average"]["state"], other["average"]["state"])
    for state, twin in zip(
        one["optimiser"]["state"].values(), other["optimiser"]["state"].values(), strict=True
    ):
        assert _same(state, twin)
    best = [load_file(tmp_path / name / "best.safetensors") for name in ("unbroken", "killed")]
    assert _same(*best)
    # Times alone differ.
    tables = [
        [line.rpartition(",")[0] for line in (tmp_path / name / "records.csv").open()]
        for name in ("unbroken", "killed")
    ]
    assert tables[0] == tables[1]
