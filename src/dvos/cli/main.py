"""The ``dvos`` command: its sub-commands, and how errors leave it.

Exit codes: 0 done; 2 bad usage or configuration; 1 anything else foreseen; 130 interrupted.
"""

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer

from dvos import __version__
from dvos.cli import tools
from dvos.config.commands import COMMANDS
from dvos.errors import DvosError, TableError

_log = logging.getLogger(__name__)

_SUMMARY = "Dense-pattern video object segmentation: label a few stills, segment every frame."


def build_app(words: Sequence[str]) -> typer.Typer:
    """The command line as one line of words needs it: only the command named gets its options."""
    app = typer.Typer(
        name="dvos",
        help=_SUMMARY,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    extract = typer.Typer(help="Cut videos into frames, and labelled stills into cutouts.")
    app.add_typer(extract, name="extract")
    plain = " ".join(word for word in words if not word.startswith("-"))
    for name, command in COMMANDS.items():
        group, last = (extract, name.split()[1]) if " " in name else (app, name)
        function = _function(name) if f"{plain} ".startswith(f"{name} ") else lambda: None
        example = f"Example: dvos {name} {command.example}"
        group.command(last, help=command.summary, epilog=example)(function)
    app.command("check", epilog="Example: dvos check train.yaml clips.csv data")(tools.check)
    app.add_typer(tools.config, name="config")
    return app


def _function(command: str) -> Callable[..., None]:
    from dvos.cli.tools import command_function

    def run_command(**values: Any) -> None:
        from dvos import api

        result = api.run(command, values)
        typer.echo(str(result))
        if COMMANDS[command].then:
            typer.echo(f"next: {COMMANDS[command].then.format(result)}", err=True)
        # A missing prediction counts as an empty mask in scores that are written all the same.
        scores = getattr(result, "scores", result)
        missing = getattr(scores, "missing", ()) if command in ("score", "evaluate") else ()
        if missing:
            raise TableError(missing)

    return command_function(command, run_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dvos {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere in the line.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def run() -> NoReturn:
    """Entry point of the ``dvos`` script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run the words after ``dvos``; gives the exit code."""
    # OpenMP threads that wait spin unless told otherwise, and take the cores
    # from the processes that make the clips; it is read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is no reason to fail after the work.
            stream.reconfigure(errors="backslashreplace")
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) < len(arguments)
    words = words or ["--help"]
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s: %(message)s",
        handlers=[_StderrHandler()],
    )
    logging.addLevelName(logging.WARNING, "warning")
    for name in ("numba", "matplotlib", "PIL", "libav", "lightning.fabric", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _tell_warning
            # A shell that completes a line tells it here.
            line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS")
            app = build_app(words if line is None else line.split()[1:])
            code = app(words, prog_name="dvos", standalone_mode=False)
    except BrokenPipeError:
        # The reader of our output went away (as in `dvos ... | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        messages, code = _told(error)
        for message in messages:
            print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return code
    return code if isinstance(code, int) else 0


def _told(error: BaseException) -> tuple[list[str], int]:
    """An error's lines and exit code."""
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return ["interrupted; run the same command again to go on from here"], 130
    if isinstance(error, typer.TyperException):
        return [f"{error.format_message()}; see dvos --help"], 2
    if isinstance(error, DvosError):
        return [str(fault) for fault in error.faults], error.exit_code
    if isinstance(error, MemoryError):
        return ["out of memory; use fewer workers, a smaller batch or smaller frames"], 1
    if isinstance(error, OSError):
        where, reason = error.filename or "system", error.strerror or str(error)
        remedy = "; free some and run again" if error.errno == errno.ENOSPC else ""
        return [f"{where}: {reason}{remedy}"], 1
    kind = type(error).__name__
    return [f"unforeseen {kind}: {error}; run again with --debug and report it"], 1


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Tell a warning of a library, such as matplotlib, as the program tells its own: in a line."""
    parts = Path(filename).parts
    inside = "site-packages" in parts[:-1]
    library = parts[parts.index("site-packages") + 1] if inside else category.__name__
    _log.warning("%s: %s", library, " ".join(str(message).split()))
    _log.debug("%s at %s:%d", category.__name__, filename, lineno)


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the standard error of the moment, which tests and progress bars replace."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
