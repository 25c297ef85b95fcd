"""The options of a command, made from the declaration of its settings."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from dvos.config.commands import COMMANDS, settings_model
from dvos.config.signatures import options_of

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
    argument, rest = COMMANDS[command].argument, COMMANDS[command].rest
    annotations: dict[str, Any] = {}
    for option in options_of(settings_model(command)):
        if option.name == argument:
            described: Any = typer.Argument(help=option.description, show_default=False)
            annotations[option.name] = Annotated[
                list[Path] | None if rest else Path | None, described
            ]
        elif option.scalar is not None:
            flag = f"--{option.name.replace('_', '-')}"
            described = typer.Option(
                f"{flag}/--no-{flag[2:]}" if option.scalar is bool else flag,
                help=f"{option.description} {option.default_text}".strip(),
                metavar="|".join(option.choices) or None,
            )
            annotations[option.name] = Annotated[option.scalar | None, described]
    annotations |= {"config": ConfigOption, "overrides": SetOption}

    def call(**values: Any) -> None:
        if argument and rest and values[argument]:
            values[argument], *further = values[argument]
            values[rest] = further or None
        run(**values)

    call.__doc__ = COMMANDS[command].summary
    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
    call.__annotations__ = annotations
    return call
