"""``dvos check``, ``dvos config show`` and ``dvos config import``: they run nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, SetOption

config = typer.Typer(help="Show settings; turn published YAML files into ours.")


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
            typer.echo(f"{check_one(path, command=command)}: good")
        except DvosError as error:
            faults.extend(error.faults)
            if worst is None or error.exit_code > worst.exit_code:
                worst = error
    if worst is not None:
        raise type(worst)(faults)
    if picture is not None:
        typer.echo(draw_batch(paths[0], picture))


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
    from dvos.config.commands import settings_model
    from dvos.config.load import load_settings
    from dvos.config.show import settings_yaml

    model = settings_model(" ".join(command))
    values = load_settings(model, config=config, overrides=overrides or [], partial=True)
    typer.echo(settings_yaml(model, values, full=full).rstrip("\n"))


@config.command("import", epilog="Example: dvos config import train.yaml --out ours.yaml")
def import_(
    file: Annotated[Path, typer.Argument(help="A YAML file of the published code.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output without it.")
    ] = None,
) -> None:
    """Turn a published YAML (frames, objects, simulator, training) into ours."""
    from dvos.config.published import import_published
    from dvos.files import write_text

    imported = import_published(file)
    if out is None:
        typer.echo(imported.text.rstrip("\n"))
    else:
        write_text(out, imported.text)
        typer.echo(f"{out}: settings of dvos {imported.command}")
    for note in imported.notes:
        typer.echo(f"note: {note}", err=True)
