"""Options that all commands share, and the way they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dvos.scoring.score import Scores

__all__ = [
    "CheckpointOption",
    "ConfigOption",
    "DeviceOption",
    "FramesArgument",
    "OutOption",
    "SetOption",
    "StillsOption",
    "WorkersOption",
    "fail_if_missing",
    "say",
]

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. a.b=3; may be repeated."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Processes; 0 means one per core.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where the results go.")]
FramesArgument = Annotated[
    Path | None,
    typer.Argument(help="Video, folder of frames, clip store, folder of these, or CSV."),
]
CheckpointOption = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights, such as train/best.safetensors.")
]
StillsOption = Annotated[
    bool | None, typer.Option("--stills", help="INPUT holds photos, each a clip of its own.")
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")]


def say(text: str) -> None:
    """Print a result line on standard output."""
    typer.echo(text)


def fail_if_missing(scores: Scores) -> None:
    """End with exit code 1, a line for each, if predictions were missing.

    The scores are written all the same: a missing prediction counts in them
    as an empty mask.
    """
    from dvos.errors import TableError

    if scores.missing:
        raise TableError(scores.missing)
