"""Running a function over tasks, in worker processes, with a manifest of what is done.

What workers log is handed back with their results, and said by the process that the user sees.
"""

import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from dvos.errors import DvosError, FaultCollector, RunError, UsageError
from dvos.files import make_folder
from dvos.media.limits import MemoryShare, set_memory_share
from dvos.runner.display import open_display
from dvos.runner.manifest import Manifest, Task
from dvos.runner.processes import end_with_parent, process_context, starting_processes
from dvos.runner.shards import taken

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
#: A function of a module, that a task's item is given to.
Work: TypeAlias = Callable[[T], dict[str, Any]]
Outcome: TypeAlias = dict[str, Any] | DvosError
Outcomes: TypeAlias = Generator[tuple[Task[T], Outcome], None, None]

_FOREIGN_IN_FLIGHT = 256  # tasks handed at once to an executor whose size is not known
GOES_ON = "run the same command again: it goes on where it stopped"
_FEWER = "with fewer --workers it needs less memory"
_GRACE = 3.0  # seconds that a worker gets to end by itself after an interruption


_ROOT = logging.getLogger("dvos")
#: Of this process, or the one that it was forked from; numbers of processes occur on each machine.
_TOKEN = secrets.token_hex(8)


def _process() -> str:
    return f"{os.getpid()} {_TOKEN}"


@dataclass(frozen=True)
class Words:
    """What was logged: logger, level and text of each line, by what makes lines the same."""

    process: str = field(default_factory=_process)
    lines: dict[str, tuple[str, int, str]] = field(default_factory=dict)


@contextmanager
def words_kept() -> Iterator[Words]:
    """Keep what is logged in the block, perhaps by a worker whose log nobody shows."""
    handler = _Kept()
    _ROOT.addHandler(handler)
    try:
        yield handler.words
    finally:
        _ROOT.removeHandler(handler)


def say(words: Words, said: set[str]) -> None:
    """Log what another process handed back, but for what is in ``said``, which grows by it."""
    if words.process == _process():
        return  # said at once
    for same, (logger, level, text) in words.lines.items():
        if same not in said:
            logging.getLogger(logger).log(level, "%s", text)
    said.update(words.lines)


class _Kept(logging.Handler):
    """Keeps lines; ``once`` of a record names what is told of one file for all like it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words = Words()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        same = getattr(record, "once", text)
        self.words.lines.setdefault(same, (record.name, record.levelno, text))


def worker_count(workers: int) -> int:
    """Processes to use: ``workers``, or for 0 the cores this process may use."""
    if workers > 0:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    function: Work[T],
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

    A task is not run again when the manifest, a JSON-lines file of this run's own, has it with the
    same fingerprint and its files are there with the sizes noted. The function is one of a module;
    its result must be JSON-able, with the paths it wrote as ``"files"``. ``workers`` are processes,
    0 for one per core, 1 for none but this one; an ``executor`` is used instead, and left open.
    ``begin`` is called before the first task.

    A DvosError does not stop the other tasks: all faults are raised together, as their common class
    or RunError. A RunError if a worker died, memory ran out, or another run is at this work.
    """
    if len({task.key for task in tasks}) != len(tasks):
        raise ValueError("task keys must be unique")
    make_folder(manifest.parent)
    record = Manifest(manifest)
    results = {task.key: record.finished(task) for task in tasks}
    pending = [task for task in tasks if results[task.key] is None]
    errors: list[DvosError] = []
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
        open_display(description, len(tasks), unit, len(tasks) - len(pending)) as advance,
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


def _run_here(function: Work[T], tasks: Sequence[Task[T]]) -> Outcomes[T]:
    for task in tasks:
        try:
            yield task, function(task.item)
        except DvosError as error:
            yield task, error
        except MemoryError as error:
            raise _out_of_memory(task) from error


def _run_in_processes(function: Work[T], tasks: Sequence[Task[T]], count: int) -> Outcomes[T]:
    work = getattr(function, "func", function)  # of a functools.partial
    modules = {work.__module__, type(tasks[0].item).__module__}
    with open_pool(count, load_main="__main__" in modules, remedy=f"{GOES_ON}; {_FEWER}") as pool:
        yield from run_on(pool, function, tasks, limit=2 * count)


@contextmanager
def open_pool(count: int, *, load_main: bool = False, remedy: str = _FEWER) -> Iterator[Executor]:
    """Worker processes of one thread each, for the block; a RunError tells that one died."""
    pool = _Pool(count, load_main=load_main)
    try:
        yield pool
    except (BrokenProcessPool, EOFError, ConnectionError) as error:
        found = "a worker process died (out of memory, or ended from outside)"
        raise RunError.at("", found, remedy=remedy) from error
    finally:
        # After a full run the workers are idle; after a failure or Ctrl-C they must not work on.
        pool.end()


def run_on(
    executor: Executor, function: Work[T], tasks: Sequence[Task[T]], limit: int
) -> Outcomes[T]:
    """Each task's result, or its DvosError, as they come; at most ``limit`` are in flight."""
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
    remedy = "run the same command again with fewer --workers: it goes on where it stopped"
    return RunError.at(task.key, "memory ran out", remedy=remedy)


class _Pool(ProcessPoolExecutor):
    """Single-threaded processes that start when work is submitted, deaf to Ctrl-C at once."""

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


def _call(function: Work[T], item: T) -> tuple[Outcome, Words]:
    """What ``function`` gave, or its DvosError, and its log; unwinds if this worker is ended."""
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
    # One process per core is the parallelism; threads inside each would only contend. The variables
    # work as numpy and cv2 are not loaded yet.
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


_TIMEOUT = 20  # seconds to reach the scheduler
_IN_FLIGHT = 256  # tasks that the scheduler is handed at a time


@contextmanager
def cluster_executor(address: str | None) -> Iterator[Any]:
    """Connect to the scheduler at ``address`` and give its executor; None without an address.

    The workers need this package, of the same release, and the files under the same absolute paths.
    What a lost worker was doing is done again by another. A UsageError if ``distributed`` is not
    installed or nothing answers at the address; a RunError if the cluster fails in the block.
    """
    if address is None:
        yield None
        return
    where = f"--scheduler {address}"
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        found = "needs the package distributed, which is not installed"
        raise UsageError.at(where, found, remedy="pip install 'dvos[cluster]'") from error
    try:
        client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        expected = "the address of a running dask scheduler, for example tcp://10.0.0.1:8786"
        raise UsageError.at(where, f"cannot be reached ({error})", expected) from error
    with client:
        try:
            yield client.get_executor(pure=False)
        except KilledWorker as error:
            found = f"the same work ended several workers ({error})"
            remedy = f"give the workers more memory and {GOES_ON}"
            raise RunError.at(where, found, remedy=remedy) from error
        except (CancelledError, ImportError, OSError) as error:
            found = f"the cluster failed ({type(error).__name__}: {error})"
            remedy = "see that scheduler and workers run, with this release of dvos and the same"
            raise RunError.at(where, found, remedy=f"{remedy} files; {GOES_ON}") from error


def run_on_cluster(
    address: str, function: Work[T], items: Iterable[tuple[str, T]], *, description: str
) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Call ``function`` on named items by the workers of a cluster; gives each result as it comes.

    It keeps no record: the function, one of a module, does. Items must pickle, with absolute paths.
    A DvosError of the function ends the run.
    """
    tasks = [Task(name, item, "") for name, item in items]
    with (
        cluster_executor(address) as executor,
        open_display(description, len(tasks), "clip") as advance,
        closing(run_on(executor, function, tasks, _IN_FLIGHT)) as outcomes,
    ):
        for task, outcome in outcomes:
            advance()
            if isinstance(outcome, DvosError):
                raise outcome
            yield task.key, outcome
