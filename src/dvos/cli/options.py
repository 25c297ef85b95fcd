"""The options of a command, made from the declaration of its settings."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from dvos.config.commands import COMMANDS, settings_model
from dvos.config.signatures import Option, options_of

__all__ = ["ConfigOption", "SetOption", "command_function"]

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
    options = options_of(settings_model(command))
    parameters = [_argument(option, rest) for option in options if option.name == argument]
    parameters += [
        Parameter(
            option.name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[option.scalar | None, _described(option)],
        )
        for option in options
        if option.scalar is not None and option.name != argument
    ]
    for name, annotation in (("config", ConfigOption), ("overrides", SetOption)):
        parameters.append(
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )

    def call(**values: Any) -> None:
        if argument and rest and values[argument]:
            values[argument], *further = values[argument]
            values[rest] = further or None
        run(**values)

    call.__doc__ = COMMANDS[command].summary
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def _argument(option: Option, rest: str | None) -> Parameter:
    described = typer.Argument(help=option.description, show_default=False)
    kind: Any = list[Path] if rest else Path
    return Parameter(
        option.name,
        Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, described],
    )


def _described(option: Option) -> Any:
    flag = f"--{option.name.replace('_', '-')}"
    names = (f"{flag}/--no-{flag[2:]}",) if option.scalar is bool else (flag,)
    metavar = "|".join(option.choices) or None
    text = f"{option.description} {option.default_text}".strip()
    return typer.Option(*names, help=text, metavar=metavar)
