"""Processes that make clips: what reaches them, and what they tell."""

from __future__ import annotations

import logging
import multiprocessing
import signal

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

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
