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
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Folders written by demo, train, predict, evaluate or score; several are compared"
            " with the first.",
            show_default=False,
        ),
    ] = None,
    out: OutOption = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write figures, plots and pictures of a run, or of several runs, as one HTML file."""
    from dvos import api

    run, compare = (runs[0], runs[1:]) if runs else (None, [])
    page = api.report(
        config=config,
        overrides=overrides,
        run=run,
        compare=compare or None,
        out=out,
        title=title,
    )
    say(str(page))
