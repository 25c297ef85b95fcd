from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.reporting.axes import HEIGHT, WIDTH, Axes, ticks
from dvos.reporting.figures import MAX_POINTS, Series, histogram, line_plot, summarise
from dvos.reporting.markup import Html, element, join, table
from dvos.reporting.numbers import (
    bytes_text,
    count_text,
    difference,
    duration,
    interval,
    moment,
    percent,
    score,
    significant,
)
from dvos.reporting.pictures import FALSE_ALARM, HIT, MISS, shrink, spread, verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234.5, "1230"),
        (0.000123456, "0.000123"),
        (-0.5, "−0.5"),
        (99.96, "100"),
        (1.2e-9, "1.2e−9"),
        (3e12, "3e12"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_significant(value: float | None, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0421, "0.042 s"),
        (9.04, "9.0 s"),
        (59.96, "1 min 00 s"),
        (365.0, "6 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7384, "2 h 03 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_other_numbers() -> None:
    assert score(0.86149) == "0.861"
    assert interval(0.841, 0.884) == "0.84 to 0.88"
    assert interval(0.8611, 0.8649) == "0.861 to 0.865"
    assert [percent(v) for v in (0, 0.5, 0.1234, 0.00712)] == ["0 %", "50 %", "12.3 %", "0.71 %"]
    assert [count_text(v) for v in (7, 14.25, 51600)] == ["7", "14.2", "51\u202f600"]
    assert [bytes_text(n) for n in (12, 999_999, 18_800_000)] == ["12 B", "1 MB", "18.8 MB"]
    assert moment("2026-03-02T10:14:07+00:00") == "2026-03-02 10:14 UTC"
    assert moment("yesterday") == "yesterday"


@given(st.floats(-1e9, 1e9))
@settings(max_examples=50, deadline=None)
def test_significant_keeps_three_digits(value: float) -> None:
    back = float(significant(value).replace("−", "-"))
    assert back == pytest.approx(value, rel=0.0051, abs=1e-300)


@given(st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_text_comes_back_from_markup(text: str) -> None:
    class Reader(HTMLParser):
        words = ""
        attribute: str | None = None

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.attribute = dict(attrs)["title"]

        def handle_data(self, data: str) -> None:
            self.words += data

    reader = Reader()
    reader.feed(element("p", text, attributes={"title": "t" + text}))
    reader.close()
    assert reader.words == text
    assert reader.attribute == "t" + text


def test_markup_is_not_escaped_twice() -> None:
    assert join(element("b", "a<b"), [None, " & ", Html("<hr>")]) == "<b>a&lt;b</b> &amp; <hr>"


def test_table_cells_head_their_rows() -> None:
    made = table("Caption", ("A", "B"), [("x", "1")], numeric=(1,))
    assert '<th scope="row">x</th><td class="number">1</td>' in made


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_ticks_lie_inside_and_are_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    room = 1e-6 * span + 1e-9
    assert all(low - room <= value <= low + span + room for value in found)
    assert len(found) <= 7


def test_axes_keep_data_inside_the_plot() -> None:
    axes = Axes((0, 10), (-1, 1), right=20)
    assert axes.x(10) == WIDTH - 20
    assert axes.y(-1) > axes.y(1) > 0
    assert axes.y(-1) < HEIGHT


def test_gap_in_a_line_splits_it_and_a_lone_value_is_a_dot() -> None:
    nan = math.nan
    drawn = line_plot(
        [Series("loss", range(6), [3, 2, nan, 1, nan, 0.5])], title="Loss", x_label="epoch"
    )
    assert drawn.count("<path") == 1
    assert drawn.count("<circle") == 2
    assert "nan" not in drawn


def test_lines_are_told_apart_without_colour() -> None:
    lines = [Series(name, [0, 1], [1, 1]) for name in ("first", "second", "third")]
    drawn = line_plot(lines, title="Three", x_label="x")
    assert all(f'class="line s{k}"' in drawn for k in range(3))
    places = sorted(float(y) for y in re.findall(r'class="name[^>]* y="([0-9.]+)"', drawn))
    assert len(places) == 3
    assert all(b - a >= 13.9 for a, b in pairwise(places))
    assert "first: from 1 to 1, last 1" in drawn


def test_point_without_a_place_is_left_out() -> None:
    drawn = line_plot([Series("a", [1, math.nan, 3], [1, 2, 3])], title="A", x_label="x")
    assert "nan" not in drawn


def test_constant_and_single_values_can_be_drawn() -> None:
    assert "<circle" in line_plot([Series("a", [3], [0.0])], title="One", x_label="x")
    assert "<path" in line_plot([Series("a", [1, 2], [5, 5])], title="Flat", x_label="x")


def test_long_series_keeps_mean_and_extremes() -> None:
    values = np.random.default_rng(3).normal(10, 2, 5000)
    short = summarise(Series("count", range(5000), list(values)))
    assert len(short.x) == MAX_POINTS
    assert max(short.high) == values.max()
    assert min(short.low) == values.min()
    weights = np.diff([k * 5000 // MAX_POINTS for k in range(MAX_POINTS + 1)])
    assert np.average(short.y, weights=weights) == pytest.approx(values.mean())


def test_long_series_keeps_its_own_band() -> None:
    values = [float(k % 7) for k in range(2000)]
    low, high = [v - 1 for v in values], [v + 2 for v in values]
    short = summarise(Series("count", range(2000), values, low, high, style="s0"))
    assert np.allclose(np.subtract(short.y, short.low), 1)
    assert np.allclose(np.subtract(short.high, short.y), 2)
    assert short.style == "s0"


def test_band_has_gaps_where_an_edge_is_unknown() -> None:
    nan = math.nan
    line = Series("a", range(5), [1] * 5, [0, 0, nan, 0, 0], [2] * 5, style="raw")
    drawn = line_plot([line], title="A", x_label="x")
    assert drawn.count('class="band raw"') == 2
    assert drawn.count('class="line raw"') == 1
    assert "nan" not in drawn


def test_differences_have_a_sign() -> None:
    values = (0.0181, -0.003, 0.00004, -0.00004, None)
    assert [difference(v) for v in values] == ["+0.018", "−0.003", "±0.000", "±0.000", "–"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_histogram_ticks_each_score(values: list[float]) -> None:
    drawn = histogram(values, title="Dice", x_label="Dice")
    assert drawn.count('class="rug"') == len(values)


def test_spread_takes_both_ends() -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(9, 1) == [4]
    assert spread(9, 0) == []


def test_verdict_colours() -> None:
    image = np.full((1, 4, 3), 100, np.uint8)
    truth = np.array([[True, True, False, False]])
    said = np.array([[True, False, True, False]])
    made = verdict(image, truth, said, alpha=1.0)
    assert made[0].tolist() == [list(HIT), list(MISS), list(FALSE_ALARM), [100, 100, 100]]


def test_shrunk_mask_keeps_its_ids_and_the_images_size() -> None:
    ids = np.zeros((90, 200), np.uint16)
    ids[20:60, 50:120] = 40000
    image = np.zeros((90, 200, 3), np.uint8)
    small = shrink(ids, 73)
    assert small.shape == shrink(image, 73).shape[:2]
    assert set(np.unique(small)) == {0, 40000}
    assert shrink(ids, 500) is ids
