"""Work on the workers of a dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from dvos.errors import RunError, UsageError
from dvos.runner.display import open_display
from dvos.runner.manifest import Task
from dvos.runner.tasks import Outcome, run_on

T = TypeVar("T")

_TIMEOUT = 20  # seconds to reach the scheduler
#: Tasks that the scheduler is handed at a time.
_IN_FLIGHT = 256


@contextmanager
def cluster_executor(address: str) -> Iterator[Executor]:
    """Connect to the scheduler at ``address`` and give its executor.

    The workers need this package, of the same release, and the files under
    the same absolute paths. What a lost worker was doing is done again by
    another.

    Raises:
        UsageError: If ``distributed`` is not installed, the address is none,
            or nothing answers there.
        RunError: If the cluster fails during the block.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise UsageError.at(
            f"--scheduler {address}",
            "needs the package distributed, which is not installed",
            remedy="pip install 'dvos[cluster]'",
        ) from error
    try:
        client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError.at(
            f"--scheduler {address}",
            f"cannot be reached ({error})",
            "the address of a running dask scheduler, for example tcp://10.0.0.1:8786",
        ) from error
    with client:
        try:
            yield client.get_executor(pure=False)
        except KilledWorker as error:
            raise RunError.at(
                f"--scheduler {address}",
                f"the same work ended several workers ({error})",
                remedy="give the workers more memory and run the same command again: "
                "it goes on where it stopped",
            ) from error
        except (CancelledError, ImportError, OSError) as error:
            raise RunError.at(
                f"--scheduler {address}",
                f"the cluster failed ({type(error).__name__}: {error})",
                remedy="see that scheduler and workers run, with this release of dvos and the "
                "same files; run the same command again: it goes on where it stopped",
            ) from error


def run_on_cluster(
    address: str,
    function: Callable[[T], dict[str, Any]],
    items: Sequence[tuple[str, T]],
    *,
    description: str,
    unit: str = "clip",
) -> Generator[tuple[str, Outcome], None, None]:
    """Call ``function`` on named items by the workers of a cluster; each outcome as it comes.

    Unlike :func:`~dvos.runner.tasks.run_tasks` it keeps no record: the function does.

    Args:
        address: Of the scheduler.
        function: Module-level function.
        items: Each with a name of its own; they must pickle, with absolute paths.
        description: Shown before the progress.
        unit: What an item is, for the progress.

    Yields:
        A name, with what the function gave for its item, or the DvosError that it raised.

    Raises:
        UsageError: If the cluster cannot be reached.
        RunError: If it fails, or memory ran out on it.
    """
    tasks = [Task(name, item, "") for name, item in items]
    with (
        cluster_executor(address) as executor,
        open_display(description, len(tasks), unit, 0) as advance,
        closing(run_on(executor, function, tasks, _IN_FLIGHT)) as outcomes,
    ):
        for task, outcome in outcomes:
            advance()
            yield task.key, outcome
