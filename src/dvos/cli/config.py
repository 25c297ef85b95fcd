"""``dvos config show`` and ``dvos config import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, SetOption, say

app = typer.Typer()
group = typer.Typer(help="Show settings; turn published YAML files into ours.")
app.add_typer(group, name="config")


@group.command("show")
def show(
    command: Annotated[list[str], typer.Argument(help="A command, e.g. train or extract frames.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Print a command's settings as YAML, each with its documentation."""
    from dvos.config.load import load_settings
    from dvos.config.registry import settings_model
    from dvos.config.show import settings_yaml

    model = settings_model(" ".join(command))
    given = config is not None or overrides
    values = load_settings(model, config=config, overrides=overrides or []) if given else None
    say(settings_yaml(model, values).rstrip("\n"))


@group.command("import")
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
        say(imported.text.rstrip("\n"))
    else:
        write_text(out, imported.text)
        say(f"{out}: settings of dvos {imported.command}")
    for note in imported.notes:
        typer.echo(f"note: {note}", err=True)
