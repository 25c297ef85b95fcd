"""Training where processes cannot be forked, as on Windows, and where a GPU computes wrongly."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from dvos.config.training import TrainingSettings
from dvos.errors import RunError
from dvos.networks import devices as module
from dvos.networks.devices import best_device
from dvos.runner.processes import process_context, starting_processes
from dvos.training.devices import cpu_processes
from dvos.training.workers import start_ahead

SETTINGS = TrainingSettings(out=Path("run"), device="cpu", epochs=10)


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])


@pytest.mark.usefixtures("spawning")
def test_one_process_trains_on_a_cpu() -> None:
    assert cpu_processes(SETTINGS, gains=True) == 1
    with pytest.raises(RunError, match="in one process; expected 1; leave it at 0"):
        cpu_processes(SETTINGS.model_copy(update={"devices": 2}), gains=True)


@pytest.mark.usefixtures("spawning")
def test_no_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import forkserver

    monkeypatch.setattr(forkserver, "ensure_running", None)
    start_ahead(SETTINGS)
    with starting_processes(load_main=False):
        assert process_context().get_start_method() == "spawn"


class _Elsewhere:
    """torch's modules say that there is an Apple GPU; tensors stay on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: float | None) -> None:
        moved = torch.nn.Module.to

        def to(network: torch.nn.Module, device: object) -> torch.nn.Module:
            if error is None:
                raise NotImplementedError("aten::x is not implemented for MPS\n...")
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(error)
            return moved(network, "cpu")

        monkeypatch.setattr(torch.nn.Module, "to", to)
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("error", "chosen", "told"),
    [
        (0.0, "mps", ""),
        (0.1, "cpu", "a tile's logits differ by"),
        (float("nan"), "cpu", "a tile's logits differ by nan"),
        (None, "cpu", "does not run there (aten::x is not implemented for MPS)"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is taken first")
def test_apples_gpu_is_taken_only_where_it_computes_what_the_cpu_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error, chosen, told
) -> None:
    _Elsewhere(monkeypatch, error)
    best_device.cache_clear()
    try:
        before = torch.get_rng_state()
        assert module.best_device().type == chosen
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        best_device.cache_clear()
    assert told in caplog.text
    assert ("mps is passed over for the CPU" in caplog.text) == bool(told)
