"""Numbers as a reader wants them: few digits, units, no false precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import fmean

__all__ = [
    "NOTHING",
    "bytes_text",
    "count_text",
    "difference",
    "duration",
    "interval",
    "mean",
    "moment",
    "percent",
    "plural",
    "score",
    "significant",
]

#: Shown where there is no number.
NOTHING = "–"


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return fmean(values) if values else None


def significant(value: float | None, digits: int = 3) -> str:
    """``value`` to a number of significant digits, without an exponent where that is readable.

    >>> significant(0.000123456), significant(1234.5), significant(0.5)
    ('0.000123', '1230', '0.5')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5 or exponent > 6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(power)}".replace("-", "−")
    rounded = round(value, digits - 1 - exponent)
    decimals = max(0, digits - 1 - exponent)
    text = f"{rounded:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def score(value: float | None) -> str:
    """A score between 0 and 1 with three decimals: ``0.861``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.3f}".replace("-", "−")


def interval(low: float, high: float) -> str:
    """An interval of scores: ``0.84 to 0.88``; three decimals where two would make it a point."""
    decimals = 2 if high - low >= 0.02 else 3
    return f"{low:.{decimals}f} to {high:.{decimals}f}".replace("-", "−")


def percent(share: float | None) -> str:
    """A share between 0 and 1 as a percentage to three significant digits at most."""
    if share is None or not math.isfinite(share):
        return NOTHING
    value = 100 * share
    if value == 0 or abs(value) >= 10:
        return f"{value:.1f} %".replace("-", "−").replace(".0 %", " %")
    return f"{significant(value, 2)} %"


def difference(value: float | None) -> str:
    """A difference of scores, with its sign: ``+0.018``, ``−0.003``, ``±0.000``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:+.3f}"
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", "−")


def count_text(value: float | None) -> str:
    """A whole number with thin spaces between thousands; a mean count keeps one decimal."""
    if value is None or not math.isfinite(value):
        return NOTHING
    whole = round(float(value), 1).is_integer() or abs(value) >= 1000
    text = f"{value:,.0f}" if whole else f"{value:.1f}"
    # A narrow no-break space: unlike a comma it reads the same in every country.
    return text.replace(",", "\u202f").replace("-", "−")


def plural(number: float, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{count_text(number)} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """A time span: ``0.42 s``, ``9.0 s``, ``12.3 s``, ``6 min 05 s``, ``2 h 03 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
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
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{significant(value)} {unit}"
        value /= 1000
    return f"{significant(value)} GB"
