"""The processes of a run on one machine's CPU: started, watched and ended by the first.

The first process, rank 0, is the one that was asked to train. The further ones meet it in a
temporary folder and end with it, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]

from dvos.errors import DvosError, RunError
from dvos.runner.processes import fork_from_here, process_context, starting_processes

_REMEDY = "set devices=1 for a single process"
_READY, _GO = "ready", "go"

#: For one process to wait for another within a run: the first draws and writes alone.
_WORKING = timedelta(minutes=30)
#: For a process to end by itself, seconds.
_ENDING = 30.0
#: For a process to be seen to have ended after its connection broke, seconds.
_NOTICED = 5.0


@dataclass(frozen=True)
class Rank:
    """The place of this process among those of a run on one machine, which meet in ``folder``."""

    number: int
    count: int
    folder: Path
    wait: Callable[[], None]  # Returns once all of them are ready, this one being so.

    def place(self) -> dict[str, Any]:
        """Arguments of ``lightning_fabric.Fabric`` for processes that are there and connected."""
        from lightning_fabric.plugins.environments import LightningEnvironment
        from lightning_fabric.strategies import DDPStrategy

        class Connected(DDPStrategy):  # type: ignore[misc]
            # Fabric's launcher, which starts none here, would still set OMP_NUM_THREADS for good,
            # and refuse to work in notebooks.
            def _configure_launcher(self) -> None:
                pass

        class OneMachine(LightningEnvironment):  # type: ignore[misc]
            # Fabric's own reads the rank from the environment.
            creates_processes_externally = True
            number = self.number

            def local_rank(self) -> int:
                return self.number

            def node_rank(self) -> int:
                return 0

        return {"strategy": Connected(), "plugins": [OneMachine()]}

    def connect(self, fabric: Any) -> None:
        """Form the process group when all are ready, launch Fabric; raises what ended another."""
        self.wait()
        # Gloo takes the machine's own interface, as the host's name need not resolve to one.
        interface = "GLOO_SOCKET_IFNAME"
        own = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
        chosen = interface not in os.environ and bool(own)
        if chosen:
            os.environ[interface] = own.pop()
        try:
            store = FileStore(str(self.folder / "store"), self.count)
            distributed.init_process_group(
                "gloo", store=store, rank=self.number, world_size=self.count, timeout=_WORKING
            )
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            found = f"several processes cannot meet on this machine ({reason})"
            raise RunError.at("devices", found, remedy=_REMEDY) from error
        finally:
            if chosen:
                del os.environ[interface]
        fabric.launch()


@dataclass(frozen=True)
class _Child:
    number: int
    process: BaseProcess
    connection: Connection
    log: Path

    def tell(self, message: Any) -> None:
        # One that is gone already is told of when it is waited for.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(message)

    def heard(self) -> DvosError | str | None:
        """What it says: what is at fault, or that it is ready; None if it ended without a word."""
        with contextlib.suppress(EOFError, OSError):
            return cast("DvosError | str", self.connection.recv())
        return None


class Launcher:
    """The further processes of a run, in a ``with`` block around it, which gives rank 0.

    Each is forked from the server of :mod:`dvos.training.workers` and told through a pipe to call
    ``work`` with ``message`` and its :class:`Rank`. It says there when it is ready, or what is at
    fault, and ends when the other end of the pipe is closed: however the first process ends, none
    is left behind. What it prints is seen only if it fails. ``count`` includes the first.
    """

    def __init__(self, work: Callable[..., None], message: tuple[Any, ...], *, count: int) -> None:
        self._count = count
        self._folder = tempfile.TemporaryDirectory(prefix="dvos-ranks-")
        self._children: list[_Child] = []
        try:
            for number in range(1, count):
                self._children.append(_started(number, Path(self._folder.name)))
            for child in self._children:
                child.tell((work, message, (child.number, count, self._folder.name)))
        except BaseException:
            self._end(at_once=True)
            raise

    def __enter__(self) -> Rank:
        return Rank(0, self._count, Path(self._folder.name), self._wait)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # What Ctrl-C or a fault of the data ended here needs no other cause.
        foreseen = isinstance(error, DvosError) or not isinstance(error, Exception)
        failure = None if foreseen else self._failure()
        self._end(at_once=error is not None)
        if failure is not None:
            raise failure from error

    def _wait(self) -> None:
        waiting: dict[Any, _Child] = {child.connection: child for child in self._children}
        while waiting:
            for child in map(waiting.pop, wait(list(waiting))):
                said = child.heard()
                if said != _READY:
                    raise said if isinstance(said, DvosError) else self._reason(child)
        for child in self._children:
            child.tell(_GO)

    def _failure(self) -> DvosError | None:
        """What ended one of the processes too early, if any is seen to have ended."""
        until = time.monotonic() + _NOTICED
        while time.monotonic() < until:
            # Where one ends, others fail as they lose the connection to it.
            ended = [child for child in self._children if child.process.exitcode]
            if ended:
                told = [said for child in ended if isinstance(said := child.heard(), DvosError)]
                first = min(ended, key=lambda child: (child.process.exitcode or 0) > 0)
                return told[0] if told else self._reason(first)
            time.sleep(0.02)
        return None

    def _reason(self, child: _Child) -> DvosError:
        """Why a process has ended that did not say so itself."""
        child.process.join()
        code = child.process.exitcode or 0
        name = f"process {child.number + 1} of {self._count}"
        if code < 0:
            found = f"{name} was killed by {signal.Signals(-code).name}"
            remedy = "it may have run out of memory: set devices=1, or lower batch or data.crop, "
            return RunError.at("devices", found, remedy=f"{remedy}and start again")
        lines = child.log.read_text(errors="replace").split("\n") if child.log.exists() else []
        said = [line.strip() for line in lines if line.strip()] or [f"code {code}"]
        return RunError.at("devices", f"{name} ended with {said[-1]}", remedy=_REMEDY)

    def _end(self, *, at_once: bool) -> None:
        until = time.monotonic() + (0 if at_once else _ENDING)
        for child in self._children:
            child.process.join(max(0.0, until - time.monotonic()))
            child.connection.close()
        for child in self._children:
            child.process.join(_NOTICED)
            child.process.kill()
            child.process.join()
        leave_group()
        self._folder.cleanup()


def _started(number: int, folder: Path) -> _Child:
    context = process_context()
    own, others = context.Pipe()
    log = folder / f"process_{number}.log"
    with others, starting_processes(load_main=False):
        # A daemon could start no processes that make its clips.
        process = context.Process(target=_take_part, args=(others, log))  # type: ignore[attr-defined]
        process.start()
    return _Child(number, process, own, log)


def _take_part(connection: Connection, log: Path) -> None:
    """A further process: take part in the work that the first one tells of."""
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fork_from_here()
    with log.open("wb") as stream:
        for printed in (1, 2):
            os.dup2(stream.fileno(), printed)
    work, message, (number, count, folder) = connection.recv()
    go = threading.Event()

    def follow() -> None:
        with contextlib.suppress(EOFError, OSError):
            while connection.recv() == _GO:
                go.set()
        os._exit(1)

    def ready() -> None:
        connection.send(_READY)
        go.wait()

    threading.Thread(target=follow, daemon=True).start()
    try:
        work(*message, Rank(number, count, Path(folder), ready))
    except DvosError as error:
        connection.send(error)
        raise
    leave_group()


def leave_group() -> None:
    """End the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
