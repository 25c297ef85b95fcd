"""``dvos`` and ``python -m dvos``: the command line, and Ctrl-C while it loads."""

import sys
from typing import NoReturn

from dvos.errors import INTERRUPTED


def run() -> NoReturn:
    """Entry point of the ``dvos`` script; Ctrl-C while it loads is told as any other."""
    try:
        from dvos.cli import main
    except KeyboardInterrupt:
        print(f"error: {INTERRUPTED[0]}", file=sys.stderr)
        sys.exit(INTERRUPTED[1])
    main.run()


if __name__ == "__main__":
    run()
