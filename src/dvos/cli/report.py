"""``dvos report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    run: Annotated[
        Path | None, typer.Argument(help="A folder written by demo, train or predict.")
    ] = None,
    out: OutOption = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write a run's figures, plots and pictures as one HTML file."""
    from dvos import api

    say(str(api.report(config=config, overrides=overrides, run=run, out=out, title=title)))
