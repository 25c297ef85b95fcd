"""The ``dvos`` command: its sub-commands, and how errors leave it.

Exit codes: 0 done; 2 bad usage or configuration; 1 anything else foreseen; 130 interrupted.
"""

import _thread
import errno
import gc
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_origin

import typer

from dvos.config.commands import COMMANDS, next_step, settings_model
from dvos.errors import INTERRUPTED, DvosError, Fault, TableError, UsageError

_log = logging.getLogger(__name__)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. a.b=3; may be repeated."),
]
# What glibc's malloc is told: freed memory up to 16 GiB stays, blocks below 4 GiB come from it.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
}
config = typer.Typer(help="Show settings; turn published YAML files into ours.")


def build_app(words: Sequence[str]) -> typer.Typer:
    """The command line as one line of words needs it: only the command named gets its options."""
    app = typer.Typer(
        name="dvos",
        help="Dense-pattern video object segmentation: label a few stills, segment every frame.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    extract = typer.Typer(help="Cut videos into frames, and labelled stills into cutouts.")
    app.add_typer(extract, name="extract")
    plain = " ".join(word for word in words if not word.startswith("-"))
    for name, command in COMMANDS.items():
        group, last = (extract, name.split()[1]) if " " in name else (app, name)
        function = command_function(name) if f"{plain} ".startswith(f"{name} ") else lambda: None
        example = f"Example: dvos {name} {command.example}"
        group.command(last, help=command.summary, epilog=example)(function)
    app.command("check", epilog="Example: dvos check train.yaml clips.csv data")(check)
    app.add_typer(config, name="config")
    return app


def command_function(command: str) -> Callable[..., None]:
    """A function for typer of all settings that one word can give, which does the command."""
    from dvos.config.signatures import options_of

    known = COMMANDS[command]
    argument, rest = known.argument, known.rest
    annotations: dict[str, Any] = {}
    for option in options_of(settings_model(command), known.short):
        if option.name == argument:
            described: Any = typer.Argument(help=option.description, show_default=False)
            kind: Any = list[Path] if rest or get_origin(option.annotation) is list else Path
            annotations[option.name] = Annotated[kind | None, described]
        elif option.scalar is not None:
            flag = f"--{option.name.replace('_', '-')}"
            many = get_origin(option.scalar) is list
            told = "; may be repeated" if many else f" {option.default_text}"
            described = typer.Option(
                f"{flag}/--no-{flag[2:]}" if option.scalar is bool else flag,
                help=f"{option.description}{told}".strip(),
                metavar="|".join(option.choices) or ("PATH" if many else None),
            )
            annotations[option.name] = Annotated[option.scalar | None, described]
    annotations |= {"config": ConfigOption, "overrides": SetOption}

    def call(**values: Any) -> None:
        from dvos import api

        if argument and rest and values[argument]:
            values[argument], *further = values[argument]
            values[rest] = further or None
        # What may be given several times is an empty list where it is not given.
        given = {name: None if value == [] else value for name, value in values.items()}
        result = api.run(command, given)
        if command == "train" and _is_one_of_several():
            return  # the first of them tells it
        typer.echo(str(result))
        if following := next_step(known, result):
            typer.echo(f"next: {following}", err=True)
        # A missing prediction counts as an empty mask in scores that are written all the same.
        scores = getattr(result, "scores", result)
        missing = getattr(scores, "missing", ()) if command in ("score", "evaluate") else ()
        if missing:
            raise TableError(missing)

    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
    call.__annotations__ = annotations
    return call


def _is_one_of_several() -> bool:
    """Whether torchrun or SLURM began this process beside a first one of the same run."""
    ranks = {"TORCHELASTIC_RUN_ID": "RANK", "SLURM_STEP_ID": "SLURM_PROCID"}
    return any(os.environ.get(rank, "0") != "0" for run, rank in ranks.items() if run in os.environ)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dvos import __version__

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


def check(
    paths: Annotated[
        list[Path], typer.Argument(help="YAML configurations, CSV tables or data folders.")
    ],
    command: Annotated[
        str | None, typer.Option("--command", help="The command a configuration is for.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Image to draw the first clips of a training into."),
    ] = None,
) -> None:
    """Check configurations, tables and data folders; report all faults; write nothing else."""
    from dvos import checking

    if picture is not None and len(paths) != 1:
        expected = "one YAML configuration of dvos train"
        raise UsageError.at("--picture", f"with {len(paths)} paths", expected)
    errors: list[DvosError] = []
    for path in paths:
        try:
            typer.echo(f"{checking.check(path, command=command)}: good")
        except DvosError as error:
            errors.append(error)
    if errors:
        worst = max(errors, key=lambda error: error.exit_code)
        raise type(worst)(fault for error in errors for fault in error.faults)
    if picture is not None:
        typer.echo(checking.draw_batch(paths[0], picture))


@config.command("show", epilog="Example: dvos config show train --full > train.yaml")
def show(
    command: Annotated[list[str], typer.Argument(help="A command, e.g. train or extract frames.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write out the values that presets stand for.")
    ] = False,
) -> None:
    """Print a command's settings as YAML, each with its documentation."""
    from dvos.config.load import load_settings
    from dvos.config.show import settings_yaml

    model = settings_model(" ".join(command))
    values = load_settings(model, config=config, overrides=overrides or [], partial=True)
    typer.echo(settings_yaml(values, full=full).rstrip("\n"))


@config.command("import", epilog="Example: dvos config import train.yaml --out ours.yaml")
def import_(
    file: Annotated[Path, typer.Argument(help="A YAML file of the published code.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output without it.")
    ] = None,
) -> None:
    """Turn a published YAML (frames, objects, simulator, training) into ours."""
    from dvos.config.published import import_published
    from dvos.files import refuse_foreign, write_text

    imported = import_published(file)
    if out is None:
        typer.echo(imported.text.rstrip("\n"))
    else:
        # What was changed in it since is the user's.
        data = imported.text.encode("utf-8", "surrogateescape")
        if not out.is_file() or out.read_bytes() != data:
            refuse_foreign([out], "dvos config import")
        write_text(out, imported.text)
        typer.echo(f"{out}: settings of dvos {imported.command}")
    for note in imported.notes:
        typer.echo(f"note: {note}", err=True)


def run() -> NoReturn:
    """Run the words of the process and end it."""
    keep_memory(sys.argv[1:])
    code = main(sys.argv[1:])
    # Else the interpreter looks for cycles among all there is before it ends: a second.
    gc.freeze()
    sys.exit(code)


def keep_memory(words: Sequence[str]) -> None:
    """Start a command that segments large frames anew, with a C library that keeps freed memory.

    Else every tensor of a large frame is fetched from the system page by page and handed back: a
    third of the time. glibc reads the variables at a process's start alone. PyTorch is told to take
    large pages, too, by which a training, of small crops, would lose a twentieth.
    """
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in ("evaluate", "predict", "pseudo-label") or sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if os.environ.items() >= _KEEP_MEMORY.items():
        for name in _KEEP_MEMORY:  # It is started anew; what it starts itself needs them not.
            del os.environ[name]
    elif sys.executable and not any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ
    ):
        os.environ |= _KEEP_MEMORY
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main(arguments: Sequence[str]) -> int:
    """Run the words after ``dvos``; gives the exit code."""
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"] or ["--help"]
    try:
        _prepare(debug)
        with warnings.catch_warnings(), _heeding_interrupts():
            warnings.showwarning = _tell_warning
            # A shell that completes a line tells it here.
            line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS")
            app = build_app(words if line is None else line.split()[1:])
            code = app(words, prog_name="dvos", standalone_mode=False)
        if code == INTERRUPTED[1]:  # typer has taken it, and says nothing
            raise KeyboardInterrupt
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


def _prepare(debug: bool) -> None:
    """Set what libraries read when they load, and how messages are told."""
    # OpenMP threads that wait spin unless told otherwise, and take the cores from the processes
    # that make the clips; GNU's spin some microseconds, as going to sleep between two layers takes
    # longer. It is read when torch loads.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is no reason to fail after the work.
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s: %(message)s",
        handlers=[_StderrHandler()],
    )
    logging.addLevelName(logging.WARNING, "warning")
    for name in ("numba", "matplotlib", "PIL", "libav", "lightning.fabric", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _heeding_interrupts() -> Iterator[None]:
    """Repeat a Ctrl-C that comes in a destructor or a callback, where Python ignores it."""
    before = sys.unraisablehook

    def repeat(ignored: "sys.UnraisableHookArgs") -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            before(ignored)
        elif sys.platform == "win32":
            threading.Timer(0.1, _thread.interrupt_main).start()
        else:  # a signal wakes a thread that waits, too
            told = (threading.get_ident(), signal.SIGINT)
            threading.Timer(0.1, signal.pthread_kill, told).start()

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = before


def _told(error: BaseException) -> tuple[list[str], int]:
    """An error's lines and exit code."""
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return [INTERRUPTED[0]], INTERRUPTED[1]
    if isinstance(error, typer.TyperException):
        return [f"{_fault_of_words(error)}; see dvos --help"], 2
    if isinstance(error, DvosError):
        return [str(fault) for fault in error.faults], error.exit_code
    if isinstance(error, MemoryError):
        return ["out of memory; use fewer workers, a smaller batch or smaller frames"], 1
    if isinstance(error, OSError):
        where, reason = error.filename or "system", error.strerror or str(error)
        remedies = {errno.ENOSPC: "; free some and run again"}
        remedies |= dict.fromkeys((errno.EACCES, errno.EPERM), "; check its permissions")
        remedy = remedies.get(error.errno or 0, "")
        return [f"{where}: {reason}{remedy}"], 1
    if "KeyboardInterrupt" in str(error):  # of a library that was interrupted in making something
        return [INTERRUPTED[0]], INTERRUPTED[1]
    return [f"unforeseen {type(error).__name__}: {error}; run again with --debug and report it"], 1


def _fault_of_words(error: typer.TyperException) -> Fault:
    """What is wrong with the words of a line, and what a command takes in place of too many."""
    told, context = error.format_message(), getattr(error, "ctx", None)
    if context is None or not told.startswith("Got unexpected extra argument"):
        return Fault("", told)
    arguments = [one for one in context.command.params if one.param_type_name == "argument"]
    if not arguments:
        return Fault("", told, "options alone", "put the name of its option before each")
    name = str(arguments[0].name).upper()
    return Fault("", told, f"one {name}", "give the folder that holds them" * (name == "INPUT"))


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    *_: object,
    **__: object,
) -> None:
    """Tell a warning of a library, such as matplotlib, as the program tells its own: in a line."""
    parts = Path(filename).parts
    inside = "site-packages" in parts[:-1]
    library = parts[parts.index("site-packages") + 1] if inside else category.__name__
    _log.warning("%s: %s", library, " ".join(str(message).split()))
    _log.debug("%s at %s:%d", category.__name__, filename, lineno)


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the standard error of the moment, which tests and progress bars replace."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
