"""``dvos synthesize``."""

from __future__ import annotations

from typing import Annotated

import typer

from dvos.cli.options import ConfigOption, OutOption, SetOption, WorkersOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("synthesize")(synthesize)


def synthesize(
    out: OutOption = None,
    workers: WorkersOption = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Make the I-th of N parts.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a dask.distributed scheduler.")
    ] = None,
    preview: Annotated[
        bool | None, typer.Option("--preview", help="Only a contact sheet of some clips.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Composite cutouts over backgrounds into exactly labelled clips."""
    from dvos import api

    result = api.synthesize(
        config=config,
        overrides=overrides,
        out=out,
        workers=workers,
        shard=shard,
        scheduler=scheduler,
        preview=preview,
    )
    say(str(result))
