"""Running a function over tasks, in worker processes, with a manifest of what is done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from dvos.errors import DvosError, FaultCollector, RunError
from dvos.files import make_folder
from dvos.media.limits import MemoryShare, set_memory_share
from dvos.runner.display import open_display
from dvos.runner.manifest import Manifest, Task
from dvos.runner.taking import taken
from dvos.runner.words import Words, say, words_kept

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
Outcome: TypeAlias = "dict[str, Any] | DvosError"
Outcomes: TypeAlias = "Generator[tuple[Task[T], Outcome], None, None]"

#: Tasks handed at once to a foreign executor whose size is not known.
_FOREIGN_IN_FLIGHT = 256
_GOES_ON = "run the same command again: it goes on where it stopped"
#: Seconds that a worker gets to end by itself after an interruption.
_GRACE = 3.0


def worker_count(workers: int) -> int:
    """Processes to use: ``workers``, or for 0 the cores this process may use."""
    if workers > 0:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    function: Callable[[T], dict[str, Any]],
    tasks: Sequence[Task[T]],
    *,
    manifest: Path,
    description: str,
    workers: int = 0,
    executor: Executor | None = None,
    unit: str = "item",
    begin: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Call ``function`` on each task's item and give the results in task order.

    A task is not run again when the manifest has it with the same fingerprint
    and the files it wrote are there with the sizes noted.

    A task that fails with a :class:`DvosError` does not stop the others; all
    faults are raised together at the end. Any other exception stops the run
    at once.

    Args:
        function: Module-level function. Its result must be JSON-able; the
            entry ``"files"`` lists the paths that it wrote.
        tasks: The work.
        manifest: JSON-lines file; the folder it stands in is made if needed.
            Two runs at a time need two of them.
        description: Shown before the progress.
        workers: Processes; 0 for one per core, 1 for none but this one.
        executor: Used instead of own processes if given, and left open; any
            executor with the interface of ``concurrent.futures``.
        unit: What a task is, for the progress.
        begin: Called before the first task, when no other run has the manifest.

    Returns:
        One result per task, ``"files"`` as absolute paths. Whether a task was
        run now or before makes no difference to its result.

    Raises:
        DvosError: What the tasks raised: their common class, else RunError.
        RunError: If a worker process died, memory ran out, or another run is at this work.
        KeyboardInterrupt: After pending work was cancelled and the running
            workers were ended.
    """
    if len({task.key for task in tasks}) != len(tasks):
        raise ValueError("task keys must be unique")
    make_folder(manifest.parent)
    record = Manifest(manifest)
    results = {task.key: record.finished(task) for task in tasks}
    pending = [task for task in tasks if results[task.key] is None]
    errors: list[DvosError] = []
    done = len(tasks) - len(pending)
    count = min(worker_count(workers), len(pending))
    if executor is not None:
        outcomes = run_on(executor, function, pending, 4 * workers or _FOREIGN_IN_FLIGHT)
    elif count <= 1:
        outcomes = _run_here(function, pending)
    else:
        outcomes = _run_in_processes(function, pending, count)
    if pending:
        record.begin()
    # Closed at once, whatever happens: closing ends the worker processes.
    with (
        taken(manifest) if pending else nullcontext(),
        open_display(description, len(tasks), unit, done) as advance,
        closing(outcomes),
    ):
        if pending:
            begin()
        for task, outcome in outcomes:
            if isinstance(outcome, DvosError):
                errors.append(outcome)
            else:
                results[task.key] = record.append(task, outcome)
            advance()
    kinds = {type(error) for error in errors}
    with FaultCollector(kinds.pop() if len(kinds) == 1 else RunError) as faults:
        for error in errors:
            faults.extend(error.faults)
    return [result for task in tasks if (result := results[task.key]) is not None]


def _run_here(function: Callable[[T], dict[str, Any]], tasks: Sequence[Task[T]]) -> Outcomes[T]:
    for task in tasks:
        try:
            yield task, function(task.item)
        except DvosError as error:
            yield task, error
        except MemoryError as error:
            raise _out_of_memory(task) from error


def _run_in_processes(
    function: Callable[[T], dict[str, Any]], tasks: Sequence[Task[T]], count: int
) -> Outcomes[T]:
    work = getattr(function, "func", function)  # of a functools.partial
    modules = {work.__module__, type(tasks[0].item).__module__}
    remedy = f"{_GOES_ON}; with fewer --workers it needs less memory"
    with open_pool(count, load_main="__main__" in modules, remedy=remedy) as pool:
        yield from run_on(pool, function, tasks, limit=2 * count)


@contextmanager
def open_pool(
    count: int,
    *,
    load_main: bool = False,
    remedy: str = "with fewer --workers it needs less memory",
) -> Iterator[Executor]:
    """Worker processes of one thread each, which are ended with the block.

    Args:
        count: Processes; each starts when there is work for it.
        load_main: Whether they load the caller's main module, which work defined there needs.
        remedy: What to do if one dies.

    Raises:
        RunError: If a process died.
    """
    pool = _Pool(count, load_main=load_main)
    try:
        yield pool
    except (BrokenProcessPool, EOFError, ConnectionError) as error:
        found = "a worker process died (out of memory, or ended from outside)"
        raise RunError.at("", found, remedy=remedy) from error
    finally:
        # After a full run the workers are idle; after a failure or Ctrl-C
        # they must not work on.
        pool.end()


def run_on(
    executor: Executor,
    function: Callable[[T], dict[str, Any]],
    tasks: Sequence[Task[T]],
    limit: int,
) -> Outcomes[T]:
    """Call ``function`` on an executor; give each task's result, or its DvosError, as they come.

    Args:
        executor: With the interface of ``concurrent.futures``.
        function: Module-level function.
        tasks: Their items are what it is called with.
        limit: At most so many tasks are in flight.
    """
    waiting = iter(tasks)
    running: dict[Future[tuple[Outcome, Words]], Task[T]] = {}
    said: set[str] = set()
    try:
        while True:
            while len(running) < limit and (task := next(waiting, None)) is not None:
                running[executor.submit(_call, function, task.item)] = task
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                try:
                    outcome, words = future.result()
                except MemoryError as error:
                    raise _out_of_memory(task) from error
                say(words, said)
                yield task, outcome
    finally:
        for future in running:
            future.cancel()


def _out_of_memory(task: Task[Any]) -> RunError:
    return RunError.at(
        task.key,
        "memory ran out",
        remedy="run the same command again with fewer --workers: it goes on where it stopped",
    )


def process_context() -> multiprocessing.context.BaseContext:
    """How further processes are started: never a plain fork, as this one may hold locks."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


_main_lock = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    with _main_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def starting_processes(*, load_main: bool = True) -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started in the block, and an end from their start.

    A process inherits what is blocked: Ctrl-C while it loads its modules would print its traceback
    beside the parent's own message. So would SIGTERM to this one while it tells a process what to
    do; both are told to this process afterwards.

    Args:
        load_main: Whether they load the caller's main module, which work that is defined there
            needs. Without it the package can be called from a script that has no ``__main__``
            guard, from a notebook or from standard input.
    """
    if not load_main:
        with _without_main(), starting_processes():
            yield
        return
    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield
        return
    from multiprocessing import forkserver, resource_tracker

    # Once started, Python's tracker of shared resources would unblock what is blocked.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # Processes inherit from the server that forks them, which must not be deaf to SIGTERM.
        forkserver.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Pool(ProcessPoolExecutor):
    """Single-threaded processes that start when work is submitted, deaf to Ctrl-C at once.

    Args:
        count: Processes.
        load_main: As of :func:`starting_processes`.
    """

    def __init__(self, count: int, *, load_main: bool) -> None:
        context, share = process_context(), MemoryShare.of(count)
        super().__init__(count, mp_context=context, initializer=_start_worker, initargs=(share,))
        self._load_main = load_main

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        with starting_processes(load_main=self._load_main):
            return super().submit(fn, *args, **kwargs)

    def end(self) -> None:
        """Cancel what has not begun, end what runs, wait until all workers are gone."""
        # The pool has no public list of its processes before Python 3.14.
        processes = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
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


def _call(function: Callable[[T], dict[str, Any]], item: T) -> tuple[Outcome, Words]:
    """Call ``function``; if the parent ends this worker meanwhile, unwind and exit.

    Returns:
        What it gave, or the DvosError that it raised, and what it logged.
    """
    global _worker_is_busy
    _worker_is_busy = True
    try:
        with words_kept() as words:
            try:
                return function(item), words
            except DvosError as error:
                return error, words
    except _Ended:
        # Unwound as far as here, so that temporary files are gone.
        os._exit(1)
    finally:
        _worker_is_busy = False


def _start_worker(share: MemoryShare) -> None:
    """Prepare a worker process: one thread, ends with its parent, not with Ctrl-C."""
    set_memory_share(share)
    # One process per core is the parallelism; threads inside each would
    # only contend. The variables work as numpy and cv2 are not loaded yet.
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)

    def on_terminate(_number: int, _frame: FrameType | None) -> None:
        if _worker_is_busy:
            raise _Ended
        os._exit(1)

    # Ctrl-C reaches the whole process group; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, on_terminate)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait in a worker process for its parent's end, and end with it."""
    # A parent that is killed outright cannot end its workers; left alone
    # they would go on writing while the next run writes the same files.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
