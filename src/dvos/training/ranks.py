"""The further processes of a run on one machine: started, watched and ended by the first.

The first process, rank 0, is the one that was asked to train. Each further one
is a Python of its own that is told the settings through a pipe, and lives no
longer than the other end of that pipe is open: however the first process ends,
none is left behind. They meet at a store in the first process's memory, on an
address that only this machine sees; nothing is read from or left in the
environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

import dvos
from dvos import errors
from dvos.errors import DvosError, Fault, RunError

__all__ = ["Rank", "Ranks", "join"]

_ADDRESS = "127.0.0.1"
_PROGRAM = "import sys; sys.path += sys.argv[1:]; from dvos.training.rank import main; main()"
_REMEDY = "set devices=1 for a single process"
_GO = "go"

#: For processes that are all there to find each other.
_MEETING = timedelta(seconds=60)
#: For one to wait for another within a run: the first draws and writes alone.
_WORKING = timedelta(minutes=30)
#: For a process to end by itself, seconds.
_ENDING = 30.0
#: For a process to be seen to have ended after its connection broke, seconds.
_NOTICED = 5.0


@dataclass(frozen=True)
class Rank:
    """The place of this process among those of a run on one machine.

    Attributes:
        number: From 0.
        count: Of the processes.
        store: Where they meet.
        wait: Returns once all of them are ready, this one being so.
    """

    number: int
    count: int
    store: Any
    wait: Callable[[], None]

    def connect(self, fabric: Any) -> None:
        """Form the process group, when all are ready, and launch Fabric in it.

        Raises:
            DvosError: In the first process: what ended one of the others.
        """
        self.wait()
        with _loopback():
            distributed.init_process_group(
                "gloo",
                store=self.store,
                rank=self.number,
                world_size=self.count,
                timeout=_MEETING,
            )
        distributed.distributed_c10d._set_pg_timeout(_WORKING)
        fabric.launch()

    def report(self, error: DvosError) -> None:
        """From a further process, tell the first one why this one ends."""
        faults = [(one.where, one.found, one.expected, one.remedy) for one in error.faults]
        self.store.set(_fault(self.number), json.dumps([type(error).__name__, faults]))


@dataclass
class _Child:
    number: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]


class Ranks:
    """The further processes of a run, in a ``with`` block around it.

    Args:
        message: What :mod:`dvos.training.rank` is told; it can be pickled.
        count: Processes, this one included.
        threads: Of each, for the libraries that read OMP_NUM_THREADS; 0 for as
            it is set.

    Raises:
        RunError: If the machine has no loopback address to meet on.
    """

    def __init__(self, message: Any, *, count: int, threads: int) -> None:
        self._count = count
        self._store = _meeting_place()
        self._children: list[_Child] = []
        try:
            for number in range(1, count):
                self._children.append(_started(number, threads))
            for child in self._children:
                told = (child.number, count, self._store.port, message)
                # One that is gone already is told of when it is waited for.
                with contextlib.suppress(BrokenPipeError):
                    assert child.process.stdin is not None
                    child.process.stdin.write(pickle.dumps(told))
                    child.process.stdin.flush()
        except BaseException:
            self._end(at_once=True)
            raise

    def __enter__(self) -> Rank:
        return Rank(0, self._count, self._store, self._wait)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # What Ctrl-C or a fault of the data ended here needs no other cause.
        foreseen = isinstance(error, DvosError) or not isinstance(error, Exception)
        failure = None if foreseen else self._failure(_NOTICED)
        self._end(at_once=error is not None)
        if failure is not None:
            raise failure from error

    def _wait(self) -> None:
        waiting = {_ready(child.number) for child in self._children}
        while waiting:
            failure = self._failure(0)
            if failure is not None:
                raise failure
            waiting = {key for key in waiting if not self._store.check([key])}
            time.sleep(0.02)
        self._store.set(_GO, "")

    def _failure(self, seconds: float) -> DvosError | None:
        """What ended one of the processes too early, if any ends within so many seconds."""
        until = time.monotonic() + seconds
        while True:
            ended = [child for child in self._children if child.process.poll()]
            if ended:
                return self._reason(min(ended, key=self._consequence))
            if time.monotonic() >= until:
                return None
            time.sleep(0.02)

    def _consequence(self, child: _Child) -> int:
        # Where one ends, others fail as they lose the connection to it.
        if self._store.check([_fault(child.number)]):
            return 0
        return 1 if child.process.returncode < 0 else 2

    def _reason(self, child: _Child) -> DvosError:
        if self._store.check([_fault(child.number)]):
            return _unpacked(self._store.get(_fault(child.number)))
        code = child.process.returncode
        name = _name(child.number, self._count)
        if code < 0:
            return RunError.at(
                "devices",
                f"{name} was killed by {signal.Signals(-code).name}",
                remedy="it may have run out of memory: set devices=1, or lower batch or data.crop, "
                "and start again",
            )
        child.log.seek(0)
        lines = child.log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"code {code}")
        return RunError.at("devices", f"{name} ended with {last}", remedy=_REMEDY)

    def _end(self, *, at_once: bool) -> None:
        until = time.monotonic() + (0 if at_once else _ENDING)
        for child in self._children:
            if not at_once:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, until - time.monotonic()))
            with contextlib.suppress(OSError):
                assert child.process.stdin is not None
                child.process.stdin.close()
        for child in self._children:
            try:
                child.process.wait(_NOTICED)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.log.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _meeting_place() -> Any:
    # Left to itself the store would listen to the whole network.
    try:
        listener = socket.create_server((_ADDRESS, 0))
        return TCPStore(
            _ADDRESS,
            listener.getsockname()[1],
            is_master=True,
            wait_for_workers=False,
            timeout=_MEETING,
            master_listen_fd=listener.detach(),
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunError.at(
            "devices", f"several processes cannot meet on this machine ({reason})", remedy=_REMEDY
        ) from error


def _started(number: int, threads: int) -> _Child:
    environment = dict(os.environ)
    # Threads that wait spin unless told otherwise, and take the others' cores.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    # Open as long as the process.
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        # -P: a file torch.py in the current folder is not to be taken for torch.
        [sys.executable, "-P", "-c", _PROGRAM, str(Path(dvos.__file__).parents[1])],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    return _Child(number, process, log)


def join(number: int, count: int, port: int) -> Rank:
    """Find the store of the first process, from a further one."""
    store = TCPStore(_ADDRESS, port, is_master=False, timeout=_MEETING)

    def wait() -> None:
        store.set(_ready(number), "")
        # However long the first takes: when it ends, so does this process.
        store.wait([_GO], timedelta(days=1))

    return Rank(number, count, store, wait)


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Have gloo use the machine's own interface: the host's name need not resolve to one."""
    name = "GLOO_SOCKET_IFNAME"
    found = {found for _, found in socket.if_nameindex()} & {"lo", "lo0"}
    if name in os.environ or not found:
        yield
        return
    os.environ[name] = found.pop()
    try:
        yield
    finally:
        del os.environ[name]


def _unpacked(text: bytes) -> DvosError:
    kind, faults = json.loads(text)
    made: DvosError = getattr(errors, kind)([Fault(*fault) for fault in faults])
    return made


def _name(number: int, count: int) -> str:
    return f"process {number + 1} of {count}"


def _ready(number: int) -> str:
    return f"ready/{number}"


def _fault(number: int) -> str:
    return f"fault/{number}"
