"""Sections on how well the run did: headline, scores of single masks, best to worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from dvos.reporting.contents import CountRow, Figures, RunContents, ScoredMask, Scores
from dvos.reporting.figures import histogram
from dvos.reporting.markup import Html, element, join, paragraph, table
from dvos.reporting.measures import interval_note, known
from dvos.reporting.numbers import (
    NOTHING,
    count_text,
    interval,
    percent,
    score,
    significant,
)
from dvos.reporting.pictures import FALSE_ALARM, HIT, MISS, compared, scored_frame
from dvos.reporting.section import Gallery, Section, details, photo, plots

__all__ = ["extremes_section", "headline_section", "legend", "scores_section"]

#: Rows of the table of single masks; the lowest scores are the ones to look at.
_LISTED = 40


def headline_section(contents: RunContents) -> Section:
    """The figures a colleague asks for first."""
    tiles = [*_score_tiles(contents), *_count_tiles(contents)]
    body = join(_verdict(contents), element("dl", tiles, cls="headline")) if tiles else None
    return Section(
        "results",
        "Results",
        "The figures that sum the run up; the sections below show where they come from.",
        body,
        "there are neither scores.json nor counts.csv",
    )


def _verdict(contents: RunContents) -> Html | None:
    scores = contents.scores
    if scores is None or "masks" not in scores.values:
        return None
    missing = int(scores.values.get("missing", 0))
    if not missing:
        return None
    text = (
        f"{count_text(missing)} of {count_text(scores.values['masks'])} masks had no prediction;"
        " each counts as an empty one."
    )
    return paragraph(element("strong", text), cls="warning")


def _tile(name: str, value: str, note: str) -> Html:
    return element(
        "div",
        element("dt", name),
        element("dd", value, cls="value"),
        element("dd", note, cls="note"),
    )


def _score_tiles(contents: RunContents) -> list[Html]:
    if contents.scores is None:
        return []
    tiles: list[Html] = []
    for measure, value, found in known(contents.scores):
        if measure.headline:
            note = f"{interval_note(found)}; {measure.meaning}" if found else measure.meaning
            tiles.append(_tile(measure.name, measure.text(value), note))
    values = contents.scores.values
    if "masks" in values:
        missing = values.get("missing", 0)
        note = f"{count_text(missing)} predictions missing" if missing else "no prediction missing"
        tiles.append(_tile("Masks scored", count_text(values["masks"]), note))
    return tiles


def _count_tiles(contents: RunContents) -> list[Html]:
    rows = [row for clip in contents.counts.values() for row in clip]
    if not rows:
        return []
    frames = f"over {count_text(len(rows))} frame{'' if len(rows) == 1 else 's'} of the "
    frames += "held-out data" if contents.held_out else "target video"
    tiles = []
    counts = [row.count for row in rows if row.count is not None]
    if counts:
        span = f"{count_text(min(counts))} to {count_text(max(counts))} {frames}"
        tiles.append(_count_tile(rows, counts, span))
    densities = [row.density for row in rows if row.density is not None]
    if densities:
        span = f"{significant(min(densities))} to {significant(max(densities))} {frames}"
        note = f"objects a square metre, {span}"
        tiles.append(_tile("Density, mean", significant(fmean(densities)), note))
    shares = [row.coverage for row in rows if row.coverage is not None]
    if shares:
        span = f"{percent(min(shares))} to {percent(max(shares))} {frames}"
        tiles.append(_tile("Coverage, mean", percent(fmean(shares)), span))
    return tiles


def _count_tile(rows: Sequence[CountRow], counts: Sequence[float], span: str) -> Html:
    smooth = [row.smooth for row in rows if row.smooth is not None]
    low = [row.low for row in rows if row.low is not None]
    high = [row.high for row in rows if row.high is not None]
    if not (smooth and low and high):
        return _tile("Count, mean", count_text(round(fmean(counts), 1)), span)
    # Frames of a clip share their errors, so that the mean is no surer than a frame.
    ends = f"interval {significant(fmean(low))} to {significant(fmean(high))}"
    return _tile("Count, mean", significant(fmean(smooth)), f"{ends}; found: {span}")


def scores_section(contents: RunContents) -> Section:
    """How the scores of the single masks spread."""
    scored = contents.scored
    values = [one.dice for one in scored if one.dice is not None]
    body = None
    if scored:
        title = "Dice of each scored mask"
        bins = 20 if len(values) > 40 else 10
        drawn = histogram(values, title=title, x_label="Dice", bins=bins) if values else None
        body = join(
            plots((f"{title}: number of masks, and a tick for each", drawn)) if drawn else None,
            *_score_tables(contents.scores),
            _score_table(scored),
        )
    return Section(
        "scores",
        "Scores of single masks",
        "How the Dice spreads over the scored masks: a mean can hide a few bad frames.",
        body,
        "there is no scores.csv with scored masks",
    )


def _score_tables(scores: Scores | None) -> list[Html | None]:
    if scores is None:
        return []
    return [
        _all_figures(scores),
        _domain_table(scores),
        _clip_table(scores),
        _named("Single objects against the truth", scores.instances),
        _named("Object counts against the truth", scores.counts),
    ]


def _all_figures(scores: Scores) -> Html | None:
    rows = [
        (
            measure.name,
            measure.text(value),
            f"{measure.text(found.low)} to {measure.text(found.high)}" if found else NOTHING,
            measure.meaning,
        )
        for measure, value, found in known(scores)
    ]
    header = ("Figure", "Value", "Interval", "Meaning")
    return table("All figures with their intervals", header, rows, numeric=(1, 2)) if rows else None


def _domain_table(scores: Scores) -> Html | None:
    if not scores.domains:
        return None
    ordered = sorted(
        scores.domains.items(), key=lambda item: item[1].values.get("pooled_dice", 0.0)
    )
    rows = [(name, *_domain_row(figures)) for name, figures in ordered]
    if scores.domain_mean:
        rows.append(("Mean over domains", *_domain_row(scores.domain_mean)))
    header = ("Domain", "Clips", "Masks", "Dice, pooled", "Interval", "Dice, mean", "Count error")
    return table("Scores by domain, lowest first", header, rows, numeric=range(1, 7))


def _domain_row(figures: Figures) -> tuple[str, ...]:
    values, found = figures.values, figures.intervals.get("pooled_dice")
    return (
        count_text(values.get("clips")),
        count_text(values.get("masks")),
        score(values.get("pooled_dice")),
        interval(found.low, found.high) if found else NOTHING,
        score(values.get("mean_dice")),
        significant(values.get("count_mae")),
    )


def _clip_table(scores: Scores) -> Html | None:
    if len(scores.clips) < 2:
        return None
    names = ("pooled_dice", "mean_dice", "pooled_iou")
    ordered = sorted(scores.clips.items(), key=lambda item: item[1].get("pooled_dice", 0.0))
    rows = [
        (clip, count_text(figures.get("masks")), *(score(figures.get(name)) for name in names))
        for clip, figures in ordered[:_LISTED]
    ]
    header = ("Clip", "Masks", "Dice, pooled", "Dice, mean", "IoU, pooled")
    whole = len(ordered) <= _LISTED
    caption = "Scores by clip, lowest first" + ("" if whole else f" (the lowest {_LISTED})")
    return table(caption, header, rows, numeric=range(1, 5))


def _named(caption: str, figures: dict[str, float]) -> Html | None:
    rows = [(name.replace("_", " "), significant(value)) for name, value in figures.items()]
    return table(caption, ("Figure", "Value"), rows, numeric=(1,)) if rows else None


def _score_table(scored: Sequence[ScoredMask]) -> Html:
    ordered = sorted(scored, key=lambda one: (one.dice is not None, one.dice or 0.0))
    rows = [
        (
            one.mask.name,
            score(one.dice),
            score(one.iou),
            one.prediction.name if one.prediction and one.prediction.exists() else "missing",
        )
        for one in ordered[:_LISTED]
    ]
    whole = len(scored) <= _LISTED
    caption = "Scored masks, lowest Dice first" + ("" if whole else f" (the lowest {_LISTED})")
    shown = table(caption, ("Mask", "Dice", "IoU", "Prediction"), rows, numeric=(1, 2))
    return details(f"Table of {'all' if whole else 'the lowest'} {len(rows)} masks", shown)


def extremes_section(contents: RunContents, width: int) -> Section:
    """Best, median and worst mask, truth against prediction."""
    gallery = Gallery("pairs")
    picked = _picks(contents.scored)
    for rank, one in picked:
        gallery.add(_extreme, rank, one, width)
    body = join(legend(), gallery.render()) if picked else None
    return Section(
        "best-to-worst",
        "Best, median and worst",
        "The scored frames with the highest, middle and lowest Dice: the frame as it is, and"
        " the same in grey with truth and prediction laid over it.",
        body,
        "no scored mask has both a prediction and a Dice",
    )


def _picks(scored: Sequence[ScoredMask]) -> list[tuple[str, ScoredMask]]:
    ranked = [one for one in scored if one.dice is not None and one.prediction]
    ranked.sort(key=lambda one: -(one.dice or 0.0))
    names = {0: "Best"}
    if len(ranked) > 1:
        names = {0: "Best", len(ranked) // 2: "Median", len(ranked) - 1: "Worst"}
    if len(ranked) == 2:
        names = {0: "Best", 1: "Worst"}
    return [(name, ranked[index]) for index, name in names.items() if index < len(ranked)]


def _extreme(rank: str, one: ScoredMask, width: int) -> Html:
    assert one.prediction is not None  # _picks leaves out rows without one
    image = None if one.image is None else scored_frame(one.image)
    frame, judged = compared(image, one.mask, one.prediction, width)
    name = one.image.name if isinstance(one.image, Path) else one.mask.stem
    pictures = [(judged, f"{rank} frame, {name}: hits, misses and false alarms coloured")]
    if frame is not None:
        pictures.insert(0, (frame, f"{rank} frame, {name}, as it is"))
    told = element("strong", f"{rank}: Dice {score(one.dice)}")
    return photo(pictures, join(told, f", IoU {score(one.iou)}. {name}"))


def legend() -> Html:
    """What the colours of truth against prediction mean."""
    entries = (
        (HIT, "hit: object, found"),
        (MISS, "miss: object, not found"),
        (FALSE_ALARM, "false alarm: no object, but marked"),
    )
    items = []
    for colour, words in entries:
        style = f"background:rgb({colour[0]},{colour[1]},{colour[2]})"
        mark = element("span", "", cls="swatch", attributes={"style": style, "aria-hidden": "true"})
        items.append(element("li", mark, words))
    return element("ul", items, cls="legend")
