"""Every command but ``check`` and ``config`` as one function, with the command's name and settings.

Each takes settings by name (nested ones as mappings, ``None`` as not given), ``config`` (a YAML
file) and ``overrides`` (``a.b=value`` texts), or a whole settings object. The signatures are made
from the settings, for ``help(dvos.predict)`` and, in ``api.pyi``, for editors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from dvos.config.base import Settings, named_weights
from dvos.config.commands import COMMANDS, function_name, settings_model
from dvos.config.load import load_settings
from dvos.config.prediction import PredictorOptions
from dvos.config.signatures import docstring, signature, stub
from dvos.errors import CheckpointError, ConfigError, DvosError, Fault, UsageError
from dvos.registry import check_name, predictor_for, predictor_of, spec_of, training_spec
from dvos.runner.display import waiting

if TYPE_CHECKING:
    from dvos.prediction.predictor import FirstMask, Predictor

__all__ = ["load_predictor", "run", "stub_text"]


#: By command: what of its network the work is handed beside the settings.
_NETWORKS: dict[str, Callable[[Any], Any]] = {
    "train": lambda settings: training_spec(settings.network),
    "evaluate": lambda _: predictor_for,
    "predict": lambda _: predictor_for,
    "convert": lambda settings: spec_of(settings.checkpoint),
}
#: As of :func:`~dvos.config.load.load_settings`.
_CHECKS = {"train": {"network.name": check_name}}
#: What is handed the settings before the work is imported, to start what takes time.
_AHEAD = {"train": "dvos.training.workers:start_ahead"}
_COMMANDS = {function_name(command): command for command in COMMANDS}


def load_predictor(
    checkpoint: str | Path,
    device: str = "auto",
    *,
    first_mask: FirstMask | None = None,
    first_mask_checkpoint: str | Path | None = None,
    **options: Any,
) -> Predictor:
    """Load a trained network, ready to segment.

    Args:
        checkpoint: ``best.safetensors`` of a training run, ``wheat`` for the starter weights, a
            checkpoint of the published training, or an ``.onnx`` file of ``dvos convert``, which
            is run by onnxruntime.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``; an
            ``.onnx`` file is run on the CPU.
        first_mask: Of XMem, what it starts from: a mask (H, W) of the first frame, masks by frame
            index, a file, a folder with ``<clip>.png`` or ``<clip>/<frame>.png``, or ``auto``.
        first_mask_checkpoint: Network that finds the first mask, where it is ``auto``.
        options: Further settings of :class:`~dvos.config.prediction.PredictorOptions`, as
            ``scale``, ``tile``, ``threshold``, ``augment`` or ``batch``.

    Returns:
        The predictor. Its masks do not depend on ``batch``.

    Raises:
        CheckpointError: If the file is missing, damaged or holds a network that does not segment
            videos this way, as with a first mask only XMem does.
        UsageError: If the device does not exist, an option has no such value, XMem gets no first
            mask, or what an ``.onnx`` file needs is not installed.
    """
    try:
        chosen = load_settings(PredictorOptions, options={"device": device, **options})
    except ConfigError as error:
        _word_for_python(error)
        raise UsageError(error.faults) from error
    try:
        weights, given = named_weights(Path(checkpoint)), first_mask_checkpoint
        finder = None if given is None else named_weights(Path(given))
    except ValueError as error:
        raise CheckpointError.at("checkpoint", str(error)) from error
    return predictor_of(weights, chosen, first_mask=first_mask, first_mask_checkpoint=finder)


def stub_text() -> str:
    """What ``api.pyi`` must hold, so that editors see what :mod:`dvos.api` takes."""
    functions = {name: (settings_model(c), COMMANDS[c]) for name, c in _COMMANDS.items()}
    return stub(functions, PredictorOptions, load_predictor.__doc__ or "")


def run(command: str, options: dict[str, Any], first: Any = None) -> Any:
    """Do a command with settings by name; what is wrong is worded for a command line."""
    settings = _settings(command, first, options)
    if command in _AHEAD:
        resolve_name(_AHEAD[command])(settings)
    with waiting("loads the program"):
        handed = [_NETWORKS[command](settings)] if command in _NETWORKS else []
        work = resolve_name(f"dvos.{COMMANDS[command].work[0]}")
    return work(settings, *handed)


#: An option as messages name it: of a command line, and in Python.
_SET, _OPTION = re.compile(r"--set (?=[\w.]+=)"), re.compile(r"(?<![\w/.-])--([a-z][a-z-]*)")


def _word_for_python(error: DvosError) -> None:
    """Name settings in an error's faults as Python's keywords do."""

    def worded(text: str) -> str:
        # Where it was found says "--scale: scale", as on a command line.
        text = _SET.sub("", re.sub(r"^--[\w-]+: ", "", text))
        return _OPTION.sub(lambda match: match[1].replace("-", "_"), text)

    error.faults = tuple(Fault(*map(worded, astuple(fault))) for fault in error.faults)
    error.args = ("\n".join(map(str, error.faults)),)


def __getattr__(name: str) -> Any:
    if name not in _COMMANDS:
        raise AttributeError(f"module 'dvos.api' has no attribute {name!r}")
    command = _COMMANDS[name]
    known, model = COMMANDS[command], settings_model(command)

    def call(first: Any = None, /, **options: Any) -> Any:
        try:
            return run(command, options, first)
        except DvosError as error:
            _word_for_python(error)
            raise

    call.__name__ = call.__qualname__ = name
    call.__module__ = __name__
    call.__doc__ = docstring(model, known)
    call.__signature__ = signature(model, known)  # type: ignore[attr-defined]
    globals()[name] = call
    return call


def __dir__() -> list[str]:
    return sorted([*__all__, *_COMMANDS])


def _settings(command: str, first: Any, options: dict[str, Any]) -> Settings:
    """The settings that a call gives."""
    argument, model = COMMANDS[command].argument, settings_model(command)
    if isinstance(first, Settings):
        if options:
            raise TypeError("give a settings object or keywords, not both")
        return first
    if first is not None:
        if argument is None:
            raise TypeError(f"give keywords, or a whole {model.__name__}; got {first!r}")
        if argument in options:
            raise TypeError(f"{argument} is given twice, in first position and by name")
        options[argument] = first
    config = options.pop("config", None)
    overrides = options.pop("overrides", None) or ()
    short = COMMANDS[command].short
    # Whole sections first: an option of one changes one setting of it.
    named = sorted(options.items(), key=lambda item: item[0] in short)
    return load_settings(
        model,
        config=None if config is None else Path(config),
        overrides=overrides,
        options={short.get(name, name): value for name, value in named},
        checks=_CHECKS.get(command),
        argument=argument,
    )
