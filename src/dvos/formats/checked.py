"""Values of documents as what they should be; a ValueError that tells what is not, and its field.

``field`` is the name under which the document holds the value; empty where it has none.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dvos.formats.labels import Size
from dvos.media.limits import MOST_PIXELS


def _refused(value: Any, expected: str, field: str) -> ValueError:
    found = repr(value)
    found = found if len(found) <= 60 else f"{found[:60]} ..."
    return ValueError(f"{field and f'{field}: '}{found} stands where {expected} should")


def number(value: Any, field: str = "") -> float:
    """A finite number, or one written as text."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise _refused(value, "a number", field)
    return found


def whole(value: Any, field: str = "", *, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    found = number(value, field)
    if found != int(found) or not least <= found < 2**53:
        raise _refused(value, f"a whole number from {least} on", field)
    return int(found)


def text(value: Any, field: str = "") -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise _refused(value, "a text", field)
    return value


def key(value: Any, field: str = "") -> str | int | float:
    """What other parts of a document name something by: a text or a number."""
    if not isinstance(value, str | int | float):
        raise _refused(value, "a text or a number", field)
    return value


def items(value: Any, field: str = "") -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise _refused(value, "a list", field)
    return value


def fields(value: Any, field: str = "") -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, Mapping):
        raise _refused(value, "a mapping", field)
    return value


def size(height: Any, width: Any, names: Sequence[str] = ("height", "width")) -> Size:
    """A (height, width) that a file states, under these names."""
    found = whole(height, names[0], least=1), whole(width, names[1], least=1)
    if found[0] * found[1] > MOST_PIXELS:
        raise ValueError(f"a picture of {found[1]} x {found[0]} pixels")
    return found


def numbers(given: Mapping[str, Any], *keys: str) -> list[float]:
    """Some fields of a mapping that are numbers; a KeyError if one is missing."""
    return [number(given[key], key) for key in keys]


def quadruple(value: Any, field: str = "") -> list[float]:
    """Four numbers, as a box is told by."""
    found = [number(one, field) for one in items(value, field)]
    if len(found) != 4:
        raise _refused(value, "a list of four numbers", field)
    return found
