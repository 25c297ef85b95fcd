"""Values of documents as what they should be; a ValueError that tells what is not."""

import math
from collections.abc import Mapping
from typing import Any

from dvos.formats.labels import Size
from dvos.media.limits import MOST_PIXELS


def _refused(value: Any, expected: str) -> ValueError:
    found = repr(value)
    found = found if len(found) <= 60 else f"{found[:60]} ..."
    return ValueError(f"{found} stands where {expected} should")


def number(value: Any) -> float:
    """A finite number, or one written as text."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise _refused(value, "a number")
    return found


def whole(value: Any, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    found = number(value)
    if found != int(found) or not least <= found < 2**53:
        raise _refused(value, f"a whole number from {least} on")
    return int(found)


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise _refused(value, "a text")
    return value


def items(value: Any) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise _refused(value, "a list")
    return value


def fields(value: Any) -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, Mapping):
        raise _refused(value, "a mapping")
    return value


def size(height: Any, width: Any) -> Size:
    """A (height, width) that a file states."""
    found = whole(height, 1), whole(width, 1)
    if found[0] * found[1] > MOST_PIXELS:
        raise ValueError(f"a picture of {found[1]} x {found[0]} pixels")
    return found


def numbers(given: Mapping[str, Any], *keys: str) -> list[float]:
    """Some fields of a mapping that are numbers; a KeyError if one is missing."""
    return [number(given[key]) for key in keys]
