"""Batches of training clips, made in the process or in workers, always the same ones."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from dvos.errors import DvosError
from dvos.media.limits import MemoryShare, set_memory_share
from dvos.runner.processes import (
    deferred,
    end_with_parent,
    process_context,
    starting_processes,
)
from dvos.runner.tasks import Words, say, words_kept
from dvos.training.workers import preload_server

_PREFETCH = 2

Batch = dict[str, Tensor]

#: What workers of this process, which end with each epoch, have said.
_SAID: set[str] = set()


class _WithWords(Dataset[Any]):
    """Items with what was logged as they were made; foreseen errors are items, not tracebacks."""

    def __init__(self, clips: Dataset[Batch]) -> None:
        self._clips = clips

    def __getitem__(self, index: int) -> tuple[Batch | DvosError, Words]:
        with words_kept() as words:
            try:
                return self._clips[index], words
            except DvosError as error:
                return error, words


def _collate(items: list[tuple[Batch | DvosError, Words]]) -> tuple[Batch | DvosError, Words]:
    words = Words(lines={same: one for _, w in items for same, one in w.lines.items()})
    errors = [item for item, _ in items if isinstance(item, DvosError)]
    return errors[0] if errors else default_collate([item for item, _ in items]), words


def _begin(worker: int) -> None:
    del worker
    # Ctrl-C reaches all processes of a terminal; the main one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Torch's own workers watch the process they were forked from, which is the
    # fork server, and keep that alive: a kill of the training would leave both.
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.excepthook = _tell_of_trouble
    # Each has one core; OpenCV's own threads would only fight over it.
    cv2.setNumThreads(0)
    # All read at the same time, those of other training processes on the machine too.
    readers = getattr(get_worker_info(), "num_workers", 1)
    set_memory_share(MemoryShare.of(readers * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _tell_of_trouble(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    # The thread that hands tensors on is cut short where the training is.
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def batches_of(
    clips: Dataset[Batch], parts: Iterable[list[int]], *, workers: int, pin: bool
) -> Generator[Batch, None, None]:
    """Read the clips of each part as a batch, in order; a DvosError of any process is raised.

    Made by ``workers`` processes, or by this one for 0, which end when it is closed; ``pin`` puts
    batches into page-locked memory, for a GPU.
    """
    # The fork server loads torch once for all workers.
    preload_server()
    loader = DataLoader(
        _WithWords(clips),
        batch_sampler=list(parts),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_begin if workers else None,
        prefetch_factor=_PREFETCH if workers else None,
        multiprocessing_context=process_context() if workers else None,
        pin_memory=pin,
        # Workers seed their generators from this one; nothing uses them, yet
        # drawing from the global generator would shift other draws.
        generator=torch.Generator(),
    )
    # A script that trains needs a guard around its call only if it defines a part of the clips.
    with starting_processes(load_main=bool(workers) and b"__main__" in pickle.dumps(clips)):
        batches = iter(loader)
    try:
        for batch, words in batches:
            say(words, _SAID)
            if isinstance(batch, DvosError):
                raise batch
            yield batch
    finally:
        # It ends its workers where it is destroyed, from where Ctrl-C would get no further.
        with deferred(signal.SIGINT):
            del batches
