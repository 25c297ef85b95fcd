"""``dvos`` and ``python -m dvos``: the command line, and Ctrl-C while it loads."""

import os
import sys
from typing import NoReturn

from dvos.errors import INTERRUPTED


def _open_closed_streams() -> None:
    """Lead standard streams that were closed, as some services do, to nothing.

    Else a file of ours would get the number of one, and what a library tells be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def run() -> NoReturn:
    """Entry point of the ``dvos`` script; Ctrl-C while it loads is told as any other."""
    try:
        _open_closed_streams()
        from dvos.cli import main
    except KeyboardInterrupt:
        print(f"error: {INTERRUPTED[0]}", file=sys.stderr)
        sys.exit(INTERRUPTED[1])
    main.run()


if __name__ == "__main__":
    run()
