"""``dvos predict``."""

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
    app.command("predict")(predict)


def predict(
    input: FramesArgument = None,  # noqa: A002 - the contract's name
    checkpoint: CheckpointOption = None,
    out: OutOption = None,
    overlay: Annotated[
        bool | None, typer.Option("--overlay/--no-overlay", help="Also write overlay videos.")
    ] = None,
    stills: StillsOption = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Resize frames by this for the network.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option("--tile", help="Side of the tiles large frames are cut into.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Probability from which a pixel is object.")
    ] = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Segment every frame; write masks, counts and overlay videos."""
    from dvos import api

    result = api.predict(
        config=config,
        overrides=overrides,
        input=input,
        checkpoint=checkpoint,
        out=out,
        overlay=overlay,
        stills=stills,
        scale=scale,
        tile=tile,
        threshold=threshold,
        device=device,
    )
    say(str(result))
