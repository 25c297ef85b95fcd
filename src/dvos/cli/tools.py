"""``dvos check``, ``dvos config show`` and ``dvos config import``: they run nothing."""

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from dvos.config.commands import COMMANDS, settings_model

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. a.b=3; may be repeated."),
]


def command_function(command: str, run: Callable[..., None]) -> Callable[..., None]:
    """A function for typer of all settings that one word can give, which calls ``run``."""
    from dvos.config.signatures import options_of

    known = COMMANDS[command]
    argument, rest = known.argument, known.rest
    annotations: dict[str, Any] = {}
    for option in options_of(settings_model(command), known.short):
        if option.name == argument:
            described: Any = typer.Argument(help=option.description, show_default=False)
            many = rest or get_origin(option.annotation) is list
            annotations[option.name] = Annotated[
                list[Path] | None if many else Path | None, described
            ]
        elif option.scalar is not None:
            flag = f"--{option.name.replace('_', '-')}"
            many = get_origin(option.scalar) is list
            told = "; may be repeated" if many else f" {option.default_text}"
            described = typer.Option(
                f"{flag}/--no-{flag[2:]}" if option.scalar is bool else flag,
                help=f"{option.description}{told}".strip(),
                metavar="|".join(option.choices) or ("PATH" if many else None),
            )
            annotations[option.name] = Annotated[option.scalar | None, described]
    annotations |= {"config": ConfigOption, "overrides": SetOption}

    def call(**values: Any) -> None:
        if argument and rest and values[argument]:
            values[argument], *further = values[argument]
            values[rest] = further or None
        # What may be given several times is an empty list where it is not given.
        run(**{name: None if value == [] else value for name, value in values.items()})

    call.__doc__ = COMMANDS[command].summary
    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
    call.__annotations__ = annotations
    return call


config = typer.Typer(help="Show settings; turn published YAML files into ours.")


def check(
    paths: Annotated[
        list[Path], typer.Argument(help="YAML configurations, CSV tables or data folders.")
    ],
    command: Annotated[
        str | None, typer.Option("--command", help="The command a configuration is for.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Image to draw the first clips of a training into."),
    ] = None,
) -> None:
    """Check configurations, tables and data folders; report all faults; write nothing else."""
    from dvos.checking import check as check_one
    from dvos.checking import draw_batch
    from dvos.errors import DvosError, Fault, UsageError

    if picture is not None and len(paths) != 1:
        raise UsageError.at(
            "--picture", f"with {len(paths)} paths", "one YAML configuration of dvos train"
        )
    faults: list[Fault] = []
    worst: DvosError | None = None
    for path in paths:
        try:
            typer.echo(f"{check_one(path, command=command)}: good")
        except DvosError as error:
            faults.extend(error.faults)
            if worst is None or error.exit_code > worst.exit_code:
                worst = error
    if worst is not None:
        raise type(worst)(faults)
    if picture is not None:
        typer.echo(draw_batch(paths[0], picture))


@config.command("show", epilog="Example: dvos config show train --full > train.yaml")
def show(
    command: Annotated[list[str], typer.Argument(help="A command, e.g. train or extract frames.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write out the values that presets stand for.")
    ] = False,
) -> None:
    """Print a command's settings as YAML, each with its documentation."""
    from dvos.config.commands import settings_model
    from dvos.config.load import load_settings
    from dvos.config.show import settings_yaml

    model = settings_model(" ".join(command))
    values = load_settings(model, config=config, overrides=overrides or [], partial=True)
    typer.echo(settings_yaml(model, values, full=full).rstrip("\n"))


@config.command("import", epilog="Example: dvos config import train.yaml --out ours.yaml")
def import_(
    file: Annotated[Path, typer.Argument(help="A YAML file of the published code.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output without it.")
    ] = None,
) -> None:
    """Turn a published YAML (frames, objects, simulator, training) into ours."""
    from dvos.config.published import import_published
    from dvos.files import write_text

    imported = import_published(file)
    if out is None:
        typer.echo(imported.text.rstrip("\n"))
    else:
        write_text(out, imported.text)
        typer.echo(f"{out}: settings of dvos {imported.command}")
    for note in imported.notes:
        typer.echo(f"note: {note}", err=True)
