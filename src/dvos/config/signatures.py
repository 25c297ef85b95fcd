"""What a command takes, from its settings: signatures, docstrings, the stub of ``dvos.api``."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dvos.config.base import Settings, nested_models, plain_values
from dvos.config.commands import Command

_WIDTH = 96
_SHARED = {
    "config": ("StrPath | None", None, "YAML file of settings, as the command line takes it"),
    "overrides": ("Sequence[str]", (), "``a.b=value`` texts, each of which changes one setting"),
}


@dataclass(frozen=True)
class Option:
    """One setting of a command, as Python and the command line offer it."""

    name: str
    annotation: Any
    default: Any
    description: str
    key: str

    @property
    def scalar(self) -> Any:
        """The type of its value where one word can give it, or several one by one; else None."""
        if self.name != self.key and get_origin(self.annotation) is list:
            return self.annotation
        parts = _members(self.annotation)
        kinds = {str if get_origin(part) is Literal else part for part in parts}
        if not kinds <= {bool, int, float, str, Path}:
            return None
        return kinds.pop() if len(kinds) == 1 else str

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be, where there are no other values."""
        parts = _members(self.annotation)
        if not all(get_origin(part) is Literal for part in parts):
            return ()
        return tuple(str(word) for part in parts for word in get_args(part))

    @property
    def meaning(self) -> str:
        """Its line in a docstring."""
        return f"{self.name}: {self.description} {self.default_text}"

    @property
    def default_text(self) -> str:
        """The default in brackets; nothing of a section, which has defaults of its own."""
        if self.default is PydanticUndefined:
            return "(required)"
        if isinstance(self.default, BaseModel):
            return ""
        plain = plain_values(self.default)
        return f"(default: {'none' if plain is None else plain})"


def options_of(
    model: type[BaseModel], short: Mapping[str, str] = MappingProxyType({})
) -> list[Option]:
    """The settings of a model's own level, then those that ``short`` names stand for, by key."""
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
    """What ``help`` shows of a command's function; its argument may stand first, unnamed."""
    argument = command.argument
    if argument:
        own = _type_text(model.model_fields[argument].annotation)
        optional = " | None" * own.endswith(" | None")
        annotation = f"{own.removesuffix(optional)} | {model.__name__}{optional}"
        first = Parameter(argument, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    else:
        annotation = f"{model.__name__} | None"
        first = Parameter("settings", Parameter.POSITIONAL_ONLY, annotation=annotation)
    shared = [_keyword(name, kind, default) for name, (kind, default, _) in _SHARED.items()]
    options = [
        _keyword(option.name, _type_text(option.annotation), option.default)
        for option in options_of(model, command.short)
        if option.name != argument
    ]
    return Signature([first.replace(default=None), *shared, *options])


def _keyword(name: str, annotation: str, default: Any) -> Parameter:
    plain = Parameter.empty if default is PydanticUndefined else plain_values(default)
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=plain)


def docstring(model: type[Settings], command: Command) -> str:
    """The docstring of the function of a command, with a line for every setting."""
    argument = command.argument
    first = f"{argument}: {model.model_fields[argument].description}" if argument else "settings: "
    whole = f"a whole :class:`{model.__name__}`, which takes the place of all else"
    meanings = [f"{name}: {meaning}" for name, (*_, meaning) in _SHARED.items()]
    options = options_of(model, command.short)
    meanings += [option.meaning for option in options if option.name != argument]
    raised = "DvosError: with a fault for each thing that is wrong. A keyword whose value is None"
    raised += " counts as not given; nested settings are given as mappings."
    told = [f"{first}; or {whole}" if argument else first + whole, *meanings]
    return "\n".join(
        [command.summary, "", "Args:", *_wrapped(told), "", "Raises:", *_wrapped([raised])]
    )


def _wrapped(items: Iterable[str]) -> list[str]:
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent="    ", subsequent_indent="        ")
    return [line for item in items for line in wrapper.wrap(item)]


def stub(
    functions: Mapping[str, tuple[type[Settings], Command]],
    loader: type[Settings],
    loader_doc: str,
) -> str:
    """The text of ``api.pyi``.

    Settings of the ``loader`` stand in its docstring as ``options``.
    """
    imports: dict[str, set[str]] = {"dvos.prediction.predictor": {"FirstMask", "Predictor"}}
    chosen = [option for option in options_of(loader) if option.name != "device"]
    before, _, after = loader_doc.partition("        options:")
    meanings = [f"    {line}" for line in _wrapped(option.meaning for option in chosen)]
    loader_doc = before + "\n".join(meanings) + after[after.index("\n\n    Returns") :]
    bodies, newline = list[str](), "\n"
    for name, (model, command) in functions.items():
        module, _, result_name = command.work[1].rpartition(":")
        module = module or f"dvos.{command.work[0].partition(':')[0]}"
        if module != "pathlib":
            imports.setdefault(module, set()).add(result_name)
        kinds = (field.annotation for field in model.model_fields.values())
        for each in (model, *(inner for kind in kinds for inner in nested_models(kind))):
            imports.setdefault(each.__module__, set()).add(each.__name__)
        bodies.append(_stub_of(name, model, command, result_name))
    keywords = [_keyword(o.name, _type_text(o.annotation), o.default) for o in chosen]
    return f'''"""Signatures of :mod:`dvos.api`; made from the settings by ``make stubs``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

{newline.join(f"from {name} import {', '.join(sorted(imports[name]))}" for name in sorted(imports))}

StrPath = str | Path

def run(command: str, values: dict[str, Any]) -> Any: ...
def stub_text() -> str: ...

{newline.join(bodies)}
def load_predictor(
    checkpoint: StrPath,
    device: str = 'auto',
    *,
    first_mask: FirstMask | None = None,
    first_mask_checkpoint: StrPath | None = None,
{newline.join(map(_declared, keywords))}
) -> Predictor:
    """{loader_doc}"""'''


def _stub_of(name: str, model: type[Settings], command: Command, result: str) -> str:
    first, *rest = signature(model, command).parameters.values()
    own = [_declared(first.replace(default=...))] if command.argument else [_declared(first), "/,"]
    taken = "\n".join([*own, "*,", *map(_declared, rest)])
    text = docstring(model, command).replace("\\", "\\\\")
    body = textwrap.indent(f'"""{text}\n"""', "    ")
    return f"def {name}(\n{taken}\n) -> {result}:\n{body}\n"


def _declared(parameter: Parameter) -> str:
    plain = parameter.default == () or isinstance(parameter.default, (int, float, str, NoneType))
    default = repr(parameter.default) if plain else "..."
    return f"    {parameter.name}: {parameter.annotation} = {default},"


def _members(annotation: Any) -> list[Any]:
    """The types of a union, but None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for member in get_args(annotation) for part in _members(member)]
    return [] if annotation is NoneType else [annotation]


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
