from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.reporting.figures import (
    HEIGHT,
    MAX_POINTS,
    WIDTH,
    Plot,
    Series,
    histogram,
    line_plot,
    summarise,
)
from dvos.reporting.html import environment
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
from dvos.reporting.pictures import (
    FALSE_ALARM,
    HIT,
    MISS,
    compared,
    data_uri,
    outlined,
    shrink,
    spread,
    tinted,
    verdict,
)


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
@settings(max_examples=50)
def test_significant_keeps_three_digits(value: float) -> None:
    back = float(significant(value).replace("−", "-"))
    assert back == pytest.approx(value, rel=0.0051, abs=1e-300)


def parts(template: str, **values: object) -> str:
    """What a template made of the macros of ``parts.html`` gives."""
    macros = '{% from "parts.html" import bar, code, gallery, plots, table %}'
    return environment().from_string(macros + template).render(values).strip()


@given(st.text(max_size=40))
@settings(max_examples=50)
def test_any_text_comes_back_from_a_template(text: str) -> None:
    class Reader(HTMLParser):
        words = ""
        attribute: str | None = None

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.attribute = dict(attrs)["title"]

        def handle_data(self, data: str) -> None:
            self.words += data

    reader = Reader()
    template = '<p title="t{{ text }}">{{ text }}</p>'
    reader.feed(environment().from_string(template).render(text=text))
    reader.close()
    assert reader.words == text
    assert reader.attribute == "t" + text


def test_markup_is_not_escaped_twice() -> None:
    assert parts("{{ code(text) }}", text="a<b & c") == (
        '<pre tabindex="0"><code>a&lt;b &amp; c</code></pre>'
    )
    drawn = plot([Series("a&b", [1, 2], [1, 2])], title="<T>", x_label="x")
    shown = parts("{{ plots([drawn]) }}", drawn=drawn)
    assert "<figcaption>&lt;T&gt;</figcaption>" in shown
    assert 'aria-label="&lt;T&gt;. a&amp;b: from 1 to 2, last 2."><g>' in shown


def test_table_cells_head_their_rows() -> None:
    made = parts('{{ table("Caption", ("A", "B"), [("x", "1")], (1,)) }}')
    assert '<th scope="row">x</th><td class="number">1</td>' in made
    assert '<th class="number" scope="col">B</th>' in made


def plot(lines: list[Series], **options: object) -> Plot:
    """A plot that is there."""
    drawn = line_plot(lines, **options)  # type: ignore[arg-type]
    assert drawn is not None
    return drawn


def tick_labels(drawn: Plot) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Value and place of the labels across and upwards."""
    found = re.findall(
        r'text-anchor: (\w+)[^>]*x="([0-9.]+)" y="([0-9.]+)">([−0-9.e]+)<', drawn.drawing
    )
    values = [(a, float(x), float(y), float(text.replace("−", "-"))) for a, x, y, text in found]
    return (
        [(value, x) for anchor, x, _, value in values if anchor == "middle"],
        [(value, y) for anchor, _, y, value in values if anchor == "end"],
    )


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
@settings(max_examples=30)
def test_ticks_lie_inside_and_are_few(low: float, span: float) -> None:
    drawn = plot([Series("a", [low, low + span], [low, low + span])], title="A", x_label="x")
    across, upwards = tick_labels(drawn)
    for ticks, room in ((across, 1e-3), (upwards, 0.07)):
        values = [value for value, _ in ticks]
        assert all(low - room * span - 1e-6 * abs(low) <= value for value in values)
        assert all(value <= low + (1 + room) * span + 1e-6 * abs(low + span) for value in values)
        assert 2 <= len(values) <= 7
        assert values == sorted(values)


def test_axes_keep_data_inside_the_plot() -> None:
    drawn = plot([Series("a", [0, 10], [-1, 1])], title="A", x_label="x")
    path = re.search(r'class="line s0"> <path d="M ([0-9. L]+)"', drawn.drawing)
    assert path
    (left, bottom), (right, top) = (map(float, one.split()) for one in path[1].split("L"))
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT
    across, upwards = tick_labels(drawn)
    assert across[0] == (0, left)
    assert across[-1] == (10, right)
    assert upwards == sorted(upwards)
    assert [y for _, y in upwards] == sorted((y for _, y in upwards), reverse=True)


def test_drawing_reaches_nothing_outside_itself() -> None:
    name = '</text><script>$x$ id="a" #fe0000'
    lines = [
        Series(name, [0, 1, 2], [1, math.nan, 1]),
        Series("中文", [0, 1], [0, 1], [0, 0], [1, 1]),
    ]
    drawn = plot(lines, title="A", x_label="x").drawing
    assert not re.search(r'<(?:style|defs|use|script|image)| id="|url\(|href|#[0-9a-f]{6}"', drawn)
    colours = re.findall(r"(?:fill|stroke): ([^;\"]+)", drawn)
    assert colours
    assert all(colour == "none" or colour.startswith("var(--") for colour in colours)
    words = re.sub("<[^>]*>", "", drawn)
    assert "&lt;/text&gt;&lt;script&gt;…" in words
    assert "中文" in words


def test_gap_in_a_line_splits_it_and_a_lone_value_is_a_dot() -> None:
    nan = math.nan
    line = Series("loss", range(6), [3, 2, nan, 1, nan, 0.5])
    drawn = plot([line], title="Loss", x_label="epoch").drawing
    assert drawn.count('class="line s0"') == 1
    assert drawn.count('class="dot s0"') == 2
    assert "nan" not in drawn


def test_lines_are_told_apart_without_colour() -> None:
    lines = [Series(name, [0, 1], [1, 1]) for name in ("first", "second", "third")]
    made = plot(lines, title="Three", x_label="x")
    drawn = made.drawing
    assert all(f'class="line s{k}"' in drawn for k in range(3))
    places = re.findall(r'class="name[^>]*> <text[^>]* y="([0-9.]+)"', drawn)
    places = sorted(map(float, places))
    assert len(places) == 3
    assert all(b - a >= 13.9 for a, b in pairwise(places))
    assert "first: from 1 to 1, last 1" in made.label


def test_every_line_style_has_dashes_of_its_own() -> None:
    lines = [Series(str(k), [0, 1], [k, k]) for k in range(6)]
    drawn = plot(lines, title="Six", x_label="x").drawing
    found = re.findall(r'class="line s(\d)"> <path[^>]*style="([^"]*)"', drawn)
    assert [k for k, _ in found] == list("012345")
    dashes = [re.search(r"stroke-dasharray: ([^;]*);", style) for _, style in found]
    assert dashes[0] is None
    assert len({match[1] for match in dashes if match}) == 5


def test_point_without_a_place_is_left_out() -> None:
    drawn = plot([Series("a", [1, math.nan, 3], [1, 2, 3])], title="A", x_label="x").drawing
    assert "nan" not in drawn


def test_constant_and_single_values_can_be_drawn() -> None:
    one = plot([Series("a", [3], [0.0])], title="One", x_label="x")
    assert 'class="dot' in one.drawing
    flat = plot([Series("a", [1, 2], [5, 5])], title="Flat", x_label="x")
    assert 'class="line' in flat.drawing
    assert line_plot([Series("a", [1], [math.nan])], title="None", x_label="x") is None


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
    drawn = plot([line], title="A", x_label="x").drawing
    assert drawn.count('class="band raw"') == 2
    assert drawn.count('class="line raw"') == 1
    assert "nan" not in drawn


def test_differences_have_a_sign() -> None:
    values = (0.0181, -0.003, 0.00004, -0.00004, None)
    assert [difference(v) for v in values] == ["+0.018", "−0.003", "±0.000", "±0.000", "–"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
@settings(max_examples=50)
def test_histogram_ticks_each_score(values: list[float]) -> None:
    drawn = histogram(values, title="Dice", x_label="Dice").drawing
    rug = re.search(r'class="rug">(.*?)</g>', drawn)
    assert rug
    assert rug[1].count("<path") == len(values)


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


@pytest.mark.parametrize("unknown", [128, 65535])
def test_what_nobody_labelled_is_neither_right_nor_wrong(unknown: int, tmp_path: Path) -> None:
    truth = np.array([[0, 0, 255, 255, unknown, unknown]], np.uint16 if unknown > 255 else np.uint8)
    said = np.array([[0, 255, 0, 255, 0, 255]], np.uint8)
    image = np.full((1, 6, 3), 100, np.uint8)
    for name, pixels in (("truth", truth), ("said", said)):
        write_mask(tmp_path / f"{name}.png", pixels)
    write_image(tmp_path / "image.png", image)
    _, judged = compared(image, tmp_path / "truth.png", tmp_path / "said.png", 6, "auto")
    kinds = [tuple(pixel) for pixel in judged[0]]
    assert kinds[0] == kinds[4] == kinds[5] == (100, 100, 100)
    assert len(set(kinds)) == 4
    coloured = tinted(tmp_path / "image.png", tmp_path / "truth.png", 6)
    assert (coloured[0] != 100).any(axis=1).tolist() == [False, False, True, True, False, False]


def test_shrunk_mask_keeps_its_ids_and_the_images_size() -> None:
    ids = np.zeros((90, 200), np.uint16)
    ids[20:60, 50:120] = 40000
    image = np.zeros((90, 200, 3), np.uint8)
    small = shrink(ids, 73)
    assert small.shape == shrink(image, 73).shape[:2]
    assert set(np.unique(small)) == {0, 40000}
    assert max(small.shape) == max(shrink(ids.T, 73).shape) == 73
    assert shrink(ids, 500) is ids


def test_a_picture_takes_no_more_bytes_for_its_grain() -> None:
    rng = np.random.default_rng(3)
    grain = rng.integers(0, 256, (300, 400, 3), np.uint8)
    smooth = np.repeat(np.repeat(grain[::50, ::50], 50, axis=0), 50, axis=1)
    sizes = []
    for picture in (smooth, rng.normal(smooth, 12).clip(0, 255).astype(np.uint8)):
        data = base64.b64decode(data_uri(picture).removeprefix("data:image/webp;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(data)))
        assert shown.shape == picture.shape
        assert np.abs(shown.astype(float) - smooth).mean() < 8
        sizes.append(len(data))
    assert sizes[0] < sizes[1] <= 0.15 * 300 * 400


def test_outlines_of_large_pictures_are_as_wide_as_they_are_looked_at(tmp_path: Path) -> None:
    shares = []
    for side in (480, 1200):
        ids = np.zeros((side, side), np.uint8)
        ids[side // 4 : side // 2, side // 4 : side // 2] = 255
        write_mask(tmp_path / "mask.png", ids)
        write_image(tmp_path / "image.png", np.full((side, side, 3), 90, np.uint8))
        drawn = outlined(tmp_path / "image.png", tmp_path / "mask.png", 1200)
        shares.append((drawn != 90).any(axis=2).mean())
    assert 0.7 < shares[1] / shares[0] < 1.1
