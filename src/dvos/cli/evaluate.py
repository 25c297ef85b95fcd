"""``dvos evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import (
    CheckpointOption,
    ConfigOption,
    DeviceOption,
    OutOption,
    SetOption,
    fail_if_missing,
    say,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    checkpoint: CheckpointOption = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Clip table, or folder of true masks.")
    ] = None,
    input: Annotated[  # noqa: A002 - as in predict
        Path | None, typer.Option("--input", help="The frames, where --truth is a folder.")
    ] = None,
    stills: Annotated[
        bool | None, typer.Option("--stills", help="They are photos, each a clip of its own.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("--domain", help="Regular expression for the domain in CLIP/FRAME."),
    ] = None,
    out: OutOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Predict labelled clips with a checkpoint and score them."""
    from dvos import api

    result = api.evaluate(
        config=config,
        overrides=overrides,
        checkpoint=checkpoint,
        truth=truth,
        input=input,
        stills=stills,
        domain=domain,
        out=out,
        device=device,
    )
    say(str(result))
    fail_if_missing(result.scores)
