"""``dvos rounds``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rounds")(rounds)


def rounds(
    out: OutOption = None,
    start: Annotated[
        Path | None,
        typer.Option("--start", help="Trained network that predicts first; else it is trained."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", help="Rounds of predicting and training again.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Train, then predict unlabelled video, accept labels and train again."""
    from dvos import api

    result = api.rounds(config=config, overrides=overrides, out=out, start=start, rounds=rounds)
    say(str(result))
