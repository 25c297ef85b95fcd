"""Settings as commented YAML: what ``dvos config show`` prints and run folders keep."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dvos.config.base import PresetSettings, Settings, placed, plain_values
from dvos.config.load import load_settings, nested_models
from dvos.config.moving import run_changes
from dvos.errors import Fault, UsageError
from dvos.files import write_text

_WIDTH = 96


def settings_yaml(
    model: type[BaseModel], values: BaseModel | None = None, *, full: bool = False
) -> str:
    """Settings as YAML that reads back to equal ones, with each field's documentation above it.

    Without ``values`` the defaults are written, a required key commented out; with ``full`` the
    values of a preset, not its name alone.
    """
    return "\n".join(_lines(model, values, 0, full=full)) + "\n"


def check_run_settings(path: Path, settings: Settings) -> None:
    """Keep a run's settings in its folder; a UsageError if a run with other ones was begun there.

    Settings that affect nothing may change from start to start, and the folder may be moved with
    what lies in and beside it; the file is then written anew.
    """
    settings = placed(settings)
    if path.exists():
        earlier = placed(load_settings(type(settings), config=path))
        if earlier == settings:
            return
        changed, _ = run_changes(earlier, settings)
        if changed:
            raise UsageError(
                Fault(
                    f"{path}: {key}",
                    f"the run in this folder has {old}",
                    f"{new}",
                    "choose another --out, or delete the folder",
                )
                for key, old, new in changed
            )
    write_text(path, settings_yaml(type(settings), settings))


def _lines(
    model: type[BaseModel], values: BaseModel | None, depth: int, *, full: bool
) -> Iterator[str]:
    indent = "  " * depth
    for name, field in model.model_fields.items():
        for line in textwrap.wrap(field.description or "", _WIDTH - len(indent) - 2):
            yield f"{indent}# {line}"
        if values is not None:
            value = getattr(values, name, PydanticUndefined)
        else:
            value = field.get_default(call_default_factory=True)
        if value is PydanticUndefined:
            inner = nested_models(field.annotation)
            if len(inner) == 1 and isinstance(field.annotation, type):
                yield f"{indent}{name}:"
                yield from _lines(inner[0], None, depth + 1, full=full)
            else:
                yield f"{indent}# {name}:  (required)"
        elif isinstance(value, PresetSettings) and not full and value.preset_name is not None:
            yield f"{indent}{name}: {value.preset_name}"
        elif isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(type(value), value, depth + 1, full=full)
        else:
            text = yaml.safe_dump(
                plain_values(value), default_flow_style=True, width=10**6, allow_unicode=True
            )
            text = text.removesuffix("\n").removesuffix("\n...")
            yield f"{indent}{name}: {text}"
