from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_run

from dvos.errors import RunError
from dvos.training.checkpoint import read_state
from dvos.training.devices import build_fabric, loader_workers

_SCRIPT = """
import sys
from pathlib import Path
import torch
from dvos.training.devices import build_fabric
from tiny_training import tiny_run
fabric = build_fabric(device="cpu", devices=1, nodes=1, precision="32-true", threads=1)
assert fabric.world_size == 2
run = tiny_run(Path(sys.argv[1]), fabric=fabric)
run.run()
weights = torch.cat([value.flatten().float() for value in run.network.state_dict().values()])
both = fabric.all_gather(weights)
assert torch.equal(both[0], both[1]), "the processes disagree"
"""


def test_two_processes_agree_and_learn_what_one_learns(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tiny_run(tmp_path / "one").run()
    two, one = (read_state(tmp_path / name / "last.ckpt") for name in ("two", "one"))
    for record, twin in zip(one["progress"]["records"], two["progress"]["records"], strict=True):
        for name in ("train_loss", "train_bce", "train_soft_dice", "val_loss"):
            assert record[name] == pytest.approx(twin[name], rel=1e-4)
    for key, value in one["network"].items():
        torch.testing.assert_close(value, two["network"][key], atol=1e-3, rtol=1e-3)


def test_a_device_that_is_not_there_is_said():
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test needs to be absent")
    with pytest.raises(RunError, match="cuda cannot be used"):
        build_fabric(device="cuda", devices=1, nodes=1, precision="auto", threads=1)


def test_workers_by_device():
    assert loader_workers(3, torch.device("cpu"), devices=1) == 3
    assert loader_workers(0, torch.device("cpu"), devices=1) == 1
    assert loader_workers(0, torch.device("cuda"), devices=1) >= 1
