"""``dvos pseudo-label``."""

from __future__ import annotations

from typing import Annotated

import typer

from dvos.cli.options import (
    CheckpointOption,
    ConfigOption,
    DeviceOption,
    FramesArgument,
    OutOption,
    SetOption,
    StillsOption,
    say,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pseudo-label")(pseudo_label)


def pseudo_label(
    input: FramesArgument = None,  # noqa: A002 - the contract's name
    checkpoint: CheckpointOption = None,
    out: OutOption = None,
    stills: StillsOption = None,
    interval: Annotated[
        int | None, typer.Option("--interval", help="Judge one of every so many frames.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option("--pictures", help="Accepted frames drawn into overlays/.")
    ] = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Accept predictions on unlabelled video or photos as labels for training."""
    from dvos import api

    result = api.pseudo_label(
        config=config,
        overrides=overrides,
        input=input,
        checkpoint=checkpoint,
        out=out,
        stills=stills,
        interval=interval,
        pictures=pictures,
        device=device,
    )
    say(str(result))
