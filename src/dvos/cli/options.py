"""Options that all commands share, and the way they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigOption", "OutOption", "SetOption", "SettingsHelp", "WorkersOption", "say"]

SettingsHelp = "All settings, with defaults and their meaning: dvos config show {}"

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


def say(text: str) -> None:
    """Print a result line on standard output."""
    typer.echo(text)
