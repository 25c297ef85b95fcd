"""Which settings model belongs to which command."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dvos.config.base import Settings
from dvos.errors import UsageError

__all__ = ["COMMANDS", "guess_command", "settings_model"]

# Module and class by command; imported when asked for, as reading one
# command's settings should not pay for all.
COMMANDS: dict[str, tuple[str, str]] = {
    "extract frames": ("frames", "FramesSettings"),
    "extract objects": ("objects", "ObjectsSettings"),
    "synthesize": ("synthesis", "SynthesisSettings"),
    "train": ("training", "TrainingSettings"),
    "evaluate": ("evaluation", "EvaluationSettings"),
    "predict": ("prediction", "PredictionSettings"),
    "pseudo-label": ("pseudo", "PseudoLabelSettings"),
    "rounds": ("rounds", "RoundsSettings"),
    "score": ("scoring", "ScoringSettings"),
    "convert": ("convert", "ConvertSettings"),
    "report": ("report", "ReportSettings"),
    "demo": ("demo", "DemoSettings"),
}


def settings_model(command: str) -> type[Settings]:
    """The settings model of ``command``.

    Raises:
        UsageError: If there is no such command.
    """
    name = _plain(command)
    known = {_plain(each): each for each in COMMANDS}
    if name not in known:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(COMMANDS)}"
        raise UsageError.at(command, "no such command", remedy=hint)
    module, cls = COMMANDS[known[name]]
    model: type[Settings] = getattr(import_module(f"dvos.config.{module}"), cls)
    return model


def _plain(command: str) -> str:
    # `extract-frames`, the name of a configuration file, is as good as `extract frames`.
    return " ".join(command.replace("-", " ").replace(".", " ").split())


def guess_command(values: Mapping[str, Any]) -> str:
    """The command whose settings fit the top-level keys of ``values`` best.

    That is the one that knows most of them; of several, the one that lacks the
    fewest required keys, then the one with the fewest keys besides.

    Raises:
        UsageError: If no command knows any of the keys.
    """

    def fit(command: str) -> tuple[int, int, int]:
        fields = settings_model(command).model_fields
        required = {name for name, field in fields.items() if field.is_required()}
        return len(values.keys() & fields.keys()), -len(required - values.keys()), -len(fields)

    best = max(COMMANDS, key=fit)
    if not fit(best)[0]:
        raise UsageError(
            f"no command has any of the keys {', '.join(map(str, values)) or '(none)'}; "
            f"name the command: one of {', '.join(COMMANDS)}"
        )
    return best
