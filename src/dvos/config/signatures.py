"""What a command takes, from its settings: signatures, docstrings, the stub of ``dvos.api``.

Settings are declared once, in :mod:`dvos.config`; Python's ``help``, an editor's completion and
the options of the command line all come from that declaration.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dvos.config.base import Settings, plain_values
from dvos.config.commands import Command
from dvos.config.load import nested_models

_WIDTH = 96
_SHARED = {
    "config": ("StrPath | None", "YAML file of settings, as the command line takes it"),
    "overrides": ("Sequence[str]", "``a.b=value`` texts, each of which changes one setting"),
}


@dataclass(frozen=True)
class Option:
    """One setting of a command, as Python and the command line offer it.

    Attributes:
        name: Of the setting.
        annotation: Its type.
        default: Its default; ``PydanticUndefined`` where one must be given.
        description: What it means.
        key: The dotted key that it stands for.
    """

    name: str
    annotation: Any
    default: Any
    description: str
    key: str

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is PydanticUndefined

    @property
    def meaning(self) -> str:
        """Name, description and default, as a docstring lists them."""
        return f"{self.name}: {self.description} {self.default_text}"

    @property
    def scalar(self) -> Any:
        """The type of its value where one word can give it, or several one by one; else None.

        ``str`` where several types are allowed, or one of some words.
        """
        if self.name != self.key and get_origin(self.annotation) is list:
            return self.annotation
        parts = [part for part in _members(self.annotation) if part is not NoneType]
        kinds = {str if get_origin(part) is Literal else part for part in parts}
        if not kinds <= {bool, int, float, str, Path}:
            return None
        return kinds.pop() if len(kinds) == 1 else str

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be, where there are no other values."""
        parts = [part for part in _members(self.annotation) if part is not NoneType]
        if not all(get_origin(part) is Literal for part in parts):
            return ()
        return tuple(str(word) for part in parts for word in get_args(part))

    @property
    def default_text(self) -> str:
        """The default in brackets; nothing of a section, which has defaults of its own."""
        if self.required:
            return "(required)"
        if isinstance(self.default, BaseModel):
            return ""
        plain = plain_values(self.default)
        return f"(default: {'none' if plain is None else plain})"


def options_of(
    model: type[BaseModel], short: Mapping[str, str] = MappingProxyType({})
) -> list[Option]:
    """The settings of a model's own level, in order.

    Args:
        model: The settings model.
        short: Names of further options, with the dotted keys of the settings that they stand for.
    """
    found = [_option(model, name, name) for name in model.model_fields]
    return found + [_option(model, name, key) for name, key in short.items()]


def _option(model: type[BaseModel], name: str, key: str) -> Option:
    first, _, rest = key.partition(".")
    field = model.model_fields[first]
    if rest:
        return replace(_option(nested_models(field.annotation)[0], name, rest), key=key)
    default = field.get_default(call_default_factory=True, validated_data={})
    return Option(name, field.annotation, default, field.description or "", key)


def signature(model: type[Settings], command: Command) -> Signature:
    """What ``help`` shows of the function of a command.

    Args:
        model: Settings of the command.
        command: Whose ``argument`` may stand first without its name; where it has none, only a
            whole settings object may.
    """
    argument = command.argument
    first = Parameter.POSITIONAL_OR_KEYWORD if argument else Parameter.POSITIONAL_ONLY
    parameters = [Parameter(argument or "settings", first, default=None)]
    for name, (annotation, _) in _SHARED.items():
        default: Any = None if name == "config" else ()
        parameters.append(
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    parameters += [
        Parameter(
            option.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if option.required else plain_values(option.default),
            annotation=_type_text(option.annotation),
        )
        for option in options_of(model, command.short)
        if option.name != argument
    ]
    return Signature(parameters)


def docstring(model: type[Settings], command: Command) -> str:
    """The docstring of the function of a command, with a line for every setting."""
    argument = command.argument
    first = f"{argument}: {model.model_fields[argument].description}" if argument else "settings: "
    whole = f"a whole :class:`{model.__name__}`, which takes the place of all else"
    lines = [
        command.summary,
        "",
        "Args:",
        *_item(f"{first}; or {whole}" if argument else first + whole),
    ]
    for name, (_, meaning) in _SHARED.items():
        lines += _item(f"{name}: {meaning}")
    for option in options_of(model, command.short):
        if option.name != argument:
            lines += _item(option.meaning)
    lines += [
        "",
        "Raises:",
        *_item(
            "DvosError: with a fault for each thing that is wrong. A keyword whose value is None "
            "counts as not given; nested settings are given as mappings."
        ),
    ]
    return "\n".join(lines)


def _item(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="        ")


def stub(
    functions: Mapping[str, tuple[type[Settings], Command, str]],
    loader: type[Settings],
    loader_doc: str,
) -> str:
    """The text of ``api.pyi``.

    Args:
        functions: By name: settings, the command, and the result as ``module:Name``.
        loader: Settings that ``load_predictor`` takes as keywords.
        loader_doc: Its docstring, in which they stand as ``options``.
    """
    imports: dict[str, set[str]] = {"dvos.prediction.predictor": {"FirstMask", "Predictor"}}
    chosen = [option for option in options_of(loader) if option.name != "device"]
    meanings = [
        line for o in chosen for line in _item(f"{o.name}: {o.description} {o.default_text}")
    ]
    before, _, after = loader_doc.partition("        options:")
    loader_doc = before + "\n".join(f"    {line}" for line in meanings)
    loader_doc += after[after.index("\n\n    Returns") :]
    bodies: list[str] = []
    for name, (model, command, result) in functions.items():
        module, result_name = result.split(":")
        if module != "pathlib":
            imports.setdefault(module, set()).add(result_name)
        inner = (
            found for option in options_of(model) for found in nested_models(option.annotation)
        )
        for each in (model, *inner):
            imports.setdefault(each.__module__, set()).add(each.__name__)
        bodies.append("\n".join(_stub_of(name, model, command, result_name)))
    return "\n".join(
        [
            '"""Signatures of :mod:`dvos.api`; made from the settings by ``make stubs``."""',
            "",
            "from collections.abc import Mapping, Sequence",
            "from pathlib import Path",
            "from typing import Any, Literal",
            "",
            *(
                f"from {module} import {', '.join(sorted(imports[module]))}"
                for module in sorted(imports)
            ),
            "",
            "StrPath = str | Path",
            "",
            "def run(command: str, values: dict[str, Any]) -> Any: ...",
            "def stub_text() -> str: ...",
            "",
            *bodies,
            "def load_predictor(",
            "    checkpoint: StrPath,",
            "    device: str = 'auto',",
            "    *,",
            "    first_mask: FirstMask | None = None,",
            "    first_mask_checkpoint: StrPath | None = None,",
            *map(_keyword, chosen),
            ") -> Predictor:",
            f'    """{loader_doc}"""',
        ]
    )


def _stub_of(name: str, model: type[Settings], command: Command, result: str) -> Iterator[str]:
    argument = command.argument
    yield f"def {name}("
    if argument:
        own = _type_text(model.model_fields[argument].annotation)
        last = " | None" * own.endswith(" | None")
        yield f"    {argument}: {own.removesuffix(last)} | {model.__name__}{last} = ...,"
    else:
        yield f"    settings: {model.__name__} | None = None,"
        yield "    /,"
    yield "    *,"
    yield "    config: StrPath | None = None,"
    yield "    overrides: Sequence[str] = (),"
    for option in options_of(model, command.short):
        if option.name != argument:
            yield _keyword(option)
    yield f") -> {result}:"
    text = docstring(model, command).replace("\\", "\\\\").splitlines()
    yield f'    """{text[0]}'
    for line in text[1:]:
        yield f"    {line}".rstrip()
    yield '    """'
    yield ""


def _keyword(option: Option) -> str:
    plain = isinstance(option.default, (bool, int, float, str, NoneType))
    default = repr(option.default) if plain else "..."
    return f"    {option.name}: {_type_text(option.annotation)} = {default},"


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for member in get_args(annotation) for part in _members(member)]
    return [annotation]


def _type_text(annotation: Any) -> str:
    """A type as the stub has it: paths as text too, sections of settings as mappings too."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_type_text(part) for part in arguments))
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is list:
        return f"Sequence[{_type_text(arguments[0])}]"
    if origin in (tuple, dict):
        inner = ", ".join("..." if part is Ellipsis else _type_text(part) for part in arguments)
        return f"{origin.__name__}[{inner}]"
    if annotation is NoneType:
        return "None"
    if annotation is Path:
        return "StrPath"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{annotation.__name__} | Mapping[str, Any]"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
