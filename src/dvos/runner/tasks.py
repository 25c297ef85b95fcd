"""Running a function over tasks, on an executor, with a manifest of what is done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from dvos.errors import DvosError, FaultCollector, RunError
from dvos.files import make_folder
from dvos.runner.display import open_display
from dvos.runner.manifest import Manifest, Task
from dvos.runner.workers import call_in_worker, end_pool, open_pool, worker_count

T = TypeVar("T")
Outcome: TypeAlias = "dict[str, Any] | DvosError"
Outcomes: TypeAlias = "Generator[tuple[Task[T], Outcome], None, None]"

#: Tasks handed at once to a foreign executor whose size is not known.
_FOREIGN_IN_FLIGHT = 256


def run_tasks(
    function: Callable[[T], dict[str, Any]],
    tasks: Sequence[Task[T]],
    *,
    manifest: Path,
    description: str,
    workers: int = 0,
    executor: Executor | None = None,
    unit: str = "item",
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

    Returns:
        One result per task, ``"files"`` as absolute paths. Whether a task was
        run now or before makes no difference to its result.

    Raises:
        DvosError: What the tasks raised: their common class, else RunError.
        RunError: If a worker process died, or memory ran out.
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
        outcomes = _run_on(executor, function, pending, 4 * workers or _FOREIGN_IN_FLIGHT)
    elif count <= 1:
        outcomes = _run_here(function, pending)
    else:
        outcomes = _run_in_processes(function, pending, count)
    # Closed at once, whatever happens: closing ends the worker processes.
    with open_display(description, len(tasks), unit, done) as display, closing(outcomes):
        for task, outcome in outcomes:
            if isinstance(outcome, DvosError):
                errors.append(outcome)
            else:
                results[task.key] = record.append(task, outcome)
            display.advance()
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
    pool = open_pool(count, load_main="__main__" in modules)
    try:
        yield from _run_on(pool, function, tasks, limit=2 * count)
    except BrokenProcessPool as error:
        raise RunError.at(
            "",
            "a worker process died (out of memory, or ended from outside)",
            remedy="run the same command again: it goes on where it stopped; "
            "with fewer --workers it needs less memory",
        ) from error
    finally:
        # After a full run the workers are idle; after a failure or Ctrl-C
        # they must not work on.
        end_pool(pool)


def _run_on(
    executor: Executor,
    function: Callable[[T], dict[str, Any]],
    tasks: Sequence[Task[T]],
    limit: int,
) -> Outcomes[T]:
    """Keep at most ``limit`` tasks in flight; give outcomes as they come."""
    waiting = iter(tasks)
    running: dict[Future[dict[str, Any]], Task[T]] = {}
    try:
        while True:
            while len(running) < limit and (task := next(waiting, None)) is not None:
                running[executor.submit(call_in_worker, function, task.item)] = task
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                try:
                    yield task, future.result()
                except DvosError as error:
                    yield task, error
                except MemoryError as error:
                    raise _out_of_memory(task) from error
    finally:
        for future in running:
            future.cancel()


def _out_of_memory(task: Task[Any]) -> RunError:
    return RunError.at(
        task.key,
        "memory ran out",
        remedy="run the same command again with fewer --workers: it goes on where it stopped",
    )
