"""Sections on the target video: counts and coverage over time, and a strip of its frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from dvos.reporting.contents import CountRow, RunContents
from dvos.reporting.figures import Series, line_plot
from dvos.reporting.markup import Html, element, join, paragraph, table
from dvos.reporting.numbers import count_text, percent, significant
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
    read: Callable[[CountRow], float | None] = (
        (lambda row: row.count)
        if name == "Count"
        else (lambda row: None if row.coverage is None else 100 * row.coverage)
    )
    values = [math.nan if (value := read(row)) is None else value for row in rows]
    if not any(math.isfinite(value) for value in values):
        return None
    timed = all(row.time_s is not None for row in rows)
    across = [float(row.time_s or 0.0) if timed else float(row.frame_index) for row in rows]
    title = "Count" if name == "Count" else "Coverage, % of the frame"
    drawn = line_plot(
        [Series(name.lower(), across, values)],
        title=f"{title}, {clip}",
        x_label="time, s" if timed else "frame",
        y_limits=(0.0, None),
    )
    return f"{title}, {'over time' if timed else 'frame by frame'}", drawn


def _table(clips: dict[str, list[CountRow]]) -> Html:
    rows = [_table_row(clip, rows) for clip, rows in list(clips.items())[:_LISTED]]
    header = ("Clip", "Frames", "Length", "Count, mean", "median", "range", "Coverage, mean")
    rest = len(clips) - len(rows)
    caption = "Counts and coverage by clip" + (f" ({rest} more in counts.csv)" if rest else "")
    return table(caption, header, rows, numeric=range(1, 7))


def _table_row(clip: str, rows: Sequence[CountRow]) -> tuple[str, ...]:
    counts = [row.count for row in rows if row.count is not None]
    shares = [row.coverage for row in rows if row.coverage is not None]
    times = [row.time_s for row in rows if row.time_s is not None]
    span = f"{significant(max(times) - min(times))} s" if times else "–"
    return (
        clip,
        count_text(len(rows)),
        span,
        count_text(round(fmean(counts), 1)) if counts else "–",
        count_text(median(counts)) if counts else "–",
        f"{count_text(min(counts))} to {count_text(max(counts))}" if counts else "–",
        percent(fmean(shares)) if shares else "–",
    )


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
