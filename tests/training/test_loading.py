"""Processes that make clips: what reaches them, and what they tell."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from dvos.runner import processes
from dvos.training.datasets import batches_of


class Blocked(Dataset[dict[str, Tensor]]):
    """Items tell whether the process that makes them is deaf to Ctrl-C, and to SIGTERM."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        logging.getLogger("dvos").warning("clip %d", index)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return {"blocked": torch.tensor([x in blocked for x in (signal.SIGINT, signal.SIGTERM)])}


def test_ctrl_c_does_not_reach_them_while_they_load_and_what_they_log_is_told(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    batches = batches_of(Blocked(), [[0], [1]], workers=1, pin=False)
    assert [batch["blocked"].tolist() for batch in batches] == [[[True, False]]] * 2
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert caplog.messages == ["clip 0", "clip 1"]
    assert "clip" not in capfd.readouterr().err


class Parents(Dataset[dict[str, Tensor]]):
    """Items tell the parent of the process that makes them, and whether it has copied the data."""

    def __init__(self) -> None:
        self.made = os.getpid()

    def __setstate__(self, state: dict[str, int]) -> None:
        self.made = 0

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"parent": torch.tensor(os.getppid()), "made": torch.tensor(self.made)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process be forked")
@pytest.mark.parametrize("forks", [False, True])
def test_a_process_that_a_server_forked_starts_no_other_server(
    forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_forks", False)
    if forks:
        processes.fork_from_here()
    (batch,) = batches_of(Parents(), [[0]], workers=1, pin=False)
    assert (batch["parent"].item() == os.getpid()) is forks
    assert batch["made"].item() == 0  # what is open here is not read on there


class Numbers(Dataset[dict[str, Tensor]]):
    """Items that hold their own number."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"number": torch.tensor(index)}


def test_ctrl_c_while_workers_are_ended_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = batches_of(Numbers(), [[0], [1], [2]], workers=1, pin=False)
    next(batches)
    ended = _MultiProcessingDataLoaderIter._shutdown_workers

    def interrupted(self: _MultiProcessingDataLoaderIter) -> None:
        signal.raise_signal(signal.SIGINT)
        ended(self)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_shutdown_workers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batches.close()
    assert not multiprocessing.active_children()
