"""``dvos pseudo-label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pseudo-label")(pseudo_label)


def pseudo_label(
    input: Annotated[  # noqa: A002 - the contract's name
        Path | None,
        typer.Argument(help="Video, folder of frames, folder of clips or videos, or CSV."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Weights, such as train/best.safetensors.")
    ] = None,
    out: OutOption = None,
    stills: Annotated[
        bool | None, typer.Option("--stills", help="INPUT holds photos, each a clip of its own.")
    ] = None,
    interval: Annotated[
        int | None, typer.Option("--interval", help="Judge one of every so many frames.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option("--pictures", help="Accepted frames drawn into overlays/.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")] = None,
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
