"""``dvos check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check)


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
    from dvos.checking import check as check_one
    from dvos.checking import draw_batch
    from dvos.errors import DvosError, Fault, UsageError

    if picture is not None and len(paths) != 1:
        raise UsageError.at(
            "--picture", f"with {len(paths)} paths", "one YAML configuration of dvos train"
        )
    faults: list[Fault] = []
    worst: DvosError | None = None
    for path in paths:
        try:
            say(f"{check_one(path, command=command)}: good")
        except DvosError as error:
            faults.extend(error.faults)
            if worst is None or error.exit_code > worst.exit_code:
                worst = error
    if worst is not None:
        raise type(worst)(faults)
    if picture is not None:
        say(draw_batch(paths[0], picture))
