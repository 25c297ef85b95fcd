"""``dvos demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, WorkersOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    out: OutOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of real data; without it a sample field is rendered."),
    ] = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Run the whole method: cut, synthesise, train, predict, score, report."""
    from dvos import api

    result = api.demo(config=config, overrides=overrides, out=out, data=data, workers=workers)
    say(f"report      {result.report}")
    if result.scores is not None:
        say(f"scores      {result.scores} (pooled Dice {result.pooled_dice:.3f})")
    say(f"checkpoint  {result.checkpoint}")
    for overlay in result.overlays:
        say(f"overlay     {overlay}")
    say(f"time        {result.seconds / 60:.1f} min")
