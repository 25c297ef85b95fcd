"""Settings from defaults, a YAML file, ``--set`` and named options, in that order.

Every fault of all sources is told at once, with its place and, for a misspelt key, the nearest one.
"""

import difflib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from dvos.config.base import Settings, flattened, merged, nested_models, plain_values
from dvos.config.signatures import options_of
from dvos.config.strict_yaml import parse_yaml, read_yaml
from dvos.errors import ConfigError, DvosError, Fault

_log = logging.getLogger(__name__)

S = TypeVar("S", bound=Settings)

# Where each dotted key was set, and of "" the others, for the wording of faults.
Origins = dict[str, str]
#: How Pydantic names the members of unions.
_TYPE = re.compile(r".*Settings|.*\[.*|(constrained-)?(int|float|str|bool)", re.DOTALL)

#: Where the dotted key of a list ends and that of a value in it begins, which no key sets alone.
_NUMBERED = re.compile(r"\.[0-9]+(?=\.|$)")

#: What is expected where Pydantic's words name types of Python, by the kind of the error.
_EXPECTED = {
    "path_type": "a path",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a mapping of settings"),
}

#: What version 0.1.0 called settings, by now; sections before what is in them.
_EARLIER = {
    **{
        f"network.{name}": f"network.dvos.{name}"
        for name in ("fusion", "channels", "widths", "fused", "reference_gradient")
    },
    **{
        f"data.{name}.ignore_value": f"data.{name}.void"
        for name in ("stills", "clips", "pseudo", "validation.stills", "validation.clips")
    },
    "data.stills.wind.share": "data.stills.motion.sway_share",
    "data.stills.wind.amplitude": "data.stills.motion.sway",
    "xmem.every": "xmem.mem_every",
    "xmem.working_min": "xmem.min_mid_term_frames",
    "xmem.working_max": "xmem.max_mid_term_frames",
    "xmem.deep_updates": "xmem.deep_update_prob",
    "opinion": "probe",
    "survey_frames": "probe_frames",
    "accept": "filter",
    "filter.opinion_object": "filter.probe_object",
    "filter.opinion_background": "filter.probe_background",
    "filter.decide_rims": "filter.decide_boundary_band",
    "filter.max_spread": "filter.max_std",
    "filter.min_agreement": "filter.min_consistency",
}


def load_settings(
    model: type[S],
    *,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    checks: Mapping[str, Callable[[Any], object]] | None = None,
    partial: bool = False,
    argument: str | None = None,
    is_file_alone: bool = False,
) -> S:
    """Build and check the settings of one command; a ConfigError tells of everything that is wrong.

    ``overrides`` are ``a.b=value`` texts in YAML notation, ``options`` values by dotted key, None
    for not given. ``checks``, by dotted key, ask more of a value that is given than settings know;
    they raise a DvosError. ``argument`` is the setting that is given without its name; where a
    ``config`` ``is_file_alone`` looked at, there is no command that other settings may be given to.
    With ``partial`` settings of the command's own level may be missing, from the result too.
    """
    values, origins, faults = _merge_sources(config, overrides, options or {})
    faults += _rename(values, origins, {*dotted_keys(model)})
    faults += [
        Fault(f"{_origin(key, origins)}: {key}", f"found {text!r}", "no zero byte in it")
        for key, text in _texts(values)
        if "\0" in text
    ]
    faults += _unmet(checks or {}, values, origins)
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        if partial and not faults and (part := _part_of(error, model, values)) is not None:
            return part
        remedies = _remedies(model, argument, partial=partial, is_file_alone=is_file_alone)
        faults.extend(_faults_of(error, model, origins, remedies))
    else:
        if not faults:
            return settings
    raise ConfigError(faults)


def _part_of(error: ValidationError, model: type[S], values: Mapping[str, Any]) -> S | None:
    """The settings without those that are missing; None if there is another fault."""
    missing = [item["loc"] for item in error.errors() if item["type"] == "missing"]
    whole = [item for item in error.errors() if not item["loc"]]
    if len(missing) + len(whole) < error.error_count() or any(len(loc) > 1 for loc in missing):
        return None
    given: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name in values:
            kind: Any = Annotated[field.annotation, field]
            given[name] = TypeAdapter(kind).validate_python(values[name])
    return cast("S", model.model_construct(**given))


def _merge_sources(
    config: Path | None, overrides: Sequence[str], options: Mapping[str, Any]
) -> tuple[dict[str, Any], Origins, list[Fault]]:
    """The values that are given, later sources over earlier ones, and where each is from."""
    values = {} if config is None else read_yaml(config)
    origins = dict.fromkeys(("", *flattened(values)), "settings" if config is None else str(config))
    faults: list[Fault] = []
    for text in overrides:
        key, separator, raw = text.partition("=")
        key = key.strip()
        if not separator or not key:
            faults.append(Fault(f"--set {text}", "no key=value", "for example --set seed=7"))
            continue
        try:
            assign(values, key, parse_yaml(raw))
        except ValueError as error:
            faults.append(Fault(f"--set {text}", str(error), "a value in YAML notation"))
        origins[key] = "--set"
    for key, value in options.items():
        if value is not None:
            assign(values, key, value)
            origins[key] = f"--{key.rsplit('.', 1)[-1].replace('_', '-')}"
    return values, origins, faults


def _unmet(
    checks: Mapping[str, Callable[[Any], object]], values: Mapping[str, Any], origins: Origins
) -> Iterator[Fault]:
    for key, check in checks.items():
        given: Any = values
        for part in key.split("."):
            given = given.get(part) if isinstance(given, dict) else given
        try:
            if given is not None:
                check(given)
        except DvosError as error:
            where = f"{_origin(key, origins)}: {key}"
            for fault in error.faults:
                yield Fault(where, f"found {given!r}", fault.expected)


def _rename(values: dict[str, Any], origins: Origins, known: set[str]) -> Iterator[Fault]:
    """Move what stands under earlier names of known keys, with a warning that gives the new one."""
    both = ((of + old, of + new) for of in ("", "pseudo_label.") for old, new in _EARLIER.items())
    for old, new in both:
        if new not in known:
            continue
        parents = old.split(".")
        last = parents.pop()
        places: list[Any] = [values]
        for parent in parents:
            places.append(places[-1].get(parent) if isinstance(places[-1], dict) else None)
        if not isinstance(places[-1], dict) or last not in places[-1]:
            continue
        _log.warning("%s: %s is now called %s", origins.get(old, "settings"), old, new)
        origins[new] = origins.get(old, "settings")
        try:
            assign(values, new, places[-1].pop(last))
        except ValueError as error:
            yield Fault(f"{origins[new]}: {new}", f"cannot be set ({error})", f"{old} left out")
        # A section of which nothing is left has gone with its last setting.
        while parents and not places.pop():
            del places[-1][parents.pop()]


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text among the values, with its dotted key."""
    if isinstance(value, (str, Path)):
        yield key, str(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else str(name))


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a settings model, parents before children."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for nested in nested_models(field.annotation):
            yield from dotted_keys(nested, f"{prefix}{name}.")


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under a dotted key, on what stands there; a ValueError if that has no keys."""
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        inner = place.setdefault(parent, {})
        if inner is None or isinstance(inner, str):
            inner = place[parent] = {} if inner is None else {"preset": inner}
        if not isinstance(inner, dict):
            raise ValueError(f"{parent} holds {inner!r}, which has no keys of its own")
        place = inner
    place[last] = merged(place.get(last), value)


def _remedies(
    model: type[BaseModel], argument: str | None, *, partial: bool, is_file_alone: bool
) -> Callable[[str], str | None]:
    """What tells, of a key without a value, how to give one; None where it may be missing."""
    options = {one.name for one in options_of(model) if one.scalar is not None}

    def remedy(key: str) -> str | None:
        if partial and "." not in key:
            return None
        if is_file_alone:
            return "add it to the file"
        if (whole := _NUMBERED.split(key)[0]) != key:
            return f"give the whole list with --set {whole}=[...]"
        if key == argument:
            return f"give it as {key.upper()}"
        option = f"--{key.replace('_', '-')}" if key in options else f"--set {key}"
        return f"give it with {option}=..."

    return remedy


def _faults_of(
    error: ValidationError,
    model: type[BaseModel],
    origins: Origins,
    remedy: Callable[[str], str | None],
) -> Iterator[Fault]:
    known = list(dict.fromkeys(dotted_keys(model)))
    told: dict[tuple[str, str], Fault] = {}
    items = error.errors(include_url=False)
    for item in items:
        # Pydantic puts the names of union members into the location; they are no
        # part of the user's key and are left out unless they are a known key.
        parts: list[str] = []
        for part in map(str, item["loc"]):
            if not _TYPE.fullmatch(part) or ".".join([*parts, part]) in known:
                parts.append(part)
        key = ".".join(parts)
        given = remedy(key)
        if lacking := _lacking(item, items):
            key = ".".join(parts[:-1])
        origin = _origin(key, origins)
        where = f"{origin}: {key}" if key else origin
        if item["type"] == "extra_forbidden":
            fault = _unknown(key, where, known)
        elif lacking:
            there = len(item["input"])
            fault = Fault(where, f"found {_values(there)}", str(there + lacking), given or "")
        elif item["type"] == "missing":
            if given is None:
                continue
            fault = Fault(where, "is missing", "a value", given)
        else:
            fault = _unfit(item, where, is_whole=not key)
        # A union reports one fault for each of its members; the reader needs one, of them all.
        earlier = told.get((key, fault.found))
        if earlier is not None and fault.expected != earlier.expected:
            more = fault.expected.removeprefix("input should be ")
            fault = replace(earlier, expected=f"{earlier.expected}, or {more}")
        told[key, fault.found] = fault
    yield from told.values()


def _lacking(item: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> int:
    """How many values a list of fixed length has too few, of which a fault is one; else 0."""
    *place, last = item["loc"] or ("",)
    if item["type"] != "missing" or not isinstance(last, int):
        return 0
    return sum(one["type"] == "missing" and [*one["loc"][:-1]] == place for one in items)


def _values(number: int) -> str:
    return f"{number} value{'' if number == 1 else 's'}"


def _unfit(item: Mapping[str, Any], where: str, *, is_whole: bool) -> Fault:
    """Of a value that a setting cannot have, or of settings that do not go together."""
    message, kind = item["msg"].removeprefix("Value error, "), item["type"]
    # A model-wide check has the whole model as its input: its message says enough.
    if isinstance(item["input"], (dict, BaseModel)) and kind not in _EXPECTED:
        return Fault(where, message)
    if kind in ("too_long", "too_short"):
        limits = item["ctx"]
        expected = f"at most {limits['max_length']}" if kind == "too_long" else ""
        expected = expected or f"at least {limits['min_length']}"
        return Fault(where, f"found {_values(limits['actual_length'])}", expected)
    found = "" if is_whole else f"found {plain_values(item['input'], fallback=str)!r}"
    return Fault(where, found, _EXPECTED.get(kind, message[0].lower() + message[1:]))


def _unknown(key: str, where: str, known: Sequence[str]) -> Fault:
    """Of a key that there is not: its nearest neighbour, else what could stand there."""
    parent, _, name = key.rpartition(".")
    siblings = [each for each in known if each.rpartition(".")[0] == parent]
    near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.5)
    # The right name at the wrong depth is as common a slip as a misspelt one.
    near = near or [each for each in known if each.rpartition(".")[2] == name][:1]
    if near:
        return Fault(where, "unknown key", "", f"did you mean {near[0]}?")
    names = ", ".join(each.rpartition(".")[2] for each in siblings)
    return Fault(where, "unknown key", f"one of: {names}" if names else "")


def _origin(key: str, origins: Origins) -> str:
    while key not in origins:
        key = key.rpartition(".")[0]
    return origins[key]
