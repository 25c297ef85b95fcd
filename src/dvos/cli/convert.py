"""``dvos convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert")(convert)


def convert(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Weights of the published training, .tar or .pth.")
    ] = None,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write weights of the published training as a file of ours."""
    from dvos import api

    result = api.convert(config=config, overrides=overrides, checkpoint=checkpoint, out=out)
    say(str(result))
