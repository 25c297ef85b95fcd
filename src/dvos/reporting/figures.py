"""Plots as inline SVG: they take the page's colours, so they suit light, dark and paper.

Colour is never the only difference between two lines: each has its own dash
pattern and its name at its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dvos.reporting.axes import HEIGHT, WIDTH, Axes, text
from dvos.reporting.markup import Html, element, join
from dvos.reporting.numbers import count_text, score, significant

__all__ = ["Series", "bar", "histogram", "line_plot", "summarise"]

#: More points than this are drawn as mean and range of equal runs.
MAX_POINTS = 400

#: Line styles told apart in report.css; a plot with more lines repeats them.
_STYLES = 6

_NAME_LETTERS = 16


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Attributes:
        name: Stands at the line's end.
        x: Places across.
        y: Values; NaN leaves a gap.
        low: Lower edge of a band about the line, empty for none; NaN leaves a gap.
        high: Upper edge of that band.
        style: Class in report.css; empty takes the next of the styles told apart.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    style: str = ""


def summarise(series: Series, points: int = MAX_POINTS) -> Series:
    """Draw a long series by the mean of equal runs, in a band from least to greatest.

    A plot is some 400 pixels wide; ten thousand frames drawn singly would be a
    blot of ink and a megabyte. A series that has a band keeps its own, by the
    means of its edges.
    """
    total = len(series.x)
    if total <= points:
        return series
    xs: list[float] = []
    means: list[float] = []
    lows: list[float] = []
    highs: list[float] = []
    for k in range(points):
        start, stop = k * total // points, (k + 1) * total // points
        values = _finite(series.y[start:stop])
        xs.append(sum(series.x[start:stop]) / (stop - start))
        means.append(_mean(values))
        lows.append(_mean(series.low[start:stop]) if series.low else min(values, default=math.nan))
        highs.append(
            _mean(series.high[start:stop]) if series.low else max(values, default=math.nan)
        )
    return replace(series, x=xs, y=means, low=lows, high=highs)


def _mean(values: Sequence[float]) -> float:
    finite = _finite(values)
    return sum(finite) / len(finite) if finite else math.nan


def line_plot(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_limits: tuple[float | None, float | None] = (None, None),
    whole_x: bool = False,
) -> Html:
    """A plot of one or more lines over a common axis.

    Args:
        series: The lines; at least one finite value among them.
        title: Said to those who cannot see the plot, with each line's range.
        x_label: Name and unit of the axis across.
        y_limits: Fixed lower and upper end of the axis upwards; None fits the data.
        whole_x: Only whole numbers on the axis across (epochs).
    """
    drawn = [summarise(one) for one in series]
    names = len(drawn) > 1
    axes = Axes(
        _x_range(drawn), _y_range(drawn, y_limits), right=_name_room(drawn) if names else 14
    )
    parts = [axes.draw(x_label, whole_x=whole_x)]
    for index, one in enumerate(drawn):
        parts.append(_draw(one, axes, _style(one, index)))
    if names:
        parts.append(_end_labels(drawn, axes))
    told = "; ".join(_tell(one) for one in series)
    return _svg(f"{title}. {told}.", *parts)


def histogram(values: Sequence[float], *, title: str, x_label: str, bins: int = 20) -> Html:
    """Counts of scores between 0 and 1, with a tick for every single one below.

    Args:
        values: Scores in [0, 1], at least one.
        title: Said to those who cannot see the plot.
        x_label: Name of the score.
        bins: Bars between 0 and 1. Where all scores are high the axis starts at
            the last round tenth below them, with as many bars.
    """
    ordered = sorted(values)
    start = max(0.0, min(math.floor(ordered[0] * 10 - 1e-9) / 10, 0.9))
    width = (1 - start) / bins
    counts = [0] * bins
    for value in ordered:
        counts[min(bins - 1, max(0, int((value - start) / width)))] += 1
    # Below nought is room for the ticks of the single scores.
    axes = Axes((start, 1.0), (-0.09 * max(counts), 1.12 * max(counts)))
    parts = [axes.draw(x_label, whole_y=True)]
    for index, amount in enumerate(counts):
        left, right = axes.x(start + index * width), axes.x(start + (index + 1) * width)
        if amount:
            tall = axes.y(0) - axes.y(amount)
            parts.append(_rectangle(left + 0.5, axes.y(amount), right - left - 1, tall, "bar"))
    base = axes.y(axes.y_range[0])
    parts += [_rectangle(axes.x(value) - 0.6, base - 9, 1.2, 9, "rug") for value in ordered]
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    line = {"x1": f"{axes.x(middle):.1f}", "x2": f"{axes.x(middle):.1f}"}
    parts.append(
        element("line", cls="median", attributes={**line, "y1": "14", "y2": f"{base:.1f}"})
    )
    side = "end" if axes.x(middle) > WIDTH * 0.7 else "start"
    shift = -5 if side == "end" else 5
    label = f"median {score(middle)}"
    parts.append(text(axes.x(middle) + shift, 22, label, cls="label", anchor=side))
    told = f"{count_text(len(values))} values, from {score(ordered[0])} to {score(ordered[-1])}"
    return _svg(f"{title}. {told}, {label}.", *parts)


def bar(share: float) -> Html:
    """A thin bar for a table cell; the number beside it says the same in words.

    Args:
        share: Length as a part of the whole, 0 to 1.
    """
    whole = _rectangle(0, 0, 100, 8, "track")
    part = _rectangle(0, 0, 100 * min(1.0, max(0.0, share)), 8, "bar")
    attributes: dict[str, str | None] = {
        "viewBox": "0 0 100 8",
        "preserveAspectRatio": "none",
        "aria-hidden": "true",
    }
    return element("svg", whole, part, cls="inline-bar", attributes=attributes)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _name_room(series: Sequence[Series]) -> int:
    # A letter is at most some 8 units wide on a phone; past a quarter of the plot names are cut.
    return 12 + 8 * min(_NAME_LETTERS, max(len(one.name) for one in series))


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"


def _x_range(series: Sequence[Series]) -> tuple[float, float]:
    xs = [x for one in series for x in _finite(one.x)]
    low, high = min(xs), max(xs)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _y_range(
    series: Sequence[Series], limits: tuple[float | None, float | None]
) -> tuple[float, float]:
    ys = [y for one in series for part in (one.y, one.low, one.high) for y in _finite(part)]
    low, high = min(ys), max(ys)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    bottom = limits[0] if limits[0] is not None else low - room
    top = limits[1] if limits[1] is not None else high + room
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def _style(series: Series, index: int) -> str:
    return series.style or f"s{index % _STYLES}"


def _draw(series: Series, axes: Axes, style: str) -> Html:
    parts: list[Html] = []
    if series.low:
        for run in _runs(series.x, series.y, series.low, series.high):
            edge = [(series.x[k], series.high[k]) for k in run]
            edge += [(series.x[k], series.low[k]) for k in reversed(run)]
            parts.append(_path(edge, axes, f"band {style}", close=True))
    for run in _runs(series.x, series.y):
        if len(run) == 1:
            place = {
                "cx": f"{axes.x(series.x[run[0]]):.1f}",
                "cy": f"{axes.y(series.y[run[0]]):.1f}",
            }
            parts.append(element("circle", cls=f"dot {style}", attributes={**place, "r": "3"}))
        else:
            points = [(series.x[k], series.y[k]) for k in run]
            parts.append(_path(points, axes, f"line {style}"))
    return join(parts)


def _runs(*columns: Sequence[float]) -> list[list[int]]:
    # Indices of unbroken stretches, where every column has a value.
    runs: list[list[int]] = [[]]
    for index, values in enumerate(zip(*columns, strict=True)):
        if all(math.isfinite(value) for value in values):
            runs[-1].append(index)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(
    points: Sequence[tuple[float, float]], axes: Axes, cls: str, *, close: bool = False
) -> Html:
    steps = "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in points)
    return element("path", cls=cls, attributes={"d": f"M{steps}" + ("Z" if close else "")})


def _end_labels(series: Sequence[Series], axes: Axes) -> Html:
    # Names stand at their line's end; where two would overlap, the lower one moves down,
    # and if the last then leaves the plot all move up together.
    ends = []
    for index, one in enumerate(series):
        last = [y for y in one.y if math.isfinite(y)][-1:]
        if last:
            ends.append((axes.y(last[0]), index))
    ends.sort()
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + 15) if places else y)
    excess = max(0.0, places[-1] - (HEIGHT - 44)) if places else 0.0
    return join(
        text(
            WIDTH - axes.right + 6,
            place - excess + 4,
            _short(series[index].name),
            cls=f"name {_style(series[index], index)}",
        )
        for place, (_, index) in zip(places, ends, strict=True)
    )


def _tell(series: Series) -> str:
    values = _finite(series.y)
    if not values:
        return f"{series.name}: no values"
    low, high = significant(min(values)), significant(max(values))
    return f"{series.name}: from {low} to {high}, last {significant(values[-1])}"


def _rectangle(x: float, y: float, width: float, height: float, cls: str) -> Html:
    sizes = {"x": x, "y": y, "width": width, "height": height}
    return element("rect", cls=cls, attributes={k: f"{v:.1f}" for k, v in sizes.items()})


def _svg(label: str, *content: Html) -> Html:
    attributes: dict[str, str | None] = {
        "viewBox": f"0 0 {WIDTH} {HEIGHT}",
        "role": "img",
        "aria-label": label,
    }
    return element("svg", *content, cls="plot", attributes=attributes)
