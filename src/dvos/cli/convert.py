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
        Path | None, typer.Argument(help="Weights: .tar or .pth as published, or .safetensors.")
    ] = None,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write published weights as a file of ours, or any weights as ONNX (--out model.onnx)."""
    from dvos import api

    result = api.convert(config=config, overrides=overrides, checkpoint=checkpoint, out=out)
    say(str(result))
