"""``dvos report``: one self-contained HTML page about a run, or about several side by side.

Texts are escaped by the templates; only the plots' drawings are markup already.
"""

import math
import shlex
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from dvos.config.scoring import ReportSettings
from dvos.errors import MediaError
from dvos.files import read_bytes, real_path, refuse_foreign, write_bytes
from dvos.reporting import contents, numbers, shown
from dvos.reporting.comparison import compared_sections, gather_runs
from dvos.reporting.contents import Columns, Shown, as_mapping, as_number, column, known, time_axis
from dvos.reporting.figures import HEIGHT, WIDTH, Plot, Series, histogram, line_plot
from dvos.reporting.gather import RunContents
from dvos.reporting.numbers import count_text, duration, plural, significant, span
from dvos.reporting.pictures import FALSE_ALARM, HIT, MISS, data_uri, moving

_SUBJECT = "Dense-pattern video object segmentation"  # stands in the heading of every report
_HEAD = 2**16  # bytes in which that is, style included
#: Parts of ``run.json`` with a table of their own; in the later two keys are names.
_GROUPS = {
    "hardware": "Hardware",
    "versions": "Software versions",
    "data": "Fingerprints of the data",
}
_NAMES = ("versions", "data")
_FOLDED = 24  # longer tables are folded away
#: Entries of ``run.json`` that have a section of their own.
_SHOWN_ELSEWHERE = ("clips_by_source", "command")
#: Figures that the page opens with, and plots whose totals are told beside that of all.
_HEADLINE, _MOST_PLOTS = 3, 8
#: The scores that say most of how far masks and counts can be trusted.
_JUDGED = {
    "pooled_dice": "overlap of masks and truth: 1 is perfect, 0 is none",
    "count_mae": "so many objects a frame the count is off, on average",
    "instance_f1": "single objects found, none invented: 1 is perfect",
}
Figure = tuple[str, str, str]  # of a figure its name, its value and what it means


def write_report(settings: ReportSettings) -> Path:
    """Write the report of a run, or of several runs side by side.

    The page asks for nothing from elsewhere, and the same run gives the same bytes. Parts that the
    run does not have are left out and named at the end of the page, and so are missing pictures.
    """
    title = settings.title
    if settings.compare:
        # The page on one run stays when runs are compared.
        page = _page(settings, "comparison.html")
        runs = gather_runs((settings.run, *settings.compare), frames=settings.frames)
        values: dict[str, object] = {
            "contents": compared_sections(runs, settings),
            "title": title or f"DVOS runs {', '.join(run.name for run in runs)}",
            "line": f"{_SUBJECT} · {len(runs)} runs side by side",
            "first": runs[0].letter,
            "version": None,
        }
    else:
        page = _page(settings, "report.html")
        run = RunContents(settings.run, frames=settings.frames)
        line = [_SUBJECT]
        if run.history.finished:
            line.append(f"finished {numbers.moment(run.history.finished)}")
        if run.history.seed is not None:
            line.append(f"seed {run.history.seed}")
        values = {
            "contents": run_sections(run, settings, page),
            "version": as_mapping(run.metadata.get("versions")).get("dvos"),
            "title": title or f"DVOS run {real_path(settings.run).name}",
            "line": " · ".join(line),
            "whose": "held-out data" if run.held_out else "target video",
        }
    template = "comparison.html" if settings.compare else "run.html"
    text = environment().get_template(template).render(values)
    # Names of files, and texts of JSON files, may hold what is no letter.
    write_bytes(page, text.encode("utf-8", "replace"))
    return page


def _page(settings: ReportSettings, name: str) -> Path:
    place = settings.out or settings.run
    page = place / name if settings.out is None or place.is_dir() else place
    if page.is_file() and _SUBJECT.encode() not in read_bytes(page, "a report", _HEAD):
        refuse_foreign([page], "dvos report")
    return page


@cache
def environment() -> Environment:
    """The templates, with what they call: numbers as texts, columns of tables, sizes, colours."""
    made = Environment(
        loader=PackageLoader("dvos.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals.update({name: f for name, f in vars(numbers).items() if not name.startswith("_")})
    made.globals.update(known=known, median=median, quote=quote, data_uri=data_uri)
    made.globals["plot_size"] = WIDTH, HEIGHT
    made.globals["verdicts"] = {"hit": HIT, "miss": MISS, "false alarm": FALSE_ALARM}
    return made


def run_sections(run: RunContents, settings: ReportSettings, page: Path) -> dict[str, Shown]:
    """The content of each section of the page; None where the run has nothing for it."""
    command = run.history.command or str(run.metadata.get("command") or "")
    seed = None if run.seed is None else _value("seed", run.seed)
    # Links hold as long as page and run are moved together.
    linked = real_path(page).parent == real_path(run.folder)
    return {
        "results": _opening(run),
        "run": {"run": run} if run.history.stages or run.settings else None,
        "stills": shown.stills(run, settings),
        "cutouts": shown.cutouts(run, settings),
        "clips": shown.clips(run, settings),
        "data-mix": _data_mix(run),
        "curves": _curves(run.records),
        "scores": _scores(run),
        "best-to-worst": shown.best_to_worst(run, settings),
        "counts": _counts(run),
        "followed": shown.followed(run, settings),
        "film": shown.film(run, settings),
        "environment": _environment(run.metadata),
        "files": {"run": run, "linked": linked} if run.files else None,
        "reproduce": {"command": command, "seed": seed} if command else None,
    }


def _opening(run: RunContents) -> Shown:
    """The overlay, three figures with their meaning, and what to beware of."""
    overall, found = run.scores.values, contents.known_figures(run.scores)
    means = [*_mean_figures(run)]
    if not (found or means or "masks" in overall):
        return None
    film, next_command = None, ""
    for video in [*run.videos.values()][:1]:
        with suppress(MediaError):  # told beside the frames of the video
            film = moving(video)
    for best in [str(one.path) for one in run.files if one.path.name == "best.safetensors"][:1]:
        words = ("dvos", "predict", "VIDEO", "--checkpoint", best, "--overlay")
        own = "\ndvos fit FOLDER --out RUN  # the same on photos and videos of your own"
        next_command = shlex.join(words) + (own if run.rendered else "")
    by_key = {one.key: (one, *figure) for one, figure in found.items()}
    judged = []
    for key in filter(by_key.__contains__, _JUDGED):
        measure, value, ends = by_key[key]
        meaning = _JUDGED[key] + (f"; {ends.note}" if ends else "")
        judged.append((measure.name, measure.text(value), meaning))
    # Distinct objects of the one clip that was followed, and of its plots.
    totals, clips = list[Figure](), [one for one in run.totals if not one.region]
    if len(clips) == 1:
        distinct, low, high = (count_text(clips[0].numbers[x]) for x in ("distinct", "low", "high"))
        text = f"in the whole of {clips[0].clip}, each counted once; 95 % interval {low} to {high}"
        plots = [f"{x.region} {count_text(x.numbers['distinct'])}" for x in run.totals if x.region]
        if 0 < len(plots) <= _MOST_PLOTS:
            text += f"; by plot: {', '.join(plots)}"
        totals = [("Objects in all", distinct, text)]
    return {
        "run": run,
        "moving": film,
        "figures": [*totals, *judged, *means][:_HEADLINE],
        "frames": _frames(run),
        "next": next_command,
        "overall": overall,
        # Its frames are alike: their spread says nothing of other videos.
        "one_video": len(run.scores.clips) == 1 and (overall.get("masks") or 0) > 1,
    }


def _mean_figures(run: RunContents) -> Iterator[Figure]:
    """Means over all frames, of which none is surer than a frame: they share their errors."""
    pooled = {
        name: [value for clip in run.counts.values() for value in known(clip, name)]
        for name in ("count", "count_smooth", "count_low", "count_high", "density", "coverage")
    }
    over, smooth = f"over {plural(_frames(run), 'frame')}", pooled["count_smooth"]
    if pooled["count"]:
        low, high = (count_text(numbers.mean(pooled[f"count_{end}"])) for end in ("low", "high"))
        text = f"{f'interval {low} to {high}; ' if smooth else ''}found: "
        text += f"{span(pooled['count'], count_text)} {over}"
        yield "Count, mean", count_text(numbers.mean(smooth or pooled["count"])), text
    for name, title, meaning, write in (
        ("density", "Density, mean", "objects a square metre", significant),
        ("coverage", "Coverage, mean", "of the picture", numbers.percent),
    ):
        if values := pooled[name]:
            yield title, write(numbers.mean(values)), f"{meaning}, {span(values, write)} {over}"


def _frames(run: RunContents) -> int:
    return sum(len(clip["frame_index"]) for clip in run.counts.values())


def _data_mix(run: RunContents) -> Shown:
    noted = as_mapping(run.metadata.get("clips_by_source"))
    clips_of = {name.replace("_", " "): as_number(clips) for name, clips in noted.items()}
    sources = {name: clips for name, clips in clips_of.items() if clips is not None and clips >= 0}
    total = sum(sources.values())
    return {"sources": sources, "total": total} if total else None


def _curves(records: Columns) -> Shown:
    if not known(records, "epoch") or sum(1 for name in records if known(records, name)) < 2:
        return None

    def draw(title: str, names: dict[str, str], high: float | None = None) -> Plot | None:
        there = {name: label for name, label in names.items() if known(records, name)}
        lines = [Series(label, records["epoch"], records[name]) for name, label in there.items()]
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
        text += f"; highest validation Dice {numbers.score(best)}, at epoch {count_text(epoch)}"
    return {"plots": plots, "summary": text}


def _scores(run: RunContents) -> Shown:
    if not run.scored:
        return None
    values = [one.dice for one in run.scored if one.dice is not None]
    title = "Dice of each scored mask: number of masks, and a tick for each"
    bins = 20 if len(values) > 40 else 10
    drawn = values and histogram(values, title=title, x_label="Dice", bins=bins)
    lowest = sorted(run.scored, key=lambda one: (one.dice is not None, one.dice or 0.0))
    figures = contents.known_figures(run.scores)
    return {"plots": [drawn], "lowest": lowest, "scores": run.scores, "figures": figures}


def _counts(run: RunContents) -> Shown:
    # A photo is a clip of one frame: it has no course over time.
    courses = [(clip, rows) for clip, rows in run.counts.items() if len(rows["frame_index"]) > 1]
    plots = [(clip, _count_plots(clip, rows)) for clip, rows in courses[: shown.PLOTTED]]
    # Columns that a table of an earlier version, or of a run without a known scale, lacks.
    later = {"count_smooth": "Smoothed, mean (interval)", "density": "per m²"}
    clips = run.counts.values()
    optional = {x: later[x] for x in later if any(known(rows, x) for rows in clips)}
    content = {"plots": plots, "courses": len(courses), "clips": run.counts, "optional": optional}
    content["means"] = list(_mean_figures(run))
    return content if run.counts else None


def _count_plots(clip: str, rows: Columns) -> list[Plot | None]:
    (across,), x_label = time_axis([rows])
    count, text = column(rows, "count"), ""
    lines = [Series("count", across, count)]
    if known(rows, "count_smooth"):
        # Below the count with its interval stands what was found frame by frame.
        smooth, low, high = (column(rows, f"count_{name}") for name in ("smooth", "low", "high"))
        smoothed = Series("smoothed", across, smooth, low, high, style="s0")
        lines = [Series("found", across, count, style="raw"), smoothed]
        text = "; smoothed with its interval, and found in each frame"
    shares = [Series("coverage", across, [100 * share for share in column(rows, "coverage")])]
    over = "over time" if x_label == "time, s" else "frame by frame"
    plots = []
    for drawn, title in ((lines, "Count"), (shares, "Coverage, % of the frame")):
        heading = f"{title}, {over}{text if drawn is lines else ''}"
        plot = line_plot(drawn, title=f"{title}, {clip}", x_label=x_label, y_limits=(0.0, None))
        plots.append(plot and plot._replace(title=heading))
    return plots


def _environment(metadata: dict[str, Any]) -> Shown:
    def words(key: str) -> str:
        return f"{key[:1].upper()}{key[1:].replace('_', ' ')}"

    facts = {key: value for key, value in metadata.items() if key not in _SHOWN_ELSEWHERE}
    groups = {key: facts.pop(key) for key in _GROUPS if isinstance(facts.get(key), dict)}
    tables = []
    for key, group in {"training run": facts, **groups}.items():
        rows = [(name, _value(name, entry)) for name, entry in contents.flat_items(group, ": ")]
        if key not in _NAMES:
            rows = [(words(name), text) for name, text in rows]
        if rows:
            # Hashes, and hundreds of entries, are for looking up, not for reading through.
            folded = key == "data" or len(rows) > _FOLDED
            tables.append((_GROUPS.get(key, words(key)), folded, rows))
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
    return numbers.moment(str(value)) if key in ("started", "updated", "finished") else str(value)
