"""What the page on several runs shows, section by section of ``templates/comparison.html``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvos.config.scoring import ReportSettings
from dvos.config.strict_yaml import parse_yaml
from dvos.errors import FaultCollector, TableError
from dvos.reporting.contents import (
    MEASURES,
    ScoredMask,
    Shown,
    VideoPlace,
    as_mapping,
    as_number,
    column,
    flat_items,
    known,
    known_figures,
)
from dvos.reporting.figures import Plot, Series, line_plot
from dvos.reporting.gather import REMEDY
from dvos.reporting.matching import Matched, Run, match_frames, paired_difference
from dvos.reporting.numbers import NOTHING, count_text, duration, moment, score, significant
from dvos.reporting.pictures import Gallery, Photo, compared, scored_frame, shrink
from dvos.reporting.single import CURVES, time_axis

#: A row of a table: its name and a text for each run.
Cells = tuple[str, ...]
#: Clips with a plot of their own.
_PLOTTED = 4


def compared_sections(runs: Sequence[Run], settings: ReportSettings) -> dict[str, Shown]:
    """The content of each section; None where the runs, at least two, have nothing for it."""
    matched = match_frames(runs)
    scored = [one for one in matched if one.complete]
    times = _rows([_times(run) for run in runs])
    with FaultCollector(TableError) as faults:
        return {
            "runs": {"runs": runs, "rows": _rows([_facts(run) for run in runs])},
            "figures": _figures(runs),
            "frame-by-frame": _frame_by_frame(runs, scored),
            "curves": _curves(runs),
            "frames": _frames(runs, scored, settings),
            "counts": _counts(runs),
            "settings": _settings(runs, faults),
            "times": {"runs": runs, "rows": times} if times else None,
            "environment": _environment(runs),
        }


def _rows(columns: Sequence[dict[str, str]]) -> list[Cells]:
    # A row for each entry that at least one run has, in the order in which they are met.
    names = dict.fromkeys(name for one in columns for name in one)
    rows = [(name, *(one.get(name, NOTHING) for one in columns)) for name in names]
    return [row for row in rows if any(cell != NOTHING for cell in row[1:])]


def _split(rows: Sequence[Cells]) -> tuple[list[Cells], list[Cells]]:
    # Those in which the runs differ, and the others.
    unlike = [row for row in rows if len(set(row[1:])) > 1]
    return unlike, [row for row in rows if row not in unlike]


def _facts(run: Run) -> dict[str, str]:
    noted, values = run.contents.metadata, run.contents.scores.values
    network = as_mapping(noted.get("network")) or noted
    parameters = as_number(network.get("parameters"))
    size = f"{count_text(parameters)} parameters" if parameters else ""
    masks = count_text(values.get("masks"))
    if "masks" in values and values.get("missing"):
        masks += f", {count_text(values['missing'])} without prediction"
    return {
        "Folder": str(run.contents.folder),
        "Finished": moment(run.contents.history.finished or str(noted.get("updated") or NOTHING)),
        "Seed": NOTHING if run.contents.seed is None else str(run.contents.seed),
        "Network": ", ".join(filter(None, (str(network.get("name") or ""), size))) or NOTHING,
        "Epochs": count_text(as_number(noted.get("epochs"))),
        "Masks scored": masks,
        "Validation Dice, best": score(max(known(run.contents.records, "dice"), default=None)),
    }


def _figures(runs: Sequence[Run]) -> Shown:
    found = [known_figures(run.contents.scores) for run in runs]
    rows = []
    for measure in MEASURES:
        cells = [one.get(measure) for one in found]
        values = [(cell[0], index) for index, cell in enumerate(cells) if cell]
        if values:
            # Equal to the last digit shown is equal: neither is marked.
            (best, index), *others = sorted(values, reverse=not measure.lower)
            marked = others and measure.text(best) != measure.text(others[0][0])
            rows.append((measure, cells, index if marked else None))
    bases: dict[str, list[str]] = {}
    for run in runs:
        if ends := run.contents.scores.intervals.get("pooled_dice"):
            bases.setdefault(ends.words(), []).append(run.letter)
    return {"runs": runs, "rows": rows, "bases": bases} if rows else None


def _frame_by_frame(runs: Sequence[Run], scored: Sequence[Matched]) -> Shown:
    if not scored:
        return None
    across = [float(index + 1) for index in range(len(scored))]
    dices = zip(*(one.dice for one in scored), strict=True)
    lines = [Series(run.label, across, dice) for run, dice in zip(runs, dices, strict=True)]
    title = "Dice of each frame, in the order of the table of scores"
    drawn = line_plot(lines, title=title, x_label="frame", whole_x=True)
    return {
        "pairs": [(run, paired_difference(scored, k)) for k, run in enumerate(runs) if k],
        "unlike": sum(one.differs for one in scored),
        "frames": len(scored),
        "plots": [drawn] if len(scored) > 2 else [],
    }


def _curves(runs: Sequence[Run]) -> Shown:
    plots: list[Plot] = []
    for title, name in CURVES.items():
        # The same style in every plot, also where a run has no such curve.
        lines = [
            Series(run.label, records["epoch"], records[name], style=f"s{index}")
            for index, run in enumerate(runs)
            if known(records := run.contents.records, name)
        ]
        if drawn := line_plot(lines, title=title, x_label="epoch", whole_x=True):
            plots.append(drawn)
    return {"plots": plots} if plots else None


def _frames(runs: Sequence[Run], scored: Sequence[Matched], settings: ReportSettings) -> Shown:
    width = settings.picture_width

    def draw_plain(one: Matched, image: Path | VideoPlace, read: list[Any]) -> Photo:
        # Read once for all runs: to find a frame in a video, all before it are decoded.
        read.append(scored_frame(image))
        words = f"{one.name}, as it is"
        return Photo([(shrink(read[0], width), words)], "the frame as it is")

    def draw_judged(one: Matched, run: Run, mask: ScoredMask, read: list[Any]) -> Photo:
        assert mask.prediction is not None  # those without one are noted instead
        image, void = read[0] if read else None, run.contents.scores.void
        judged = compared(image, mask.mask, mask.prediction, width, void)[1]
        words = f"{one.name} in run {run.letter}: hits, misses and false alarms coloured"
        text = f"{run.letter}: Dice {score(mask.dice)}"
        return Photo([(judged, words)], f", {run.name}", text)

    shown = []
    for one in sorted(scored, key=lambda one: -one.spread)[: settings.compared_frames]:
        gallery = Gallery()
        read: list[Any] = []
        image = next((mask.image for mask in one.masks if mask.image is not None), None)
        if image is not None:
            gallery.add(draw_plain, one, image, read)
        for run, mask in zip(runs, one.masks, strict=True):
            if mask.prediction is None:
                gallery.notes.append(f"{run.label}: has no prediction of {one.name}")
            else:
                gallery.add(draw_judged, one, run, mask, read)
        shown.append((one, gallery))
    return {"frames": shown} if shown else None


def _counts(runs: Sequence[Run]) -> Shown:
    plots: list[tuple[str, Plot | None]] = []
    compared_clips = 0
    for clip in runs[0].contents.counts:
        clips = [(index, run, run.contents.counts.get(clip, {})) for index, run in enumerate(runs)]
        courses = [one for one in clips if len(known(one[2], "frame_index")) > 1]
        courses = [one for one in courses if known(one[2], "count")]
        compared_clips += len(courses) > 1
        if len(courses) < 2 or compared_clips > _PLOTTED:
            continue
        across, x_label = time_axis([rows for _, _, rows in courses])
        lines = []
        for (index, run, rows), places in zip(courses, across, strict=True):
            values, low, high = column(rows, "count"), [], []
            if known(rows, "count_smooth"):
                names = ("count_smooth", "count_low", "count_high")
                values, low, high = (column(rows, name) for name in names)
            lines.append(Series(run.label, places, values, low, high, style=f"s{index}"))
        title = f"Count, {clip}"
        drawn = line_plot(lines, title=title, x_label=x_label, y_limits=(0.0, None))
        plots.append((clip, drawn))
    return {"clips": plots, "all": compared_clips} if plots else None


def _settings(runs: Sequence[Run], faults: FaultCollector) -> Shown:
    found = [_flat_settings(run, faults) for run in runs]
    common = [stage for stage in found[0] if all(stage in one for one in found)]
    split = {stage: _split(_rows([one[stage] for one in found])) for stage in common}
    shown = {
        "runs": runs,
        "tables": [(stage, unlike) for stage, (unlike, _) in split.items() if unlike],
        "same": sum(len(alike) for _, alike in split.values()),
        "alone": sorted({stage for one in found for stage in one} - set(common)),
    }
    return shown if common else None


def _flat_settings(run: Run, faults: FaultCollector) -> dict[str, dict[str, str]]:
    # By stage and dotted key, in the order of their files.
    found: dict[str, dict[str, str]] = {}
    for name, text in run.contents.settings.items():
        try:
            value = parse_yaml(text)
        except ValueError as error:
            faults.add(run.contents.folder / name, f"no YAML ({error})", remedy=REMEDY)
            continue
        # A run folder of a training is compared with the "train" of a whole demo.
        path = Path(name)
        stage = path.parts[0] if len(path.parts) > 1 else path.stem
        if isinstance(value, dict):
            flat = {key: _yaml_text(entry) for key, entry in flat_items(value) if key != "out"}
            found["train" if name == "config.yaml" else stage] = flat
    return found


def _yaml_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _times(run: Run) -> dict[str, str]:
    noted = run.contents.metadata
    seconds = as_mapping(noted.get("seconds")) or {"training": noted.get("seconds")}
    return {
        **{stage.name: duration(stage.seconds) for stage in run.contents.history.stages},
        "Training alone": duration(as_number(seconds.get("training"))),
        "Validation": duration(as_number(seconds.get("validation"))),
        "Training clips a second": significant(as_number(noted.get("clips_per_second"))),
    }


def _environment(runs: Sequence[Run]) -> Shown:
    tables = []
    for key, caption in (
        ("hardware", "Hardware"),
        ("versions", "Software versions that differ"),
        ("data", "Data with another fingerprint"),
    ):
        noted = [as_mapping(run.contents.metadata.get(key)) for run in runs]
        # Data are known by their file's name: each run has them in a folder of its own.
        found = [
            {
                Path(name).name if key == "data" else name: "none" if v is None else _yaml_text(v)
                for name, v in one.items()
            }
            for one in noted
        ]
        unlike, alike = _split(_rows(found))
        if key == "hardware":
            unlike, alike = _rows(found), []
        if unlike or alike:
            tables.append((key, caption, unlike, [row[:2] for row in alike]))
    return {"runs": runs, "tables": tables} if tables else None
