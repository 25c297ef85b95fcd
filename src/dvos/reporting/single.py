"""What the page on one run shows, section by section of ``templates/run.html``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvos.config.scoring import ReportSettings
from dvos.errors import MediaError
from dvos.files import real_path
from dvos.reporting.contents import (
    ClipFrame,
    Columns,
    RunContents,
    ScoredMask,
    Shown,
    as_mapping,
    as_number,
    column,
    flat_items,
    known,
    known_figures,
)
from dvos.reporting.figures import Plot, Series, histogram, line_plot
from dvos.reporting.followed import followed_section
from dvos.reporting.numbers import count_text, duration, moment, plural, score, significant
from dvos.reporting.pictures import (
    Gallery,
    Photo,
    compared,
    film,
    outlined,
    plain,
    scored_frame,
    sheet,
    spread,
    tinted,
)

#: Clips with plots and pictures of their own.
_PLOTTED = 4
#: Frames of a synthetic clip that are shown, as many as the network takes at once.
_CLIP_FRAMES = 5
#: Columns of ``records.csv`` that are neither a loss nor a score.
_NO_LOSS = ("epoch", "seconds", "time", "step", "steps", "clips", "lr", "learning_rate")
#: Entries of ``run.json`` that have a section of their own.
_SHOWN_ELSEWHERE = ("clips_by_source", "command")


def run_sections(run: RunContents, settings: ReportSettings, page: Path) -> dict[str, Shown]:
    """The content of each section of the page; None where the run has nothing for it."""
    history = run.history.stages or run.settings
    # Links hold as long as page and run are moved together.
    linked = real_path(page).parent == real_path(run.folder)
    return {
        "results": _headline(run),
        "run": {"run": run} if history else None,
        "stills": _stills(run, settings),
        "cutouts": _cutouts(run, settings),
        "clips": _clips(run, settings),
        "data-mix": _data_mix(run),
        "curves": _curves(run.records),
        "scores": _scores(run),
        "best-to-worst": _extremes(run.scored, settings.picture_width),
        "counts": _counts(run),
        "followed": followed_section(run, settings),
        "film": _film(run, settings),
        "environment": _environment(run.metadata),
        "files": {"run": run, "linked": linked} if run.files else None,
        "reproduce": _command(run),
    }


def _headline(run: RunContents) -> Shown:
    names = ("frame_index", "count", "count_smooth", "count_low", "count_high")
    pooled = {
        name: [value for clip in run.counts.values() for value in known(clip, name)]
        for name in (*names, "density", "coverage")
    }
    figures, overall = known_figures(run.scores), run.scores.values
    if not (figures or "masks" in overall or any(map(pooled.get, ("count", "coverage")))):
        return None
    # Its frames are alike: their spread says nothing of other videos.
    alone = len(run.scores.clips) == 1 and (overall.get("masks") or 0) > 1
    return {"figures": figures, "overall": overall, "pooled": pooled, "one_video": alone}


def _shown(total: int, shown: int, noun: str) -> str:
    return plural(total, noun) if total <= shown else f"{shown} of {plural(total, noun)}"


def _stills(run: RunContents, settings: ReportSettings) -> Shown:
    shown, gallery = settings.stills, Gallery()

    def draw(image: Path, mask: Path) -> Photo:
        words = f"Labelled still {image.name} with its objects outlined"
        return Photo([(outlined(image, mask, settings.picture_width), words)], image.name)

    for index in spread(len(run.stills), shown):
        gallery.add(draw, *run.stills[index])
    text = _shown(len(run.stills), shown, "still")
    return {"gallery": gallery, "shown": text} if run.stills and shown else None


def _cutouts(run: RunContents, settings: ReportSettings) -> Shown:
    shown, gallery = settings.sprites, Gallery()

    def draw(name: str, paths: Sequence[Path]) -> Photo:
        chosen = [paths[index] for index in spread(len(paths), shown)]
        words = f"Sheet of {len(chosen)} {name}s on grey"
        drawn = sheet(chosen, settings.picture_width)
        return Photo([(drawn, words)], _shown(len(paths), shown, name))

    if not shown or not (run.cutouts or run.distractors):
        return None
    for name, paths in (("cutout", run.cutouts), ("distractor", run.distractors)):
        if paths:
            gallery.add(draw, name, paths)
        else:
            gallery.notes.append(f"{name}s: there is no {name}s.csv that names any")
    return {"gallery": gallery}


def _clips(run: RunContents, settings: ReportSettings) -> Shown:
    width = settings.picture_width // 2

    def draw(t: int, frame: ClipFrame) -> Photo:
        place = f"{frame.fid} of {frame.clip}"
        images = [(plain(frame.image, width), f"Synthetic frame {place}")]
        if frame.mask is not None:
            words = f"Frame {place} with its labelled objects coloured"
            images.append((tinted(frame.image, frame.mask, width), words))
        return Photo(images, f"t{t}: frame {frame.fid}")

    clips: dict[str, list[ClipFrame]] = {}
    for frame in run.clip_frames:
        clips.setdefault(frame.clip, []).append(frame)
    galleries = []
    for index in spread(len(clips), settings.clips):
        name, frames = list(clips.items())[index]
        ordered = sorted(frames, key=lambda frame: frame.fid)
        gallery = Gallery()
        for t, place in enumerate(spread(len(ordered), _CLIP_FRAMES)):
            gallery.add(draw, t, ordered[place])
        galleries.append((f"Clip {name}, {plural(len(frames), 'frame')}", gallery))
    text = _shown(len(clips), settings.clips, "clip")
    return {"galleries": galleries, "shown": text} if galleries else None


def _data_mix(run: RunContents) -> Shown:
    noted = as_mapping(run.metadata.get("clips_by_source"))
    numbers = {name.replace("_", " "): as_number(clips) for name, clips in noted.items()}
    sources = {name: clips for name, clips in numbers.items() if clips is not None and clips >= 0}
    total = sum(sources.values())
    return {"sources": sources, "total": total} if total else None


def _curve_groups(records: Columns) -> dict[str, list[tuple[str, str]]]:
    # Label and column of each curve, by what it shows. Earlier versions had other columns.
    groups: dict[str, list[tuple[str, str]]] = {"loss": [], "part": [], "score": [], "rate": []}
    for name, values in records.items():
        source, split, bare = name.partition("_")
        if source not in ("train", "val", "valid", "validation") or not split:
            source, bare = "", name
        label = bare.replace("_", " ")
        if not any(map(math.isfinite, values)):
            continue
        if bare == "loss":
            groups["loss"].append(("training" if source in ("", "train") else "validation", name))
        elif name in ("lr", "learning_rate"):
            groups["rate"].append(("learning rate", name))
        elif source != "train" and bare in ("dice", "iou", "pooled_dice", "pooled_iou"):
            label = label.replace("dice", "Dice").replace("iou", "IoU")
            groups["score"].append((label, name))
        elif bare not in _NO_LOSS and (source == "train" or (not source and "loss" in bare)):
            groups["part"].append((label.removesuffix(" loss").removeprefix("loss "), name))
    return groups


def curve(records: Columns, kind: str) -> list[float]:
    """A curve of ``records.csv``; empty where there is none or where epochs are not numbered.

    ``kind`` is ``dice`` (of the validation), ``validation``, ``training`` (their loss) or ``rate``.
    """
    groups = _curve_groups(records)
    found = {
        "dice": [name for label, name in groups["score"] if "Dice" in label],
        "rate": [name for _, name in groups["rate"]],
    }
    names = found.get(kind) or [name for label, name in groups["loss"] if label == kind]
    return records[names[0]] if names and "epoch" in records else []


def _curves(records: Columns) -> Shown:
    if not known(records, "epoch") or sum(1 for name in records if known(records, name)) < 2:
        return None

    def draw(group: str, title: str, low: float | None, high: float | None) -> Plot | None:
        lines = [Series(label, records["epoch"], records[name]) for label, name in groups[group]]
        if any(value < 0 for line in lines for value in line.y):
            low = None
        return line_plot(lines, title=title, x_label="epoch", y_limits=(low, high), whole_x=True)

    groups = _curve_groups(records)
    plots = [
        draw("loss", "Loss", 0.0, None),
        draw("part", "Parts of the training loss", 0.0, None),
        draw("score", "Validation scores", None, 1.0),
        draw("rate", "Learning rate", 0.0, None),
    ]
    text = plural(len(known(records, "epoch")), "epoch")
    if seconds := known(records, "seconds"):
        text += f" in {duration(sum(seconds))}"
    pairs = zip(curve(records, "dice"), records["epoch"], strict=False)
    if reached := [(value, epoch) for value, epoch in pairs if math.isfinite(value + epoch)]:
        best, epoch = max(reached, key=lambda pair: pair[0])
        text += f"; highest validation Dice {score(best)}, at epoch {count_text(epoch)}"
    return {"plots": plots, "summary": text}


def _scores(run: RunContents) -> Shown:
    if not run.scored:
        return None
    values = [one.dice for one in run.scored if one.dice is not None]
    title = "Dice of each scored mask: number of masks, and a tick for each"
    bins = 20 if len(values) > 40 else 10
    drawn = values and histogram(values, title=title, x_label="Dice", bins=bins)
    lowest = sorted(run.scored, key=lambda one: (one.dice is not None, one.dice or 0.0))
    figures = known_figures(run.scores)
    return {"plots": [drawn], "lowest": lowest, "scores": run.scores, "figures": figures}


def _extremes(scored: Sequence[ScoredMask], width: int) -> Shown:
    def draw(rank: str, one: ScoredMask) -> Photo:
        assert one.prediction is not None  # those without one are not ranked
        image = None if one.image is None else scored_frame(one.image)
        frame, judged = compared(image, one.mask, one.prediction, width)
        name = one.image.name if isinstance(one.image, Path) else one.mask.stem
        images = [(judged, f"{rank} frame, {name}: hits, misses and false alarms coloured")]
        if frame is not None:
            images.insert(0, (frame, f"{rank} frame, {name}, as it is"))
        text = f", IoU {score(one.iou)}. {name}"
        return Photo(images, text, f"{rank}: Dice {score(one.dice)}")

    ranked = [one for one in scored if one.dice is not None and one.prediction]
    ranked.sort(key=lambda one: -(one.dice or 0.0))
    gallery = Gallery()
    # Of one or two masks there is no middle, and of one no worst.
    middle = len(ranked) // 2
    for rank, place, least in (("Best", 0, 1), ("Median", middle, 3), ("Worst", -1, 2)):
        if len(ranked) >= least:
            gallery.add(draw, rank, ranked[place])
    return {"gallery": gallery} if ranked else None


def _counts(run: RunContents) -> Shown:
    # A photo is a clip of one frame: it has no course over time.
    courses = [(clip, rows) for clip, rows in run.counts.items() if len(rows["frame_index"]) > 1]
    plots = [(clip, _count_plots(clip, rows)) for clip, rows in courses[:_PLOTTED]]
    # Columns that a table of an earlier version, or of a run without a known scale, lacks.
    later = {"count_smooth": "Smoothed, mean (interval)", "density": "per m²"}
    optional = {
        name: title
        for name, title in later.items()
        if any(known(rows, name) for rows in run.counts.values())
    }
    content = {"plots": plots, "courses": len(courses), "clips": run.counts, "optional": optional}
    return content if run.counts else None


def _count_plots(clip: str, rows: Columns) -> list[Plot | None]:
    (across,), x_label = time_axis([rows])
    lines, text = [Series("count", across, column(rows, "count"))], ""
    if known(rows, "count_smooth"):
        # Below the count with its interval stands what was found frame by frame.
        smooth, low, high = (column(rows, f"count_{name}") for name in ("smooth", "low", "high"))
        lines = [
            Series("found", across, column(rows, "count"), style="raw"),
            Series("smoothed", across, smooth, low, high, style="s0"),
        ]
        text = "; smoothed with its interval, and found in each frame"
    shares = [Series("coverage", across, [100 * share for share in column(rows, "coverage")])]
    over = "over time" if x_label == "time, s" else "frame by frame"
    plots = []
    for drawn, title in ((lines, "Count"), (shares, "Coverage, % of the frame")):
        heading = f"{title}, {over}{text if drawn is lines else ''}"
        plot = line_plot(drawn, title=f"{title}, {clip}", x_label=x_label, y_limits=(0.0, None))
        plots.append(plot and replace(plot, title=heading))
    return plots


def time_axis(clips: Sequence[Columns]) -> tuple[list[list[float]], str]:
    """Places of the frames of clips on a common axis, and its name: time if all is known."""
    timed = all(len(known(rows, "time_s")) == len(rows["frame_index"]) for rows in clips)
    name = "time_s" if timed else "frame_index"
    return [rows[name] for rows in clips], "time, s" if timed else "frame"


def _film(run: RunContents, settings: ReportSettings) -> Shown:
    shown, width = settings.film_frames, 2 * settings.picture_width // 3
    clips = list(run.counts)[:_PLOTTED] if shown else []
    each = max(1, shown // max(1, len(clips)))
    gallery, masks_only = Gallery(), False

    def draw(path: Path, words: str, caption: str) -> Photo:
        return Photo([(plain(path, width), words)], caption)

    for clip in clips:
        masks = run.frame_masks.get(clip, [])
        if clip in run.videos:
            _add_film(gallery, run, clip, spread(len(run.counts[clip]["frame_index"]), each), width)
        elif masks and not run.overlays:
            masks_only = True
            for index in spread(len(masks), each):
                words = f"Predicted mask {masks[index].name}, objects in white"
                gallery.add(draw, masks[index], words, masks[index].name)
    for index in spread(len(run.overlays), shown):
        name = run.overlays[index].stem
        words = f"Photo {name} with predicted objects coloured"
        gallery.add(draw, run.overlays[index], words, name)
    if not (gallery.photos or gallery.notes):
        return None
    return {"gallery": gallery, "masks_only": masks_only}


def _add_film(
    gallery: Gallery, run: RunContents, clip: str, places: Sequence[int], width: int
) -> None:
    # The overlay video has one frame a row, whatever the first frame index is.
    video, rows = run.videos[clip], run.counts[clip]
    try:
        frames = film(video, places, width)
    except MediaError as error:
        gallery.notes += map(str, error.faults)
        return
    for place in places:
        if place not in frames:
            gallery.notes.append(f"{video.name}: frame {place} is not in the overlay video")
            continue
        index = f"{rows['frame_index'][place]:.0f}"
        parts = [f"frame {index}"]
        if math.isfinite(time := column(rows, "time_s")[place]):
            parts.append(f"{significant(time)} s")
        if math.isfinite(count := column(rows, "count")[place]):
            parts.append(f"count {count_text(count)}")
        words = f"Frame {index} of {clip} with predicted objects coloured"
        gallery.photos.append(Photo([(frames[place], words)], ", ".join(parts)))


def _environment(metadata: dict[str, Any]) -> Shown:
    facts = {key: value for key, value in metadata.items() if key not in _SHOWN_ELSEWHERE}
    single = {key: value for key, value in facts.items() if not isinstance(value, dict)}
    # Only our own keys become words: packages and files keep their spelling.
    groups = {
        f"{key[:1].upper()}{key[1:].replace('_', ' ')}": value
        for key, value in facts.items()
        if isinstance(value, dict)
    }
    named = {"Training run": single, **groups}
    tables = [
        (name, [(key, _value(key, entry)) for key, entry in flat_items(group, ": ")])
        for name, group in named.items()
        if group
    ]
    return {"tables": tables} if tables else None


def _value(key: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        seconds = key.endswith(("seconds", "_s"))
        return duration(value) if seconds else significant(value, 4)
    if isinstance(value, list):
        return ", ".join(_value("", entry) for entry in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value('', entry)}" for name, entry in value.items()) or "none"
    return moment(str(value)) if key in ("started", "updated", "finished") else str(value)


def _command(run: RunContents) -> Shown:
    command = run.history.command or str(run.metadata.get("command") or "")
    seed = None if run.seed is None else _value("seed", run.seed)
    return {"command": command, "seed": seed} if command else None
