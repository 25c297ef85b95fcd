"""A further process of a run on one machine; see :mod:`dvos.training.ranks`.

Nothing it prints is seen unless it fails.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading

__all__ = ["main"]


def main() -> None:
    """Take part in the run that standard input tells of, and end with the first process."""
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number, count, port, (settings, spec, goes_on) = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    from torch import distributed

    from dvos.errors import DvosError
    from dvos.training.ranks import join
    from dvos.training.run import take_part

    rank = join(number, count, port)
    try:
        take_part(settings, spec, rank, goes_on=goes_on)
    except DvosError as error:
        rank.report(error)
        raise
    distributed.destroy_process_group()


def _end_with_the_first() -> None:
    # The pipe's other end is the first process's alone: it closes when that
    # ends, even by a kill, and when it wants this process to end.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
