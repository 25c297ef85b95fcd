"""Scales, round tick values and axes for the plots, in the page's own coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dvos.reporting.markup import Html, element, join
from dvos.reporting.numbers import significant

__all__ = ["HEIGHT", "WIDTH", "Axes", "text", "ticks"]

#: Size of every plot in user units. A plot is about as wide as a phone, so
#: that its letters stay readable there without being drawn twice.
WIDTH = 460
HEIGHT = 250
_LEFT, _TOP, _BOTTOM = 48, 14, 40

# Ticks are round; rounding them to fewer digits would only make two of them alike.
_DIGITS = 7


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values inside ``[low, high]``, steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Multiples, not sums: sums would drift to 0.30000000000000004.
    return [round(k * step, 12) for k in range(first, last + 1)]


def text(x: float, y: float, content: str, *, cls: str = "tick", anchor: str | None = None) -> Html:
    """One line of letters in a plot; ``anchor`` is SVG's ``text-anchor``."""
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    return element("text", content, cls=cls, attributes=attributes)


@dataclass(frozen=True)
class Axes:
    """The frame of a plot: data ranges, margins, and where a value stands.

    Attributes:
        x_range: Data range across; low < high.
        y_range: Data range upwards; low < high.
        right: Right margin in user units, room for the lines' names.
    """

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    right: int = 14

    def x(self, value: float) -> float:
        """Place of ``value`` across the plot, in user units."""
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - self.right)

    def y(self, value: float) -> float:
        """Place of ``value`` down the plot, in user units (SVG's y grows downwards)."""
        low, high = self.y_range
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _BOTTOM - _TOP)

    def draw(self, x_label: str, *, whole_x: bool = False, whole_y: bool = False) -> Html:
        """Grid lines, tick labels and the name of the axis across.

        Args:
            x_label: Name and unit of the axis across.
            whole_x: Only whole numbers across.
            whole_y: Only whole numbers upwards.
        """
        parts: list[Html] = []
        end = WIDTH - self.right
        for value in _wanted(ticks(*self.y_range), whole_y):
            y = self.y(value)
            parts.append(_line(_LEFT, y, end, y, "grid"))
            parts.append(text(_LEFT - 6, y + 4, significant(value, _DIGITS), anchor="end"))
        base = HEIGHT - _BOTTOM
        for value in _wanted(ticks(*self.x_range), whole_x):
            x = self.x(value)
            parts.append(_line(x, base, x, base + 4, "axis"))
            parts.append(text(x, base + 17, significant(value, _DIGITS), anchor="middle"))
        parts.append(_line(_LEFT, base, end, base, "axis"))
        parts.append(text((_LEFT + end) / 2, HEIGHT - 5, x_label, cls="label", anchor="middle"))
        return join(parts)


def _wanted(values: list[float], whole: bool) -> list[float]:
    return [value for value in values if value.is_integer()] if whole else values


def _line(x1: float, y1: float, x2: float, y2: float, cls: str) -> Html:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", cls=cls, attributes={k: f"{v:.1f}" for k, v in places.items()})
