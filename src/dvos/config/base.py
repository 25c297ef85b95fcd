"""What all settings share: strictness, a documented default, and what each one changes."""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from dvos.files import find_path

T = TypeVar("T")

#: Settings as the lists, mappings, numbers and text that YAML and JSON know.
plain_values = to_jsonable_python

#: In an annotation: that the field changes how work is done and not what comes out, so that earlier
#: work stays good when it changes.
FREE: Final[Any] = Field(json_schema_extra={"affects": "nothing"})

Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def setting(default: Any, description: str, *, affects: str = "", **limits: Any) -> Any:
    """A field with a default; ``limits`` as of :func:`pydantic.Field`: ``ge``, ``min_length`` ...

    ``affects`` is the product that changes with it, where that is not the main one, ``"result"``:
    ``"labels"`` and the like, or ``"nothing"``.
    """
    extra: Any = {"affects": affects} if affects else None
    return Field(default, description=description, json_schema_extra=extra, **limits)


def free(default: Any, description: str, **limits: Any) -> Any:
    """A :func:`setting` that changes how work is done and not what comes out."""
    return setting(default, description, affects="nothing", **limits)


def _packaged(name: Path) -> Path:
    return Path(str(files("dvos"))) / "weights" / f"{name}.safetensors"


def named_weights(path: Path) -> Path:
    """The file that comes with the package, where such a name is given; a ValueError without it."""
    # A folder of that name, such as a user's data, is no weights.
    if str(path) not in STARTERS or path.is_file():
        return path
    found = _packaged(path)
    if not found.is_file():
        absent = f"the starter weights {path} are not in this installation"
        raise ValueError(f"{absent}; give a trained network, as best.safetensors of a run folder")
    return found


def weights_name(path: Path) -> Path:
    """The name of weights that come with the package, where this is their file; else the path."""
    name = Path(path.stem)
    return name if str(name) in STARTERS and path == _packaged(name) else path


#: Names of the weights that come with the package.
STARTERS = ("wheat",)
#: Where something lies, however its accents are written there; what comes out does not change.
Place = Annotated[Path, AfterValidator(lambda path: find_path("", str(path)) or path), FREE]
#: Weights, by their file or by the name of those that come with the package.
Weights = Annotated[Place, AfterValidator(named_weights)]
Workers = Annotated[Natural, Field(description="processes; 0 = one per core"), FREE]
_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


def shard_numbers(shard: str) -> tuple[int, int]:
    """I and N of a shard I/N, the I-th of N parts, I from 1; a ValueError if it is none."""
    match = _SHARD.fullmatch(shard)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError("a part I/N with 1 <= I <= N, for example 3/8")
    return int(match[1]), int(match[2])


Shard = Annotated[
    str | None,
    AfterValidator(lambda shard: None if shard is None else "{}/{}".format(*shard_numbers(shard))),
    Field(description="I/N: do only the I-th of N parts, I from 1"),
    FREE,
]
Scheduler = Annotated[
    str | None, Field(description="address of a dask.distributed scheduler to run on"), FREE
]


def checked_intensity(given: Any) -> str:
    """``auto``, ``full`` or ``LOW,HIGH``, two rising numbers, as text; else a ValueError."""
    if given in ("auto", "full"):
        return str(given)
    parts = given.split(",") if isinstance(given, str) else given
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        raise ValueError("auto, full or LOW,HIGH, two rising numbers")
    return f"{low:.9g},{high:.9g}"


#: What becomes of samples of more than 8 bit; images of 8 bit are left as they are.
Intensity = Annotated[
    str,
    BeforeValidator(checked_intensity),
    Field(
        description="of more than 8 bit, LOW,HIGH: samples that become black and white; full:"
        " divided by 257; auto: percentiles where a small part of the range is used"
    ),
]
#: The same, where the content of what was read counts apart.
FreeIntensity = Annotated[Intensity, FREE]
_ID = re.compile("[0-9]{1,5}")


def checked_void(given: Any) -> str:
    """``auto``, ``none`` or values that mean "unknown", with commas, as text; else a ValueError."""
    if given is None or given == "auto":
        return "auto"
    if given == "none":
        return "none"
    words = re.split(r"[\s,]+", given.strip()) if isinstance(given, str) else given
    words = [str(word) for word in (words if isinstance(words, list | tuple) else [words])]
    if not all(_ID.fullmatch(word) and 0 < int(word) <= 65535 for word in words):
        raise ValueError("auto, none, or the values that mean unknown, from 1 to 65535")
    return ",".join(map(str, sorted({int(word) for word in words}))) or "none"


#: Which values of masks mean "unknown".
Void = Annotated[
    str,
    BeforeValidator(checked_void),
    Field(
        description="values of masks that mean unknown, as 254,255; none; auto: by void.txt beside"
        " the masks, else by what they look like"
    ),
]
#: What no setting is larger than: beyond it is a slip, and what is worked out overflows. Whole
#: numbers, such as seeds, have 63 bit.
_LARGEST, _LARGEST_WHOLE = 1e30, 2**63 - 1


def _is_usable(value: Any) -> bool:
    """Whether a number, or each one in a list, can be worked with."""
    if isinstance(value, list | tuple):
        return all(map(_is_usable, value))
    if isinstance(value, float):
        return abs(value) <= _LARGEST
    return not isinstance(value, int) or abs(value) <= _LARGEST_WHOLE


PRESET: Final[Any] = setting("standard", "values for all keys that are not given")


class Settings(BaseModel):
    """Base of all settings models: unknown keys are faults, values immutable, fields described."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*")
    @classmethod
    def _check_numbers(cls, value: Any) -> Any:
        if not _is_usable(value):
            raise ValueError(f"numbers up to {_LARGEST:g} ({_LARGEST_WHOLE} if whole)")
        return value

    def _faults(self) -> Iterator[str]:
        """What of the values does not go together, and what to give instead: the first is told."""
        yield from ()

    @model_validator(mode="after")
    def _tell_faults(self) -> Self:
        for fault in self._faults():
            raise ValueError(fault)
        return self


class PresetSettings(Settings):
    """Settings with presets: ``preset`` is given in a subclass, whose type lists their names.

    ``colour: none`` is the preset as it is, ``colour: {preset: none, hue: 20}`` changes one value.
    """

    preset: str = PRESET
    #: Of each preset that differs from the fields' defaults, the values that do.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def preset_values(cls, name: str) -> Mapping[str, Any]:
        """Values of a preset; the fields' defaults hold for the others."""
        return cls.presets.get(name, {})

    @property
    def preset_name(self) -> str | None:
        """Name of the preset that these values are; None if they are no preset's."""
        return self.preset if self == type(self).model_validate(self.preset) else None

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"preset": given}
        if not isinstance(given, dict):
            return given
        plain = {
            key: value.model_dump(exclude_unset=True) if isinstance(value, Settings) else value
            for key, value in given.items()
        }
        try:
            values = cls.preset_values(given.get("preset", cls.model_fields["preset"].default))
        except TypeError:
            return given  # no name at all: the field's own check tells the choices
        return merged(dict(values), plain)


def merged(old: Any, new: Any) -> Any:
    """``new`` on top of ``old``: of mappings, or of a preset's name, the keys named are changed."""
    if not isinstance(new, dict):
        return new
    if isinstance(old, str):
        old = {"preset": old}
    if not isinstance(old, dict):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def nested_models(annotation: Any) -> list[type[BaseModel]]:
    """The settings models an annotation may hold, inside unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in nested_models(part)]


def values_affecting(settings: Settings, *products: str) -> dict[str, Any]:
    """The settings that change certain products, or any, as nested mappings of plain values."""
    chosen: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        extra = field.json_schema_extra
        affects = extra.get("affects", "result") if isinstance(extra, dict) else "result"
        value = getattr(settings, name)
        if isinstance(value, Settings) and affects == "result":
            # Its fields say for themselves what each affects.
            inner = values_affecting(value, *products)
            if inner or not products:
                chosen[name] = inner
        elif affects in products or (not products and affects != "nothing"):
            chosen[name] = plain_values(value)
    return chosen


def flattened(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    if not isinstance(values, dict):
        return {prefix.removesuffix("."): values}
    parts = [flattened(value, f"{prefix}{key}.") for key, value in values.items()]
    return {key: value for part in parts for key, value in part.items()}


def changes(before: Settings, after: Settings) -> list[tuple[str, Any, Any]]:
    """The settings that affect the result and differ: dotted keys, both values or ``absent``."""
    old, new = (flattened(values_affecting(settings)) for settings in (before, after))
    pairs = ((key, old.get(key, "absent"), new.get(key, "absent")) for key in sorted({*old, *new}))
    return [pair for pair in pairs if pair[1] != pair[2]]


@dataclass(frozen=True)
class Holds:
    """In the annotation of a mapping: the settings whose values it has, as they were given."""

    model: type[BaseModel]

    def placed(self, values: Any, model: type[BaseModel] | None = None) -> Any:
        """The mapping with absolute paths; names of weights that come with the package stay."""
        fields = (model or self.model).model_fields
        moved = dict(values)
        for name in moved.keys() & fields.keys():
            given, annotation = moved[name], fields[name].annotation
            for inner in nested_models(annotation):
                given = _each(partial(self.placed, model=inner), given, dict)
            moved[name] = (
                _each(_placed_name, given, str | Path) if _names_files(annotation) else given
            )
        return moved


def _each(change: Callable[[Any], Any], value: Any, kind: type | UnionType) -> Any:
    """A value, or each in a list, changed where it is of a kind."""
    if isinstance(value, list | tuple):
        return [_each(change, one, kind) for one in value]
    return change(value) if isinstance(value, kind) else value


def _names_files(annotation: Any) -> bool:
    return annotation is Path or any(map(_names_files, get_args(annotation)))


def _placed_name(name: str | Path) -> str:
    by_name = str(name) == "auto" or (str(name) in STARTERS and not Path(name).is_file())
    return str(name if by_name else placed(Path(name)))


def placed(value: T) -> T:
    """Settings, or a part of them, with absolute paths, which hold in any folder."""
    found: Any = value
    if isinstance(value, BaseModel):
        # Only what moves, so that what was not set stays so.
        fields = type(value).model_fields
        inner = {name: getattr(value, name) for name in fields}
        moved = {name: placed(each) for name, each in inner.items()}
        for name, field in fields.items():
            for held in (one for one in field.metadata if isinstance(one, Holds)):
                moved[name] = held.placed(inner[name])
        changed = {name: each for name, each in moved.items() if each != inner[name]}
        found = value.model_copy(update=changed)
    elif isinstance(value, (list, tuple)):
        found = type(value)(map(placed, value))
    elif isinstance(value, Path):
        # What leads up again is resolved: through a link it leads elsewhere than it reads.
        up = ".." in value.parts
        found = Path(os.path.realpath(value)) if up else value.absolute()
    return cast("T", found)
