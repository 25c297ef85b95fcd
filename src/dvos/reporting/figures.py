"""Plots as inline SVG in the page's colours, so that they suit light, dark and paper.

Colour alone tells no two lines apart: each has its own dashes, and its name at its end.
"""

import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby
from statistics import median
from typing import Any, NamedTuple

from markupsafe import Markup

from dvos.reporting.numbers import count_text, score, significant, span

#: Size of every plot in user units. A plot is about as wide as a phone, so
#: that its letters stay readable there without being drawn twice.
WIDTH = 460
HEIGHT = 250
_LEFT, _TOP, _BOTTOM, _RIGHT = 48, 14, 40, 14

MAX_POINTS = 400  # more points than this are drawn as mean and range of equal runs

_NAME_LETTERS = 16
_TICK_DIGITS = 7  # ticks are round; rounding them to fewer digits would only make two of them alike

#: Stand-ins for the page's colours while matplotlib draws, by their names in report.css.
_COLOURS = {
    name: f"#fe00{place:02x}"
    for place, name in enumerate(("ink", "soft", "grid", "accent", "ink-pale", "accent-pale"))
}
#: Colour and dashes of each line style; a plot with more lines than ``s0`` to ``s5`` repeats them.
STYLES: dict[str, tuple[str, tuple[float, ...]]] = {
    "s0": ("accent", ()),
    "s1": ("ink", (6, 3)),
    "s2": ("soft", (12, 4)),
    "s3": ("ink", (1.5, 3.5)),
    "s4": ("accent", (10, 3, 2, 3)),
    "s5": ("soft", (4, 4)),
    "raw": ("soft", ()),
}
_NUMBERED = len(STYLES) - 1


class Series(NamedTuple):
    """One line of a plot, whose name stands at its end; NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()  # Lower edge of a band about the line, empty for none.
    high: Sequence[float] = ()  # Upper edge of that band.
    style: str = ""  # One of :data:`STYLES`; empty takes the next of those that are numbered.


class Plot(NamedTuple):
    """A drawn plot."""

    title: str
    label: str  # Said to those who cannot see it.
    drawing: Markup  # What stands inside the ``svg`` element.


def summarise(series: Series, points: int = MAX_POINTS) -> Series:
    """A long series by means of equal runs, in its band or else in one of their extremes."""
    total = len(series.x)
    if total <= points:
        return series
    parts = [slice(k * total // points, (k + 1) * total // points) for k in range(points)]
    values = [_finite(series.y[part]) for part in parts]
    if series.low:
        low, high = ([_mean(edge[part]) for part in parts] for edge in (series.low, series.high))
    else:
        low = [min(run, default=math.nan) for run in values]
        high = [max(run, default=math.nan) for run in values]
    across = [_mean(series.x[part]) for part in parts]
    return series._replace(x=across, y=[_mean(run) for run in values], low=low, high=high)


def line_plot(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_limits: tuple[float | None, float | None] = (None, None),
    whole_x: bool = False,
) -> Plot | None:
    """A plot of lines over a common axis; None where they have no finite value.

    The title is said to those who cannot see it, with each line's range. Ends of the axis upwards
    that ``y_limits`` leaves open fit the data; ``whole_x`` are whole numbers (epochs) across.
    """
    styles = [one.style or f"s{index % _NUMBERED}" for index, one in enumerate(series)]
    drawn = [summarise(one) for one in series]
    ys = [y for one in drawn for part in (one.y, one.low, one.high) for y in _finite(part)]
    xs = [x for one in drawn for x in _finite(one.x)]
    if not xs or not _finite([y for one in drawn for y in one.y]):
        return None
    # A letter is at most some 8 units wide on a phone; past a quarter of the plot names are cut.
    letters = min(_NAME_LETTERS, max(len(one.name) for one in drawn))
    right = 12 + 8 * letters if len(drawn) > 1 else _RIGHT
    with _axes(x_label, right=right, whole_x=whole_x) as (axes, result):
        axes.set_xlim(*((min(xs), max(xs)) if max(xs) > min(xs) else (xs[0] - 0.5, xs[0] + 0.5)))
        room = (max(ys) - min(ys)) * 0.06 or abs(max(ys)) * 0.1 or 1.0
        bottom = min(ys) - room if y_limits[0] is None else y_limits[0]
        top = max(ys) + room if y_limits[1] is None else y_limits[1]
        axes.set_ylim(bottom, top if top > bottom else bottom + 1.0)
        for one, style in zip(drawn, styles, strict=True):
            _draw(axes, one, style)
        if len(drawn) > 1:
            _name_lines(axes, drawn, styles)
    texts = []
    for one in series:
        y = _finite(one.y)
        told = f"from {span(y, significant)}, last {significant(y[-1])}" if y else "no values"
        texts.append(f"{one.name}: {told}")
    return Plot(title, f"{title}. {'; '.join(texts)}.", _inline(result.getvalue()))


def histogram(values: Sequence[float], *, title: str, x_label: str, bins: int = 20) -> Plot:
    """Counts of scores in 0..1, from the tenth below them, with a tick for every one."""
    least, middle = min(values), median(values)
    start = max(0.0, min(math.floor(least * 10 - 1e-9) / 10, 0.9))
    width = (1 - start) / bins
    counts = Counter(min(bins - 1, max(0, int((value - start) / width))) for value in values)
    top = max(counts.values())
    with _axes(x_label, whole_y=True) as (axes, result):
        axes.set_xlim(start, 1.0)
        # Below nought is room for the ticks of the single scores.
        axes.set_ylim(-0.09 * top, 1.12 * top)
        lefts = [start + (index + 0.02) * width for index in sorted(counts)]
        heights = [counts[index] for index in sorted(counts)]
        look = {"align": "edge", "color": _COLOURS["accent"], "gid": "class:bar"}
        axes.bar(lefts, heights, 0.96 * width, **look)
        rug = {"color": _COLOURS["ink"], "gid": "class:rug"}
        axes.vlines(sorted(values), -0.09 * top, -0.03 * top, **rug)
        axes.axvline(middle, color=_COLOURS["ink"], dashes=(3, 3), linewidth=1)
        label, at_left = f"median {score(middle)}", middle - start > 0.7 * (1 - start)
        place = {"xytext": (-5 if at_left else 5, -8), "ha": "right" if at_left else "left"}
        place |= {"textcoords": "offset points", "color": _COLOURS["soft"]}
        axes.annotate(label, (middle, 1.12 * top), **place)
    text = f"{count_text(len(values))} values, from {score(least)} to {score(max(values))}"
    return Plot(title, f"{title}. {text}, {label}.", _inline(result.getvalue()))


@contextmanager
def _axes(
    x_label: str, *, right: int = _RIGHT, whole_x: bool = False, whole_y: bool = False
) -> Iterator[tuple[Any, io.StringIO]]:
    import matplotlib  # without pyplot: it keeps global state and chooses a window system
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    result = io.StringIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": "dvos", "font.size": 12}
    # A user unit is a point of matplotlib. Names in letters that its own font lacks
    # are drawn with the page's, so that a warning would help nobody.
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # Whatever style a reader has set for plots of their own.
        matplotlib.rcParams.update({**matplotlib.rcParamsDefault, **style})
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        inside = (WIDTH - _LEFT - right) / WIDTH, (HEIGHT - _TOP - _BOTTOM) / HEIGHT
        axes = figure.add_axes((_LEFT / WIDTH, _BOTTOM / HEIGHT, *inside))
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        for axis, whole in ((axes.xaxis, whole_x), (axes.yaxis, whole_y)):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=whole))
            axis.set_major_formatter(lambda value, _: significant(value, _TICK_DIGITS))
        for name, spine in axes.spines.items():
            spine.set(visible=name == "bottom", color=_COLOURS["soft"], linewidth=1)
        axes.tick_params(length=0, pad=7, labelcolor=_COLOURS["soft"], labelsize=12)
        axes.grid(axis="y", color=_COLOURS["grid"], linewidth=1)
        axes.set_axisbelow(True)
        middle = (_LEFT + (WIDTH - _LEFT - right) / 2) / WIDTH
        figure.text(middle, 5 / HEIGHT, x_label, ha="center", color=_COLOURS["soft"])
        yield axes, result
        for artist in axes.get_children():
            artist.set_clip_on(False)
        for line in (*axes.xaxis.get_ticklines(), *axes.yaxis.get_ticklines()):
            line.set_visible(False)
        figure.savefig(result, format="svg", metadata={"Date": None})


def _inline(svg: str) -> Markup:
    # What is drawn, without what would reach the whole page or says what the page's style says.
    drawn = svg[svg.index('<g id="figure_1">') : svg.rindex("</svg>")]
    drawn = re.sub(r"<defs>.*?</defs>|<!--.*?-->", "", drawn, flags=re.DOTALL)

    def tidy(tag: re.Match[str]) -> str:
        text = re.sub(r' id="class:([^"]*)"', r' class="\1"', tag[0])
        text = re.sub(r' (?:id|clip-path|transform)="[^"]*"|font-[a-z]+: [^;]*; ?', "", text)
        text = re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", text)
        for name, colour in _COLOURS.items():
            text = text.replace(colour, f"var(--{name})")
        return text

    return Markup(re.sub(r"\s*\n\s*", " ", re.sub(r"<[^>]*>", tidy, drawn)))


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Sequence[float]) -> float:
    finite = _finite(values)
    return sum(finite) / len(finite) if finite else math.nan


def _draw(axes: Any, series: Series, style: str) -> None:
    colour, dashes = STYLES[style]
    if series.low:
        pale = _COLOURS["accent-pale" if style == "s0" else "ink-pale"]
        for run in _runs(series.x, series.y, series.low, series.high):
            edge = [series.high[k] for k in run] + [series.low[k] for k in reversed(run)]
            across = [series.x[k] for k in (*run, *reversed(run))]
            axes.fill(across, edge, facecolor=pale, linewidth=0, gid=f"class:band {style}")
    for run in _runs(series.x, series.y):
        points = [series.x[k] for k in run], [series.y[k] for k in run]
        if len(run) == 1:
            dot = {"edgecolors": "none", "gid": f"class:dot {style}"}
            axes.scatter(*points, s=28, color=_COLOURS[colour], **dot)
        else:
            (line,) = axes.plot(*points, color=_COLOURS[colour], gid=f"class:line {style}")
            line.set_linewidth(1.0 if style == "raw" else 1.8)
            if dashes:
                line.set_linestyle((0, [length / line.get_linewidth() for length in dashes]))


def _runs(*columns: Sequence[float]) -> list[list[int]]:
    # Indices of unbroken stretches, where every column has a value.
    whole = [all(map(math.isfinite, values)) for values in zip(*columns, strict=True)]
    return [list(run) for known, run in groupby(range(len(whole)), whole.__getitem__) if known]


def _name_lines(axes: Any, series: Sequence[Series], styles: Sequence[str]) -> None:
    # Names stand at their line's end; where two would overlap, the lower one moves down,
    # and if the last then leaves the plot all move up together. In user units from above.
    low, high = axes.get_ylim()
    deep = HEIGHT - _TOP - _BOTTOM
    ends = sorted(
        (_TOP + (high - last[-1]) / (high - low) * deep, index)
        for index, one in enumerate(series)
        if (last := _finite(one.y))
    )
    places = [*accumulate((y for y, _ in ends), lambda above, y: max(y, above + 15))]
    excess = max(0.0, places[-1] - (HEIGHT - 44))
    right = axes.get_position().x1 * WIDTH
    for place, (_, index) in zip(places, ends, strict=True):
        name = series[index].name
        axes.figure.text(
            (right + 6) / WIDTH,
            1 - (place - excess + 4) / HEIGHT,
            name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…",
            color=_COLOURS["accent" if styles[index] == "s0" else "ink"],
            gid=f"class:name {styles[index]}",
            parse_math=False,
        )
