"""``dvos predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    input: Annotated[  # noqa: A002 - the contract's name
        Path | None,
        typer.Argument(help="Video, folder of frames, folder of clips or videos, or CSV."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Weights, such as train/best.safetensors.")
    ] = None,
    out: OutOption = None,
    overlay: Annotated[
        bool | None, typer.Option("--overlay/--no-overlay", help="Also write overlay videos.")
    ] = None,
    stills: Annotated[
        bool | None, typer.Option("--stills", help="INPUT holds photos, each a clip of its own.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Resize frames by this for the network.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option("--tile", help="Side of the tiles large frames are cut into.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Probability from which a pixel is object.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")] = None,
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
