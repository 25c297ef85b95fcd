"""``dvos predict``."""

from __future__ import annotations

from pathlib import Path
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
    instances: Annotated[
        bool | None,
        typer.Option(
            "--instances/--no-instances", help="Also write numbered objects and their table."
        ),
    ] = None,
    run_lengths: Annotated[
        bool | None,
        typer.Option("--run-lengths/--no-run-lengths", help="Also write masks as COCO JSON."),
    ] = None,
    ground_sampling_distance: Annotated[
        float | None,
        typer.Option("--ground-sampling-distance", help="Millimetres of ground per pixel."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option("--augment", help="Average over flips, scales or flips_and_scales."),
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
    first_mask: Annotated[
        str | None,
        typer.Option(
            "--first-mask", help="Of XMem: a mask, a folder of masks, or auto.", metavar="PATH|auto"
        ),
    ] = None,
    first_mask_checkpoint: Annotated[
        Path | None,
        typer.Option("--first-mask-checkpoint", help="Network that finds it, where that is auto."),
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
        instances=instances,
        run_lengths=run_lengths,
        ground_sampling_distance=ground_sampling_distance,
        augment=augment,
        stills=stills,
        scale=scale,
        tile=tile,
        threshold=threshold,
        first_mask=first_mask,
        first_mask_checkpoint=first_mask_checkpoint,
        device=device,
    )
    say(str(result))
