"""An executor on an existing ``dask.distributed`` cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager

from dvos.errors import RunError, UsageError

__all__ = ["cluster_executor"]

_TIMEOUT = 20  # seconds to reach the scheduler


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
