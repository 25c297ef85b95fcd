"""Training on a GPU learns what it learns on a CPU, and a run goes on from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from tiny_training import Squares, tiny_run
from tiny_xmem import MovingSquares, tiny_xmem_run
from torch import Tensor

from dvos.training.loop import Training
from dvos.training.run_folder import read_state

# By steps along the gradient: Adam makes as much of a small difference as of a large gradient.
_SGD = {"sgd": True, "lr": 0.05, "pictures": 0}
_RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "paper": (tiny_run, {"losses": {"ms_ssim": 0.5, "reconstruction": 0.5}}),
    "dvos": (tiny_run, {"arguments": {}}),
    "xmem": (tiny_xmem_run, {}),
}


def _run(name: str, out: Path, device: torch.device, **options: Any) -> Training:
    build, own = _RUNS[name]
    fabric = Fabric(accelerator=device.type, devices=1, precision="32-true")
    run: Training = build(out, fabric=fabric, **{**_SGD, **own, **options})
    # What it draws is another stream on each device.
    for module in run.network.modules():
        if hasattr(module, "diffusion"):
            module.diffusion = None
    return run


def _weights(run: Training) -> Tensor:
    return torch.cat(
        [x.detach().cpu().flatten().float() for x in run.network.state_dict().values()]
    )


@pytest.mark.parametrize("name", _RUNS)
def test_it_learns_the_same(name: str, tmp_path: Path, device: torch.device) -> None:
    validation = MovingSquares(2) if name == "xmem" else Squares(count=2)
    runs = [
        _run(name, tmp_path / str(number), where, validation=validation)
        for number, where in enumerate((torch.device("cpu"), device))
    ]
    for run in runs:
        run.run()
    torch.testing.assert_close(_weights(runs[1]), _weights(runs[0]), atol=1e-3, rtol=1e-3)
    for one, other in zip(*(run.progress.records for run in runs), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-3)
        assert one["dice"] == pytest.approx(other["dice"], abs=0.01)


@pytest.mark.parametrize("name", _RUNS)
def test_a_run_goes_on_on_a_gpu_and_back(name: str, tmp_path: Path, device: torch.device) -> None:
    whole = _run(name, tmp_path / "whole", torch.device("cpu"), epochs=3, validation=None)
    whole.run()
    last = None
    for epochs, where in ((1, torch.device("cpu")), (2, device), (3, torch.device("cpu"))):
        last = _run(name, tmp_path / "parts", where, epochs=3, validation=None)
        if last.folder.state.is_file():
            last.restore(read_state(last.folder.state))
        while len(last.progress.records) < epochs:
            _one_epoch(last)
    assert last is not None
    torch.testing.assert_close(_weights(last), _weights(whole), atol=1e-3, rtol=1e-3)


def _one_epoch(run: Training) -> None:
    """To the end of an epoch, where a killed run is taken up."""
    end = run._end_epoch

    def stop() -> None:
        end()
        run.progress.finished = True

    run._end_epoch = stop  # type: ignore[method-assign]
    run._run()
    run._end_epoch = end  # type: ignore[method-assign]
    run.progress.finished = False
    run._save()


@pytest.mark.parametrize("name", _RUNS)
def test_the_default_precision_learns(name: str, tmp_path: Path, gpu: torch.device) -> None:
    build, own = _RUNS[name]
    fabric = Fabric(accelerator=gpu.type, devices=1, precision="bf16-mixed")
    run = build(tmp_path, fabric=fabric, epochs=4, validation=None, **own)
    run.run()
    losses = [record["train_loss"] for record in run.progress.records]
    assert losses[-1] < losses[0]
