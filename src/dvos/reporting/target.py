"""Sections on the target video: counts and coverage over time, and a strip of its frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from dvos.reporting.contents import CountRow, RunContents
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.markup import Html, element, join, paragraph, table
from dvos.reporting.numbers import NOTHING, count_text, percent, significant
from dvos.reporting.pictures import film, plain, spread
from dvos.reporting.section import Gallery, Section, photo, plots

__all__ = ["counts_section", "film_section"]

#: Clips with plots and pictures of their own; the table names all.
_PLOTTED = 4
_LISTED = 200


def counts_section(contents: RunContents) -> Section:
    """Count and coverage of each frame."""
    parts: list[Html] = []
    # A photo is a clip of one frame: it has no course over time.
    courses = [(clip, rows) for clip, rows in contents.counts.items() if len(rows) > 1]
    for clip, rows in courses[:_PLOTTED]:
        if len(courses) > 1:
            parts.append(element("h3", clip))
        parts.append(plots(_plot(clip, rows, "Count"), _plot(clip, rows, "Coverage")))
    body = join(parts, _table(contents.counts)) if contents.counts else None
    if body and len(courses) > _PLOTTED:
        body = join(body, paragraph(f"Plots are shown of the first {_PLOTTED} clips."))
    return Section(
        "counts",
        "Counts and coverage over time"
        if courses or not contents.counts
        else "Counts and coverage",
        f"Objects counted in each frame of the {_what(contents)}, and the share of the frame that"
        " they cover.",
        body,
        "there is no counts.csv with frames",
    )


def _what(contents: RunContents) -> str:
    return "held-out data" if contents.held_out else "target video"


def _plot(clip: str, rows: Sequence[CountRow], name: str) -> tuple[str, Html] | None:
    series, told = _count_lines(rows) if name == "Count" else (_coverage_line(rows), "")
    if not any(math.isfinite(value) for one in series for value in one.y):
        return None
    timed = all(row.time_s is not None for row in rows)
    title = "Count" if name == "Count" else "Coverage, % of the frame"
    drawn = line_plot(
        series,
        title=f"{title}, {clip}",
        x_label="time, s" if timed else "frame",
        y_limits=(0.0, None),
    )
    return f"{title}, {'over time' if timed else 'frame by frame'}{told}", drawn


def _across(rows: Sequence[CountRow]) -> list[float]:
    timed = all(row.time_s is not None for row in rows)
    return [float(row.time_s or 0.0) if timed else float(row.frame_index) for row in rows]


def _values(rows: Sequence[CountRow], read: Callable[[CountRow], float | None]) -> list[float]:
    return [math.nan if (value := read(row)) is None else value for row in rows]


def _coverage_line(rows: Sequence[CountRow]) -> list[Series]:
    shares = _values(rows, lambda row: None if row.coverage is None else 100 * row.coverage)
    return [Series("coverage", _across(rows), shares)]


def _count_lines(rows: Sequence[CountRow]) -> tuple[list[Series], str]:
    # Below the count with its interval, if there is one, stands what was found frame by frame.
    across = _across(rows)
    found, smooth = _values(rows, lambda row: row.count), _values(rows, lambda row: row.smooth)
    if not any(math.isfinite(value) for value in smooth):
        return [Series("count", across, found)], ""
    low, high = _values(rows, lambda row: row.low), _values(rows, lambda row: row.high)
    lines = [
        Series("found", across, found, style="raw"),
        Series("smoothed", across, smooth, low, high, style="s0"),
    ]
    return lines, "; smoothed with its interval, and found in each frame"


def _table(clips: dict[str, list[CountRow]]) -> Html:
    chosen = list(clips.items())[:_LISTED]
    optional = [
        (name, write)
        for name, write in _OPTIONAL
        if any(write(rows) != NOTHING for _, rows in chosen)
    ]
    rows = [
        (*_table_row(clip, rows), *(write(rows) for _, write in optional)) for clip, rows in chosen
    ]
    header = (*_HEADER, *(name for name, _ in optional))
    rest = len(clips) - len(rows)
    caption = "Counts and coverage by clip" + (f" ({rest} more in counts.csv)" if rest else "")
    return table(caption, header, rows, numeric=range(1, len(header)))


def _table_row(clip: str, rows: Sequence[CountRow]) -> tuple[str, ...]:
    counts = [row.count for row in rows if row.count is not None]
    shares = [row.coverage for row in rows if row.coverage is not None]
    times = [row.time_s for row in rows if row.time_s is not None]
    span = f"{significant(max(times) - min(times))} s" if times else NOTHING
    return (
        clip,
        count_text(len(rows)),
        span,
        count_text(round(fmean(counts), 1)) if counts else NOTHING,
        count_text(median(counts)) if counts else NOTHING,
        f"{count_text(min(counts))} to {count_text(max(counts))}" if counts else NOTHING,
        percent(fmean(shares)) if shares else NOTHING,
    )


def _smoothed(rows: Sequence[CountRow]) -> str:
    columns = ([row.smooth for row in rows], [row.low for row in rows], [row.high for row in rows])
    known = [[value for value in column if value is not None] for column in columns]
    if not all(known):
        return NOTHING
    # Frames of a clip share their errors, so that the mean is no surer than a frame.
    mean, low, high = (significant(fmean(column)) for column in known)
    return f"{mean} ({low} to {high})"


def _density(rows: Sequence[CountRow]) -> str:
    known = [row.density for row in rows if row.density is not None]
    return significant(fmean(known)) if known else NOTHING


_HEADER = ("Clip", "Frames", "Length", "Count, mean", "median", "range", "Coverage, mean")

#: Columns that a table of counts may lack.
_OPTIONAL = (("Smoothed, mean (interval)", _smoothed), ("per m²", _density))


def film_section(contents: RunContents, *, shown: int, width: int) -> Section:
    """Frames of the target video with the predicted objects, evenly apart in time."""
    gallery = Gallery("film")
    found = False
    masks_only = False
    clips = list(contents.counts.items())[:_PLOTTED]
    each = max(1, shown // max(1, len(clips)))
    for clip, rows in clips:
        chosen = [rows[index] for index in spread(len(rows), each)]
        if clip in contents.videos:
            found = True
            _add_film(gallery, contents.videos[clip], rows, chosen, width)
        elif not contents.overlays and (masks := contents.frame_masks.get(clip)):
            found = masks_only = True
            for index in spread(len(masks), each):
                gallery.add(_mask, masks[index], width)
    for index in spread(len(contents.overlays), shown):
        found = True
        gallery.add(_overlay, contents.overlays[index], width)
    lead = f"Frames of the {_what(contents)}, evenly apart, with the predicted objects coloured."
    if masks_only:
        lead += " A clip without an overlay video is shown by its masks alone, objects in white."
    return Section(
        "film",
        f"Frames of the {_what(contents)}",
        lead,
        gallery.render() if found and shown else None,
        "there is no overlay video and there are no masks of the clips in counts.csv",
    )


def _add_film(
    gallery: Gallery, video: Path, rows: Sequence[CountRow], chosen: Sequence[CountRow], width: int
) -> None:
    # The overlay video has one frame a row, whatever the first frame index is.
    places = {rows.index(row): row for row in chosen}
    drawn: set[int] = set()

    def draw() -> list[Html]:
        figures = []
        for place, image in film(video, places, width):
            row = places[place]
            words = f"Frame {row.frame_index} of {row.clip} with predicted objects coloured"
            figures.append(photo([(image, words)], _caption(row)))
            drawn.add(place)
        return figures

    gallery.add(draw)
    for place in places.keys() - drawn:
        gallery.note(f"{video.name}: frame {place} is not in the overlay video")


def _caption(row: CountRow) -> str:
    parts = [f"frame {row.frame_index}"]
    if row.time_s is not None:
        parts.append(f"{significant(row.time_s)} s")
    if row.count is not None:
        parts.append(f"count {count_text(row.count)}")
    return ", ".join(parts)


def _overlay(path: Path, width: int) -> Html:
    words = f"Photo {path.stem} with predicted objects coloured"
    return photo([(plain(path, width), words)], path.stem)


def _mask(path: Path, width: int) -> Html:
    return photo([(plain(path, width), f"Predicted mask {path.name}, objects in white")], path.name)
