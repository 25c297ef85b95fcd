"""``dvos score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, fail_if_missing, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Folder of true masks, or clip table.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Folder of predicted masks.")
    ] = None,
    out: OutOption = None,
    frames: Annotated[
        str | None, typer.Option("--frames", help="Which frames count: last, all or labelled.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Frames: folder, video, or folder of videos."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("--domain", help="Regular expression for the domain in CLIP/FRAME."),
    ] = None,
    overlay_interval: Annotated[
        int | None,
        typer.Option("--overlay-interval", help="A picture of every n-th mask."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Score predicted masks against true ones."""
    from dvos import api

    scores = api.score(
        config=config,
        overrides=overrides,
        truth=truth,
        predictions=predictions,
        out=out,
        frames=frames,
        images=images,
        domain=domain,
        overlay_interval=overlay_interval,
    )
    say(str(scores))
    fail_if_missing(scores)
