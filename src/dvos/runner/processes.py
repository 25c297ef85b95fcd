"""Starting further processes, undisturbed by Ctrl-C, and ending them with the one that did."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_main_lock = threading.Lock()
_forks = False


def fork_from_here() -> None:
    """Say that this process, which a server forked, runs our work alone and may be forked itself.

    It knows nothing of that server, and would start one of its own, which loads all anew for
    seconds. Only on Linux: elsewhere a fork may not use the system's libraries.
    """
    global _forks
    _forks = sys.platform == "linux"


def process_context() -> multiprocessing.context.BaseContext:
    """How further processes are started: no plain fork of a user's process, it may hold locks."""
    methods = multiprocessing.get_all_start_methods()
    method = "fork" if _forks else "forkserver" if "forkserver" in methods else "spawn"
    return multiprocessing.get_context(method)


@contextmanager
def starting_processes(*, load_main: bool = True) -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started in the block, and an end from their start.

    A process inherits what is blocked: Ctrl-C while it loads its modules would print its traceback
    beside the parent's own message. So would SIGTERM to this one while it tells a process what to
    do; both are told to this process afterwards. Work that the caller's main module defines needs
    ``load_main``; without, the package can be called from a script that has no ``__main__`` guard,
    from a notebook or from standard input.
    """
    if not load_main:
        with _main_lock:
            main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
            try:
                with starting_processes():
                    yield
            finally:
                sys.modules["__main__"] = main
        return
    if process_context().get_start_method() != "forkserver":
        yield
        return
    from multiprocessing import forkserver, resource_tracker

    # Once started, Python's tracker of shared resources would unblock what is blocked.
    resource_tracker.ensure_running()
    with deferred(signal.SIGINT, signal.SIGTERM):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            # Processes inherit from the server that forks them, which must not be deaf to SIGTERM.
            forkserver.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def deferred(*signals: signal.Signals) -> Iterator[None]:
    """Handle signals after the block: what one thread blocks another takes, and the main handles.

    A process that was started and is not noted yet would be left to itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)
        for number in came:
            signal.raise_signal(number)


def end_with_parent() -> None:
    """Wait in a worker process for its parent's end, and end with it."""
    # A parent that is killed outright cannot end its workers; left alone they would go on writing
    # while the next run writes the same files.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
