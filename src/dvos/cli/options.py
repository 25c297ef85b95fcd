"""The options of a command, made from the declaration of its settings."""

from __future__ import annotations

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
    """A function of a command's options, for typer to read.

    Every setting of the command's own level that one word can give is an
    option; the others are given by ``--set`` or ``--config``.

    Args:
        command: Its name.
        run: Called with the values by the settings' names, ``config`` and
            ``overrides``; what was not given is None.
    """
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
