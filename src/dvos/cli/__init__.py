"""The command line: parse, call the library, print."""

import sys
from typing import NoReturn

INTERRUPTED = ("interrupted; run the same command again to go on from here", 130)


def run() -> NoReturn:
    """Entry point of the ``dvos`` script; Ctrl-C while it loads is told as any other."""
    try:
        from dvos.cli import main
    except KeyboardInterrupt:
        print(f"error: {INTERRUPTED[0]}", file=sys.stderr)
        sys.exit(INTERRUPTED[1])
    main.run()
