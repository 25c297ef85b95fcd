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
from dvos.reporting import pictures
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
from dvos.reporting.opening import mean_figures, opening_section
from dvos.reporting.pictures import Gallery, Photo, spread

#: Clips with plots and pictures of their own.
_PLOTTED = 4
#: Frames of a synthetic clip that are shown, as many as the network takes at once.
_CLIP_FRAMES = 5
#: Parts of ``run.json`` with a table of their own; in the later two keys are names.
_GROUPS = {
    "hardware": "Hardware",
    "versions": "Software versions",
    "data": "Fingerprints of the data",
}
_NAMES = ("versions", "data")
#: Longer tables are folded away.
_FOLDED = 24
#: Entries of ``run.json`` that have a section of their own.
_SHOWN_ELSEWHERE = ("clips_by_source", "command")


def run_sections(run: RunContents, settings: ReportSettings, page: Path) -> dict[str, Shown]:
    """The content of each section of the page; None where the run has nothing for it."""
    history = run.history.stages or run.settings
    # Links hold as long as page and run are moved together.
    linked = real_path(page).parent == real_path(run.folder)
    return {
        "results": opening_section(run),
        "run": {"run": run} if history else None,
        "stills": _stills(run, settings),
        "cutouts": _cutouts(run, settings),
        "clips": _clips(run, settings),
        "data-mix": _data_mix(run),
        "curves": _curves(run.records),
        "scores": _scores(run),
        "best-to-worst": _extremes(run, settings.picture_width),
        "counts": _counts(run),
        "followed": followed_section(run, settings),
        "film": _film(run, settings),
        "environment": _environment(run.metadata),
        "files": {"run": run, "linked": linked} if run.files else None,
        "reproduce": _command(run),
    }


def _shown(total: int, shown: int, noun: str) -> str:
    return plural(total, noun) if total <= shown else f"{shown} of {plural(total, noun)}"


def _stills(run: RunContents, settings: ReportSettings) -> Shown:
    shown, gallery = settings.stills, Gallery()

    def draw(image: Path, mask: Path) -> Photo:
        words = f"Labelled still {image.name} with its objects outlined"
        drawn = pictures.outlined(image, mask, settings.picture_width, run.scores.void)
        return Photo([(drawn, words)], image.name)

    for index in spread(len(run.stills), shown):
        gallery.add(draw, *run.stills[index])
    text = _shown(len(run.stills), shown, "still")
    return {"gallery": gallery, "shown": text} if run.stills and shown else None


def _cutouts(run: RunContents, settings: ReportSettings) -> Shown:
    shown, gallery = settings.sprites, Gallery()

    def draw(name: str, paths: Sequence[Path]) -> Photo:
        chosen = [paths[index] for index in spread(len(paths), shown)]
        words = f"Sheet of {len(chosen)} {name}s on grey"
        drawn = pictures.sheet(chosen, settings.picture_width)
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
        images = [(pictures.plain(frame.image, width), f"Synthetic frame {place}")]
        if frame.mask is not None:
            words = f"Frame {place} with its labelled objects coloured"
            images.append((pictures.tinted(frame.image, frame.mask, width), words))
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


#: Curves of ``records.csv`` that runs are compared by.
CURVES = {
    "Validation Dice": "dice",
    "Validation loss": "val_loss",
    "Training loss": "train_loss",
    "Learning rate": "lr",
}


def _curves(records: Columns) -> Shown:
    if not known(records, "epoch") or sum(1 for name in records if known(records, name)) < 2:
        return None

    def draw(title: str, names: dict[str, str], high: float | None = None) -> Plot | None:
        lines = [
            Series(label, records["epoch"], records[name])
            for name, label in names.items()
            if known(records, name)
        ]
        low = None if high or any(value < 0 for line in lines for value in line.y) else 0.0
        return line_plot(lines, title=title, x_label="epoch", y_limits=(low, high), whole_x=True)

    parts = [name for name in records if name.startswith("train_") and name != "train_loss"]
    plots = [
        draw("Loss", {"train_loss": "training", "val_loss": "validation"}),
        draw("Parts of the training loss", {x: x[6:].replace("_", " ") for x in parts}),
        draw("Validation scores", {"dice": "Dice", "iou": "IoU"}, 1.0),
        draw("Learning rate", {"lr": "learning rate"}),
    ]
    text = plural(len(known(records, "epoch")), "epoch")
    if seconds := known(records, "seconds"):
        text += f" in {duration(sum(seconds))}"
    pairs = zip(column(records, "dice"), records["epoch"], strict=True)
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


def _extremes(run: RunContents, width: int) -> Shown:
    def draw(rank: str, one: ScoredMask) -> Photo:
        assert one.prediction is not None  # those without one are not ranked
        image = None if one.image is None else pictures.scored_frame(one.image)
        frame, judged = pictures.compared(image, one.mask, one.prediction, width, run.scores.void)
        name = one.image.name if isinstance(one.image, Path) else one.mask.stem
        images = [(judged, f"{rank} frame, {name}: hits, misses and false alarms coloured")]
        if frame is not None:
            images.insert(0, (frame, f"{rank} frame, {name}, as it is"))
        text = f", IoU {score(one.iou)}. {name}"
        return Photo(images, text, f"{rank}: Dice {score(one.dice)}")

    ranked = [one for one in run.scored if one.dice is not None and one.prediction]
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
    content["means"] = list(mean_figures(run))
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
        return Photo([(pictures.plain(path, width), words)], caption)

    for clip in clips:
        masks = run.frame_masks.get(clip, [])
        if clip in run.videos:
            # The overlay video has one frame a row, whatever the first frame index is.
            places = spread(len(run.counts[clip]["frame_index"]), each)
            try:
                frames = pictures.film(run.videos[clip], places, width)
            except MediaError as error:
                gallery.notes += map(str, error.faults)
                continue
            for place in places:
                _add_frame(gallery, run, clip, place, frames.get(place))
        elif masks and not run.overlays:
            masks_only = True
            for path in (masks[index] for index in spread(len(masks), each)):
                gallery.add(draw, path, f"Predicted mask {path.name}, objects in white", path.name)
    for path in (run.overlays[index] for index in spread(len(run.overlays), shown)):
        gallery.add(draw, path, f"Photo {path.stem} with predicted objects coloured", path.stem)
    filled = gallery.photos or gallery.notes
    return {"gallery": gallery, "masks_only": masks_only} if filled else None


def _add_frame(
    gallery: Gallery, run: RunContents, clip: str, place: int, frame: pictures.UInt8 | None
) -> None:
    if frame is None:
        name = run.videos[clip].name
        gallery.notes.append(f"{name}: frame {place} is not in the overlay video")
        return
    time, count = (column(run.counts[clip], name)[place] for name in ("time_s", "count"))
    index = f"{run.counts[clip]['frame_index'][place]:.0f}"
    parts = [f"frame {index}"]
    parts += [f"{significant(time)} s"] if math.isfinite(time) else []
    parts += [f"count {count_text(count)}"] if math.isfinite(count) else []
    words = f"Frame {index} of {clip} with predicted objects coloured"
    gallery.photos.append(Photo([(frame, words)], ", ".join(parts)))


def _environment(metadata: dict[str, Any]) -> Shown:
    facts = {key: value for key, value in metadata.items() if key not in _SHOWN_ELSEWHERE}
    groups = {key: facts.pop(key) for key in _GROUPS if isinstance(facts.get(key), dict)}
    tables = []
    for key, group in {"training run": facts, **groups}.items():
        rows = [(name, _value(name, entry)) for name, entry in flat_items(group, ": ")]
        if key not in _NAMES:
            rows = [(_words(name), text) for name, text in rows]
        if rows:
            # Hashes, and hundreds of entries, are for looking up, not for reading through.
            folded = key == "data" or len(rows) > _FOLDED
            tables.append((_GROUPS.get(key, _words(key)), folded, rows))
    return {"tables": tables} if tables else None


def _words(key: str) -> str:
    return f"{key[:1].upper()}{key[1:].replace('_', ' ')}"


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
