"""Settings files of the published code turned into ours: ``dvos config import``.

What each key becomes stands in ``presets/import_published.yaml``; the functions it names are here.
A key is carried over or told in a note, never dropped silently.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any, NoReturn

from pydantic import ValidationError

from dvos.config.base import Settings, flattened
from dvos.config.commands import settings_model
from dvos.config.extraction import TRANSFORM_NAMES
from dvos.config.load import assign
from dvos.config.show import settings_yaml
from dvos.config.strict_yaml import parse_yaml, read_yaml
from dvos.errors import ConfigError, Fault, FaultCollector

#: All published values by dotted key.
Flat = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of published settings file, and what its keys become."""

    name: str  # As a user would call it.
    command: str  # Ours.
    marks: list[str]  # Top-level keys by which it is recognised.
    rules: dict[str, Any]  # By dotted published key, each as the table explains.
    fixed: dict[str, Any] = field(default_factory=dict)  # Our settings for what the code fixes.
    notes: list[str] = field(default_factory=list)  # What differs whatever the keys say.
    optional: list[str] = field(default_factory=list)  # Keys of rules that the shipped file lacks.


@dataclass(frozen=True)
class Imported:
    """A published file as settings of our command; notes tell of what has no exact counterpart."""

    source: Path
    command: str
    settings: Settings
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The settings as YAML with comments, ready for ``--config``."""
        head = f"# dvos {self.command}; imported from {self.source.name}\n"
        return head + settings_yaml(self.settings)


@cache
def published_kinds() -> tuple[Kind, ...]:
    """The four kinds of published settings files."""
    table = files("dvos").joinpath("presets", "import_published.yaml").read_text(encoding="utf-8")
    return tuple(Kind(**kind) for kind in parse_yaml(table))


def import_published(path: Path) -> Imported:
    """Turn one of the four published YAML files into our settings.

    A ConfigError, with all faults, if it is none, or holds values that cannot be carried over.
    """
    values = read_yaml(path)
    kind = next((k for k in published_kinds() if all(key in values for key in k.marks)), None)
    if kind is None:
        kinds = "; ".join(f"{k.name} (with {', '.join(k.marks)})" for k in published_kinds())
        found = ", ".join(map(str, list(values)[:8])) or "nothing"
        found = f"is no settings file of the published code (its keys: {found})"
        remedy = "a file of our own needs no import: give it with --config"
        raise ConfigError.at(path, found, f"one of: {kinds}", remedy)
    flat = flattened(values)
    carried: dict[str, Any] = dict(kind.fixed)
    origins: dict[str, str] = {}
    notes: list[str] = []
    with FaultCollector(ConfigError) as faults:
        for key, value in flat.items():
            if key not in kind.rules:
                notes.append(f"{key}: no key of the published code; left out")
                continue
            try:
                ours, note = _apply(kind.rules[key], value, flat)
            except (ValueError, TypeError, ArithmeticError, LookupError) as error:
                faults.add(f"{path}: {key}", f"found {value!r}", str(error))
                continue
            carried |= ours
            origins |= dict.fromkeys(ours, key)
            notes += [f"{key}: {note}"] if note else []
    # A part of an absent or empty group (swap_color: null) is no news.
    present = {*flat, *kind.optional}
    groups = {name.rpartition(".")[0] for name in flat}
    absent = [k for k in kind.rules if k not in groups and not {k, k.rpartition(".")[0]} & present]
    notes += [f"{key}: not in the file; our default holds" for key in absent]
    nested: dict[str, Any] = {}
    for key, value in carried.items():
        assign(nested, key, value)
    try:
        settings = settings_model(kind.command).model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_faults(path, error, origins)) from error
    return Imported(Path(path), kind.command, settings, (*notes, *kind.notes))


def _apply(rule: str | Mapping[str, Any], value: Any, flat: Flat) -> tuple[dict[str, Any], str]:
    """Our keys with their values, and the note that is told."""
    if isinstance(rule, str):
        return dict.fromkeys(rule.split(), value), ""
    note = rule.get("note", "")
    if "tell" in rule:
        note = _FUNCTIONS[rule["tell"]](value, flat)
    if "fixed" in rule and _numbers(value) != _numbers(rule["fixed"]):
        note = "no counterpart; ours is fixed at the published value"
    if "unless" in rule and value == rule["unless"]:
        note = ""
    if "by" in rule:
        value = _FUNCTIONS[rule["by"]](value, flat)
    if "to" in rule:
        return dict.fromkeys(rule["to"].split(), value), note
    return value if "by" in rule else {}, note


def _faults(path: Path, error: ValidationError, origins: Mapping[str, str]) -> Iterator[Fault]:
    for item in error.errors(include_url=False):
        trial = key = ".".join(map(str, item["loc"]))
        while trial and trial not in origins:
            trial = trial.rpartition(".")[0]
        where = f"{path}: {origins[trial]}" if trial else f"{path}"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            yield Fault(str(path), f"gives no value for our {key}", "a whole published file")
        else:
            told = f"{message} (for our {key or 'settings'})"
            whole = isinstance(item["input"], dict)
            yield Fault(where, told) if whole else Fault(where, f"found {item['input']!r}", told)


def _numbers(value: Any) -> list[float]:
    # YAML reads 1e-4, without a point, as text.
    return [float(each) for each in (value if isinstance(value, list) else [value])]


def _refuse(expected: str) -> NoReturn:
    raise ValueError(expected)


#: Published names of losses and our settings of their weights.
_MASK_LOSSES = {
    "BCE": "losses.bce",
    "DICE": "losses.dice",
    "IOU": "losses.iou",
    "TV": "losses.tversky",
    "FOCAL": "losses.focal",
    "FTVERS": "losses.focal_tversky",
}
_IMAGE_LOSSES = {
    "MSE": "losses.mse",
    "MAE": "losses.mae",
    "SSIM": "losses.ms_ssim",
    "GDL": "losses.gradient_difference",
}


def _loss_weights(flat: Flat, which: str, ours: Mapping[str, str]) -> dict[str, float]:
    """Weights by our keys; those that are not named have none."""
    names = flat.get(f"TrainConfig.Losses.{which}_LOSSES") or []
    weights = flat.get(f"TrainConfig.Losses.{which}_LOSSES_WEIGHTS") or []
    if len(names) != len(weights):
        raise ValueError(f"one weight for each of the {len(names)} losses")
    given = {str(name).upper(): float(weight) for name, weight in zip(names, weights, strict=True)}
    return {key: given.get(name, 0.0) for name, key in ours.items()}


def _devices(_: Any, flat: Flat) -> int:
    ids = flat.get("BasicConfig.DEFAULT_DEVICE_IDs")
    together = flat.get("TrainConfig.DISTRIBUTED", True)
    return max(1, len(ids)) if together and isinstance(ids, list) else 1


def _about_losses(value: Any, _: Flat) -> str:
    names = [str(name).upper() for name in value or []]
    others = [name for name in names if name not in {*_MASK_LOSSES, *_IMAGE_LOSSES, "PERCEPTUAL"}]
    notes = {
        f"no counterpart of {', '.join(others)}; left out": others,
        "ssim is 1 - MS-SSIM (published: MS-SSIM added as it is, which punishes likeness)": (
            "SSIM" in names
        ),
        "perceptual left out: set losses.perceptual and losses.perceptual_weights, a file of "
        "your own": "PERCEPTUAL" in names,
        "soft losses (published: of masks cut at SEGMENTATION_THRESHOLD, without gradient)": (
            {"DICE", "IOU", "TV", "FTVERS"} & {*names}
        ),
        "tversky with losses.tversky_alpha and _beta (published: always 0.5)": "TV" in names,
    }
    return "; ".join(note for note, told in notes.items() if told)


#: What the table names.
_FUNCTIONS: dict[str, Callable[[Any, Flat], Any]] = {
    "extension": lambda value, _: f".{str(value).lower().removeprefix('.')}",
    "transform": lambda value, _: (
        TRANSFORM_NAMES[value]
        if isinstance(value, int) and 0 <= value < len(TRANSFORM_NAMES)
        else _refuse(f"a whole number from 0 to {len(TRANSFORM_NAMES) - 1}")
    ),
    "hue_swap": lambda value, _: (
        None if value is None else _refuse("null, or the keys source and destin")
    ),
    # The published deformation is in pixels, ours relative to the sprite.
    "relative": lambda value, _: [float(bound) / 100 for bound in value],
    "mask_losses": lambda _, flat: _loss_weights(flat, "SEGMENTATION", _MASK_LOSSES),
    "image_losses": lambda _, flat: _loss_weights(flat, "RECONSTRUCTION", _IMAGE_LOSSES),
    "reconstruction": lambda value, flat: (
        float(value)
        if any(_loss_weights(flat, "RECONSTRUCTION", _IMAGE_LOSSES).values())
        and not flat.get("ModelConfig.FREEZE_REC_HEAD")
        else 0.0
    ),
    "gamma": lambda value, _: {
        "losses.focal_gamma": float(value),
        "losses.focal_tversky_gamma": 1 / float(value),
    },
    "frozen": lambda _, flat: {
        "optimiser.freeze": [
            part.lower()
            for part in ("ENCODER", "DECODER", "Heads")
            if flat.get(f"ModelConfig.FREEZE_{part}")
        ]
    },
    "if_diffused": lambda value, flat: (
        float(value) if flat.get("TrainConfig.InputDiffusion.APPLY", True) else 0.0
    ),
    "final_rate": lambda value, flat: (
        float(value) / float(flat["TrainConfig.Optimizer.PARAMS.lr"])
        if flat.get("TrainConfig.Optimizer.SCHEDULER.APPLY") is not False
        else 1.0
    ),
    "devices": _devices,
    "side": lambda value, _: (
        int(value[1])
        if value == [3, value[1], value[1]]
        else _refuse("[3, N, N]: training clips are square")
    ),
    "intervals": lambda value, flat: [
        *range(1 if flat.get("TrainConfig.RANDOM_INTERVAL") else int(value), int(value) + 1)
    ],
    "batch": lambda value, flat: value * _devices(None, flat),
    "run_folder": lambda value, flat: str(
        PurePath(flat.get("BasicConfig.ROOT_LOG_DIR") or "", str(value))
    ),
    "published_or_none": lambda value, _: "published" if value else "none",
    "about_losses": _about_losses,
    "about_tests": lambda value, _: (
        value
        and f"not part of training; run dvos evaluate with --truth on {', '.join(map(str, value))}"
    ),
    "other_span": lambda value, flat: (
        f"the cosine spans all {epochs} epochs"
        if value != (epochs := flat.get("TrainConfig.NUM_EPOCHS"))
        else ""
    ),
}
