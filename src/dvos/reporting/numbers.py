"""Numbers as a reader wants them: few digits, units, no false precision."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import wraps
from statistics import fmean
from typing import Concatenate, ParamSpec

P = ParamSpec("P")

NOTHING = "–"  # shown where there is no number


def _known(
    text_of: Callable[Concatenate[float, P], str],
) -> Callable[Concatenate[float | None, P], str]:
    """A text of a number that is one of None and NaN too, with a proper minus sign."""

    @wraps(text_of)
    def text(value: float | None, /, *args: P.args, **kwargs: P.kwargs) -> str:
        if value is None or not math.isfinite(value):
            return NOTHING
        return text_of(value, *args, **kwargs).replace("-", "−")

    return text


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return fmean(values) if values else None


def span(values: Sequence[float], write: Callable[[float], str]) -> str:
    """The least and the greatest of some values: ``3 to 12``."""
    return f"{write(min(values))} to {write(max(values))}" if values else NOTHING


@_known
def significant(value: float, digits: int = 3) -> str:
    """To some significant digits, without an exponent where that is readable: ``0.000123``."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5 or exponent > 6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{_bare(mantissa)}e{int(power)}"
    decimals = digits - 1 - exponent
    return _bare(f"{round(value, decimals):.{max(0, decimals)}f}")


def _bare(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


@_known
def score(value: float) -> str:
    """A score between 0 and 1 with three decimals: ``0.861``."""
    return f"{value:.3f}"


def interval(low: float, high: float) -> str:
    """An interval of scores: ``0.84 to 0.88``; three decimals where two would make it a point."""
    decimals = 2 if high - low >= 0.02 else 3
    return f"{low:.{decimals}f} to {high:.{decimals}f}".replace("-", "−")


@_known
def percent(share: float) -> str:
    """A share between 0 and 1 as a percentage to three significant digits at most."""
    value = 100 * share
    if value == 0 or abs(value) >= 10:
        return f"{value:.1f} %".replace(".0 %", " %")
    return f"{significant(value, 2)} %"


@_known
def difference(value: float) -> str:
    """A difference of scores, with its sign: ``+0.018``, ``−0.003``, ``±0.000``."""
    text = f"{value:+.3f}"
    return f"±{text[1:]}" if float(text) == 0 else text


@_known
def count_text(value: float) -> str:
    """A whole number with thin spaces between thousands; a mean count keeps one decimal."""
    whole = round(float(value), 1).is_integer() or abs(value) >= 1000
    text = f"{value:,.0f}" if whole else f"{value:.1f}"
    # A narrow no-break space: unlike a comma it reads the same in every country.
    return text.replace(",", "\u202f")


def plural(number: float, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{count_text(number)} {noun}{'' if number == 1 else 's'}"


@_known
def duration(seconds: float) -> str:
    """A time span: ``0.42 s``, ``9.0 s``, ``12.3 s``, ``6 min 05 s``, ``2 h 03 min``."""
    if seconds < 0.95:
        return f"{significant(max(seconds, 0.0), 2)} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(text: str) -> str:
    """An ISO 8601 time to the minute: ``2026-03-02 10:14 UTC``; other text as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = "UTC" if time.utcoffset() == timedelta(0) else time.strftime("%z")
    return f"{time:%Y-%m-%d %H:%M} {zone}".rstrip()


def bytes_text(size: int) -> str:
    """A file's size in decimal units: ``812 B``, ``18.8 MB``."""
    value, units = float(size), ["GB", "MB", "kB", "B"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop()
    return f"{significant(value)} {units[-1]}"
