"""A process's place in a run on one machine, as lightning-fabric asks for it."""

from __future__ import annotations

from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.strategies import DDPStrategy

__all__ = ["Connected", "OneMachine"]


class Connected(DDPStrategy):  # type: ignore[misc]
    """Processes that are there and connected.

    Fabric's launcher, which starts none here, would still set OMP_NUM_THREADS
    for good, and refuse to work in notebooks.
    """

    def _configure_launcher(self) -> None:
        pass


class OneMachine(ClusterEnvironment):  # type: ignore[misc]
    """A place that is given, where Fabric's own environments read variables.

    Args:
        number: Of this process, from 0.
        count: Of all processes.
    """

    creates_processes_externally = True
    # Not used: the processes have met before Fabric looks for them.
    main_address = "127.0.0.1"
    main_port = 0

    def __init__(self, number: int, count: int) -> None:
        self._number = number
        self._count = count

    @staticmethod
    def detect() -> bool:
        """Never: it is given, not found."""
        return False

    def world_size(self) -> int:
        """All processes."""
        return self._count

    def set_world_size(self, size: int) -> None:
        """Fabric sets what it was given."""

    def global_rank(self) -> int:
        """This one."""
        return self._number

    def set_global_rank(self, rank: int) -> None:
        """Fabric sets what it was given."""

    def local_rank(self) -> int:
        """This one, there being one machine."""
        return self._number

    def node_rank(self) -> int:
        """The first, there being one machine."""
        return 0
