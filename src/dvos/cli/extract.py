"""``dvos extract frames`` and ``dvos extract objects``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, WorkersOption, say

app = typer.Typer()
group = typer.Typer(help="Cut videos into frames, and labelled stills into cutouts.")
app.add_typer(group, name="extract")


@group.command("frames")
def frames(
    videos: Annotated[
        Path | None, typer.Option("--videos", help="CSV with Video,FramesDir,Interval.")
    ] = None,
    out: OutOption = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write every n-th frame of each video; list them in a CSV."""
    from dvos import api

    table = api.extract_frames(
        config=config, overrides=overrides, videos=videos, out=out, workers=workers
    )
    say(f"{table}")


@group.command("objects")
def objects(
    annotated: Annotated[
        Path | None, typer.Option("--annotated", help="CSV with Image,Mask,OutDir.")
    ] = None,
    cutouts: Annotated[
        Path | None, typer.Option("--cutouts", help="CSV of cutouts to write.")
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option("--distractors", help="CSV of distractors to write.")
    ] = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Cut labelled objects, and look-alike patches that are none, out of stills."""
    from dvos import api

    result = api.extract_objects(
        config=config,
        overrides=overrides,
        annotated=annotated,
        cutouts=cutouts,
        distractors=distractors,
        workers=workers,
    )
    say(f"{result}")
