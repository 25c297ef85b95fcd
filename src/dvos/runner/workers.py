"""Worker processes: how many, how they start, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import BaseContext
from types import FrameType, ModuleType
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

#: Seconds that a worker gets to end by itself after an interruption.
_GRACE = 3.0


def worker_count(workers: int) -> int:
    """Processes to use: ``workers``, or for 0 the cores this process may use."""
    if workers > 0:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_pool(count: int, *, load_main: bool) -> ProcessPoolExecutor:
    """Start a pool of ``count`` single-threaded processes.

    Args:
        count: Processes.
        load_main: Whether the workers load the caller's main module, which
            work that is defined there needs. Without it the package can be
            called from a script that has no ``__main__`` guard, from a
            notebook or from standard input.
    """
    # Never a plain fork: this process may hold threads and their locks.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    return _Pool(count, context, load_main=load_main)


class _Pool(ProcessPoolExecutor):
    """A pool whose processes, which start when work is submitted, are deaf to Ctrl-C at once."""

    _main_lock = threading.Lock()

    def __init__(self, count: int, context: BaseContext, *, load_main: bool) -> None:
        super().__init__(count, mp_context=context, initializer=_start_worker)
        self._load_main = load_main

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        # A process inherits what is blocked: Ctrl-C while it loads its modules
        # would print its traceback beside the parent's own message.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            if self._load_main:
                return super().submit(fn, *args, **kwargs)
            with self._main_lock:
                main = sys.modules["__main__"]
                sys.modules["__main__"] = ModuleType("__main__")
                try:
                    return super().submit(fn, *args, **kwargs)
                finally:
                    sys.modules["__main__"] = main
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def end_pool(pool: ProcessPoolExecutor) -> None:
    """Cancel what has not begun, end what runs, wait until all workers are gone."""
    # The pool has no public list of its processes before Python 3.14.
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


class _Ended(BaseException):
    """Unwinds a worker's running task when the parent ends the worker."""


_worker_is_busy = False


def call_in_worker(function: Callable[[T], dict[str, Any]], item: T) -> dict[str, Any]:
    """Call ``function``; if the parent ends this worker meanwhile, unwind and exit."""
    global _worker_is_busy
    _worker_is_busy = True
    try:
        return function(item)
    except _Ended:
        # Unwound as far as here, so that temporary files are gone.
        os._exit(1)
    finally:
        _worker_is_busy = False


def _start_worker() -> None:
    """Prepare a worker process: one thread, ends with its parent, not with Ctrl-C."""
    # One process per core is the parallelism; threads inside each would
    # only contend. The variables work as numpy and cv2 are not loaded yet.
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    # Ctrl-C reaches the whole process group; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _on_terminate)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    if _worker_is_busy:
        raise _Ended
    os._exit(1)


def _end_with_parent() -> None:
    # A parent that is killed outright cannot end its workers; left alone
    # they would go on writing while the next run writes the same files.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
