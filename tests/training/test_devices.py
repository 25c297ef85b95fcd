"""Runs on several devices: torchrun, SLURM, and what is said when they do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_run, tiny_settings

from dvos.errors import RunError
from dvos.training.devices import build_fabric, loader_workers
from dvos.training.run_folder import read_state

# Every loss that is formed otherwise over devices than on one, and all that
# acts between gradient and weights: clipping, accumulation, the average.
_OPTIONS = {
    "arguments": {},
    "accumulate": 2,
    "sgd": True,
    "lr": 0.3,
    "clip_norm": 0.5,
    "losses": {
        "iou": 0.5,
        "focal": 0.5,
        "reconstruction": 0.5,
        "ms_ssim": 1.0,
        "gradient_difference": 1.0,
    },
}

_SCRIPT = """
import json
import sys
from pathlib import Path
import torch
from dvos.training.devices import build_fabric
from dvos.training.run_folder import read_state
from tiny_training import Squares, tiny_run, tiny_settings
out, options, device = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
if device == "cpu":
    fabric = build_fabric(tiny_settings(out, device="cpu", threads=1))
else:  # both processes on the one device that there is
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy
    strategy = DDPStrategy(
        parallel_devices=[torch.device(device)] * 2,
        cluster_environment=TorchElasticEnvironment(),
        process_group_backend="gloo",
    )
    fabric = Fabric(accelerator="cuda", strategy=strategy)
    fabric.launch()
assert fabric.world_size == 2

def state_of(run):
    parts = (run.network.state_dict(), run.average.weights)
    return torch.cat([value.flatten().float() for state in parts for value in state.values()])

run = tiny_run(out, fabric=fabric, **options)
run.run()
weights = state_of(run)
both = fabric.all_gather(weights)
assert torch.equal(both[0], both[1]), "the processes disagree"
losses = torch.tensor([record["train_loss"] for record in run.progress.records])
both = fabric.all_gather(losses)
assert torch.equal(both[0], both[1]), "the processes disagree on the loss"

class Stopping(Squares):
    def __getitem__(self, k):
        if k >= 16:  # in the fifth of six steps
            raise KeyboardInterrupt
        return super().__getitem__(k)

broken = out.with_name(out.name + "-broken")
try:
    tiny_run(broken, fabric=fabric, training=Stopping(), save_steps=2, **options).run()
except KeyboardInterrupt:
    pass
state = read_state(broken / "last.ckpt")
assert state["progress"]["step"] == 4
again = tiny_run(broken, fabric=fabric, save_steps=2, **options)
again.restore(state)
again.run()
assert again.progress.step == 6
if device == "cpu":
    assert torch.equal(state_of(again), weights), "a resumed run learns something else"
else:
    torch.testing.assert_close(state_of(again), weights, atol=1e-3, rtol=1e-3)
for record, twin in zip(run.progress.records, again.progress.records, strict=True):
    assert abs(record["dice"] - twin["dice"]) < (1e-9 if device == "cpu" else 1e-2)
"""


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _run_two(out: Path, device: str) -> None:
    """Two processes that torchrun starts: a run, and one that is stopped and goes on."""
    script = out.with_name("run.py")
    script.write_text(_SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    done = subprocess.run(
        [*command, str(script), str(out), json.dumps(_OPTIONS), device],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_two_processes_share_one_gpu(tmp_path):
    _run_two(tmp_path / "two", "cuda:0")


def test_two_processes_agree_and_learn_what_one_learns_also_after_a_stop(tmp_path):
    _run_two(tmp_path / "two", "cpu")
    tiny_run(tmp_path / "one", **_OPTIONS).run()
    two, one = (read_state(tmp_path / name / "last.ckpt") for name in ("two", "one"))
    for record, twin in zip(one["progress"]["records"], two["progress"]["records"], strict=True):
        assert record.keys() == twin.keys()
        for name in record:
            if name.startswith(("train_", "val_")) or name == "lr":
                assert record[name] == pytest.approx(twin[name], rel=1e-4, abs=1e-6), name
        # Of thresholded masks: a pixel or two may fall on the other side.
        assert record["dice"] == pytest.approx(twin["dice"], abs=0.01)
    for part in ("network", "average"):
        states = [found[part].get("state", found[part]) for found in (one, two)]
        for key, value in states[0].items():
            torch.testing.assert_close(value, states[1][key], atol=1e-5, rtol=1e-4)
    assert one["progress"]["records"][1]["train_loss"] < one["progress"]["records"][0]["train_loss"]


_SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}

_SLURM_SCRIPT = """
import json
import os
from pathlib import Path
import torch
from dvos.training.devices import build_fabric
from tiny_training import tiny_settings
fabric = build_fabric(tiny_settings(Path("run"), device="cpu", devices=2, threads=1))
assert fabric.world_size == 2
assert fabric.global_rank == int(os.environ["SLURM_PROCID"])
assert fabric.all_reduce(torch.tensor(1.0 + fabric.global_rank), reduce_op="sum") == 3
"""


def test_the_tasks_that_slurm_starts_are_the_processes_of_a_run():
    """Two processes with the variables that srun would give them; there is no SLURM here."""
    port = str(15000 + os.getpid() % 10000)
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", _SLURM_SCRIPT],
            env=_environment()
            | _SLURM
            | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "MASTER_PORT": port},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told


def _faults(monkeypatch, *, devices: int, nodes: int, **changes: str | None) -> list[str]:
    for name, value in (_SLURM | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(RunError) as caught:
        build_fabric(tiny_settings(Path("run"), device="cpu", devices=devices, nodes=nodes))
    return [str(fault) for fault in caught.value.faults]


def test_other_numbers_than_slurm_has_are_told_at_once(monkeypatch):
    faults = _faults(
        monkeypatch,
        devices=1,
        nodes=1,
        SLURM_NTASKS="8",
        SLURM_NTASKS_PER_NODE="4",
        SLURM_NNODES="2",
    )
    assert len(faults) == 2
    assert "devices: is 1; expected 4, as SLURM has 4 tasks per node; set devices=4" in faults[0]
    assert "nodes: is 1; expected 2, as SLURM has 2 nodes; set nodes=2" in faults[1]


def test_tasks_that_slurm_does_not_part_by_node_are_told(monkeypatch):
    faults = _faults(monkeypatch, devices=2, nodes=1, SLURM_NTASKS_PER_NODE=None)
    assert len(faults) == 1
    assert "--ntasks-per-node=2" in faults[0]


def test_an_interactive_slurm_shell_is_one_process(monkeypatch):
    for name, value in (_SLURM | {"SLURM_JOB_NAME": "interactive"}).items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    fabric = build_fabric(tiny_settings(Path("run"), device="cpu", threads=threads))
    assert fabric.world_size == 1


def test_a_device_that_is_not_there_is_said():
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test needs to be absent")
    with pytest.raises(RunError, match="cuda cannot be used"):
        build_fabric(tiny_settings(Path("run"), device="cuda", threads=1))


def test_half_precision_on_a_cpu_learns(tmp_path):
    threads = torch.get_num_threads()
    settings = tiny_settings(tmp_path, device="cpu", precision="bf16-mixed", threads=threads)
    fabric = build_fabric(settings)
    losses = {"ms_ssim": 1.0, "reconstruction": 0.5}
    run = tiny_run(tmp_path, fabric=fabric, losses=losses, clips=8)
    run.run()
    records = run.progress.records
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert all(value.dtype == torch.float32 for value in run.network.parameters())


def test_workers_by_device():
    settings = tiny_settings(Path("run"))
    assert loader_workers(tiny_settings(Path("run"), workers=3), torch.device("cpu")) == 3
    assert loader_workers(settings, torch.device("cpu")) == 1
    assert loader_workers(settings, torch.device("cuda")) >= 1
