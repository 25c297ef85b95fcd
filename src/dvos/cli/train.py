"""``dvos train``."""

from __future__ import annotations

from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    out: OutOption = None,
    resume: Annotated[
        bool | None, typer.Option("--resume", help="Go on with the run in the output folder.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Train a network from stills, clips, or clips synthesised on the fly."""
    from dvos import api

    result = api.train(config=config, overrides=overrides, out=out, resume=resume, device=device)
    say(str(result))
