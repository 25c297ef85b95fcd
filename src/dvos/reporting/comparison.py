"""Several runs: the frames that they were scored on, and what their page shows, by section."""

import filecmp
import json
import math
import os
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dvos.config.scoring import ReportSettings
from dvos.config.strict_yaml import parse_yaml
from dvos.errors import FaultCollector, TableError, UsageError
from dvos.files import real_path
from dvos.reporting import contents
from dvos.reporting.contents import CURVES, MEASURES, ScoredMask, Shown, VideoPlace, time_axis
from dvos.reporting.figures import Plot, Series, line_plot
from dvos.reporting.gather import REMEDY, RunContents, check_run
from dvos.reporting.numbers import NOTHING, count_text, duration, moment, score, significant
from dvos.reporting.pictures import Gallery, Photo, compared, scored_frame, shrink

Cells = tuple[str, ...]  # a row of a table: its name and a text for each run
#: Clips with a plot of their own, and pictures of full size for which the page has room.
_PLOTTED, _LARGE = 4, 20
_DRAWS, _LEVEL, _SEED = 2000, 0.95, 123


class Run(NamedTuple):
    """One of the runs compared."""

    letter: str  # ``A`` for the first, to which the others are compared.
    name: str  # The end of its folder's path, as much as tells it from the others.
    contents: RunContents

    @property
    def label(self) -> str:
        """Letter and name, as in the names of lines."""
        return f"{self.letter} {self.name}"

    @property
    def style(self) -> str:
        """Of its lines: the same in every plot, also where another run has none."""
        return f"s{string.ascii_uppercase.index(self.letter)}"

    @property
    def facts(self) -> dict[str, str]:
        """What stands of it in the table of runs."""
        run = self.contents
        noted, values = run.metadata, run.scores.values
        network = contents.as_mapping(noted.get("network")) or noted
        parameters = contents.as_number(network.get("parameters"))
        size = f"{count_text(parameters)} parameters" if parameters else ""
        masks = count_text(values.get("masks"))
        if "masks" in values and values.get("missing"):
            masks += f", {count_text(values['missing'])} without prediction"
        return {
            "Folder": str(run.folder),
            "Finished": moment(run.history.finished or str(noted.get("updated") or NOTHING)),
            "Seed": NOTHING if run.seed is None else str(run.seed),
            "Network": ", ".join(filter(None, (str(network.get("name") or ""), size))) or NOTHING,
            "Epochs": count_text(contents.as_number(noted.get("epochs"))),
            "Masks scored": masks,
            "Validation Dice, best": score(max(contents.known(run.records, "dice"), default=None)),
        }

    @property
    def times(self) -> dict[str, str]:
        """How long its stages took."""
        run, noted = self.contents, self.contents.metadata
        seconds = contents.as_mapping(noted.get("seconds")) or {"training": noted.get("seconds")}
        speed = contents.as_number(noted.get("clips_per_second"))
        return {
            **{stage.name: duration(stage.seconds) for stage in run.history.stages},
            "Training alone": duration(contents.as_number(seconds.get("training"))),
            "Validation": duration(contents.as_number(seconds.get("validation"))),
            "Training clips a second": significant(speed),
        }


class Matched(NamedTuple):
    """A frame that a run was scored on, or several."""

    name: str  # Clip and frame, as far as needed to tell it from the others.
    clip: str  # Folder of its mask.
    masks: tuple[ScoredMask | None, ...]  # Its row in each run's table; None where there is none.

    @property
    def dice(self) -> list[float]:
        """Dice in each run; NaN where it has none."""
        found = (mask and mask.dice for mask in self.masks)
        return [math.nan if dice is None else dice for dice in found]

    @property
    def spread(self) -> float | None:
        """Greatest difference of Dice between two runs; None where fewer have one."""
        found = list(filter(math.isfinite, self.dice))
        return max(found) - min(found) if len(found) > 1 else None

    def differs(self, index: int, first: int) -> bool:
        """Whether run ``index`` has another truth than the ``first``; not where a file is gone."""
        one, other = self.masks[index], self.masks[first]
        return (
            one is not None
            and other is not None
            and real_path(one.mask) != real_path(other.mask)
            and os.path.isfile(one.mask)  # noqa: PTH113
            and os.path.isfile(other.mask)  # noqa: PTH113
            and not filecmp.cmp(one.mask, other.mask, shallow=False)
        )


class Paired(NamedTuple):
    """Difference of a run to another, over frames scored in both."""

    mean: float  # Mean difference of Dice.
    low: float | None  # Lower end of its 95 % interval; None for a single frame.
    high: float | None  # Upper end.
    unit: str  # What was drawn again: ``clip`` or ``frame``.
    units: int  # How many of them there were.
    frames: int  # Frames compared.
    above: int  # Frames on which the run is above the other.
    below: int  # Frames on which it is below.


def gather_runs(folders: Sequence[Path], *, frames: Path | None = None) -> tuple[Run, ...]:
    """Read everything of several runs, all there and each named once."""
    with FaultCollector(UsageError) as usage:
        for place, folder in enumerate(folders):
            usage.collect(check_run, folder)
            if real_path(folder) in map(real_path, folders[:place]):
                usage.add(folder, "is named twice", remedy="name each run once")
    with FaultCollector(TableError) as faults:
        found = [faults.collect(RunContents, folder, frames=frames) for folder in folders]
    return name_runs([one for one in found if one])


def name_runs(found: Sequence[RunContents]) -> tuple[Run, ...]:
    """Name each run by the end of its folder's path."""
    paths = [real_path(one.folder).parts for one in found]
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    return tuple(
        Run(letter, "/".join(path[-depth:]), one)
        for letter, path, one in zip(string.ascii_uppercase, paths, found, strict=False)
    )


def match_frames(runs: Sequence[Run]) -> list[Matched]:
    """The frames in the runs' tables, known by as much of the end of the truth's path as needed."""
    tables = [{real_path(mask.mask).parts: mask for mask in run.contents.scored} for run in runs]
    depth, most = 2, min((len(path) for table in tables for path in table), default=2)
    while depth < most and any(len({p[-depth:] for p in table}) < len(table) for table in tables):
        depth += 1
    rows = [{path[-depth:]: mask for path, mask in table.items()} for table in tables]
    return [
        Matched(
            "/".join((*key[:-1], Path(key[-1]).stem)), key[-2], tuple(row.get(key) for row in rows)
        )
        for key in dict.fromkeys(key for row in rows for key in row)
    ]


def paired_difference(frames: Sequence[Matched], index: int, first: int = 0) -> Paired:
    """Compare run ``index`` with the ``first``, on at least one frame, with a Dice in both.

    The interval is a percentile bootstrap of the paired differences (Efron 1979), by a fixed seed.
    Frames of a clip resemble each other, so whole clips are drawn, if there are several.
    """
    steps = np.array([one.dice[index] - one.dice[first] for one in frames])
    clips = np.unique([one.clip for one in frames], return_inverse=True)[1]
    several = int(clips.max()) > 0
    groups = clips if several else np.arange(len(steps))
    sums, sizes = np.bincount(groups, weights=steps), np.bincount(groups)
    low = high = None
    if len(sums) > 1:
        rng = np.random.default_rng(_SEED)
        draws = (rng.integers(0, len(sums), len(sums)) for _ in range(_DRAWS))
        means = [sums[chosen].sum() / sizes[chosen].sum() for chosen in draws]
        low, high = map(float, np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]))
    basis = ("clip" if several else "frame", len(sums), len(steps))
    return Paired(float(steps.mean()), low, high, *basis, sum(steps > 0), sum(steps < 0))


def compared_sections(runs: Sequence[Run], settings: ReportSettings) -> dict[str, Shown]:
    """The content of each section; None where the runs, at least two, have nothing for it."""
    frames = match_frames(runs)
    scored = [one for one in frames if one.spread is not None]
    times = _rows([run.times for run in runs])
    with FaultCollector(TableError) as faults:
        return {
            "runs": {"runs": runs, "rows": _rows([run.facts for run in runs])},
            "figures": _figures(runs, frames),
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


def _figures(runs: Sequence[Run], frames: Sequence[Matched]) -> Shown:
    found = [contents.known_figures(run.contents.scores) for run in runs]
    figured = [index for index, one in enumerate(found) if one]
    apart = [index for index in figured[1:] if not _is_alike(frames, index, figured[0])]
    rows = []
    for measure in MEASURES:
        cells = [one.get(measure) for one in found]
        if values := [(cell[0], index) for index, cell in enumerate(cells) if cell]:
            # Equal to the last digit shown is equal: neither is marked.
            (best, index), *others = sorted(values, reverse=not measure.lower)
            marked = others and not apart and measure.text(best) != measure.text(others[0][0])
            rows.append((measure, cells, index if marked else None))
    bases: dict[str, list[str]] = {}
    for run in runs:
        if ends := run.contents.scores.intervals.get("pooled_dice"):
            bases.setdefault(ends.words(), []).append(run.letter)
    base = runs[figured[0]].letter if figured else None
    shown = {"runs": runs, "rows": rows, "bases": bases, "base": base, "apart": apart}
    return shown if rows else None


def _is_alike(frames: Sequence[Matched], index: int, first: int) -> bool:
    # Whether two runs are known to be scored on the same frames, with the same truth.
    there = [(one.masks[index] is not None, one.masks[first] is not None) for one in frames]
    same = (True, True) in there and all(one == other for one, other in there)
    return same and not any(one.differs(index, first) for one in frames)


def _frame_by_frame(runs: Sequence[Run], scored: Sequence[Matched]) -> Shown:
    if not scored:
        return None
    across = [float(index + 1) for index in range(len(scored))]
    dices = list(zip(*(one.dice for one in scored), strict=True))
    lines = [
        Series(run.label, across, dice, style=run.style)
        for run, dice in zip(runs, dices, strict=True)
        if any(map(math.isfinite, dice))
    ]
    title = "Dice of each frame, in the order of the table of scores"
    drawn = line_plot(lines, title=title, x_label="frame", whole_x=True)
    first = next(k for k, dice in enumerate(dices) if any(map(math.isfinite, dice)))
    pairs, apart = [], []
    for k, run in enumerate(runs):
        both = [one for one in scored if math.isfinite(one.dice[k] + one.dice[first])]
        if k != first and both:
            pairs.append((run, paired_difference(both, k, first)))
        elif k != first:
            apart.append(run.letter)
    return {
        "first": runs[first].letter,
        "pairs": pairs,
        "apart": apart,
        "unlike": sum(any(one.differs(k, first) for k in range(len(runs))) for one in scored),
        "frames": len(scored),
        "plots": [drawn] if len(scored) > 2 else [],
    }


def _curves(runs: Sequence[Run]) -> Shown:
    plots: list[Plot] = []
    for title, name in CURVES.items():
        lines = [
            Series(run.label, records["epoch"], records[name], style=run.style)
            for run in runs
            if contents.known(records := run.contents.records, name)
        ]
        if drawn := line_plot(lines, title=title, x_label="epoch", whole_x=True):
            plots.append(drawn)
    return {"plots": plots} if plots else None


def _frames(runs: Sequence[Run], scored: Sequence[Matched], settings: ReportSettings) -> Shown:
    chosen = sorted(scored, key=lambda one: -(one.spread or 0.0))[: settings.compared_frames]
    # The page of six runs is no larger than that of one.
    share = _LARGE / max(1, len(chosen) * (len(runs) + 1))
    side = round(settings.picture_width * min(1.0, share**0.5))

    def draw_plain(one: Matched, image: Path | VideoPlace, read: list[Any]) -> Photo:
        # Read once for all runs: to find a frame in a video, all before it are decoded.
        read.append(scored_frame(image))
        return Photo([(shrink(read[0], side), f"{one.name}, as it is")], "the frame as it is")

    def draw_judged(one: Matched, run: Run, mask: ScoredMask, read: list[Any]) -> Photo:
        assert mask.prediction is not None  # those without one are noted instead
        image, void = read[0] if read else None, run.contents.scores.void
        judged = compared(image, mask.mask, mask.prediction, side, void)[1]
        words = f"{one.name} in run {run.letter}: hits, misses and false alarms coloured"
        return Photo([(judged, words)], f", {run.name}", f"{run.letter}: Dice {score(mask.dice)}")

    shown = []
    for one in chosen:
        gallery, read = Gallery(), list[Any]()
        for image in [mask.image for mask in one.masks if mask and mask.image][:1]:
            gallery.add(draw_plain, one, image, read)
        for run, mask in zip(runs, one.masks, strict=True):
            if mask is None:
                continue
            if mask.prediction is None:
                gallery.notes.append(f"{run.label}: has no prediction of {one.name}")
            else:
                gallery.add(draw_judged, one, run, mask, read)
        shown.append((one, gallery))
    return {"frames": shown} if shown else None


def _counts(runs: Sequence[Run]) -> Shown:
    plots: list[tuple[str, Plot | None]] = []
    compared_clips = 0
    for clip in dict.fromkeys(clip for run in runs for clip in run.contents.counts):
        clips = [(run, run.contents.counts.get(clip, {})) for run in runs]
        courses = [one for one in clips if len(contents.known(one[1], "frame_index")) > 1]
        courses = [one for one in courses if contents.known(one[1], "count")]
        compared_clips += len(courses) > 1
        if len(courses) < 2 or compared_clips > _PLOTTED:
            continue
        across, x_label = time_axis([rows for _, rows in courses])
        lines = []
        for (run, rows), places in zip(courses, across, strict=True):
            values, low, high = contents.column(rows, "count"), [], []
            if contents.known(rows, "count_smooth"):
                names = ("count_smooth", "count_low", "count_high")
                values, low, high = (contents.column(rows, name) for name in names)
            lines.append(Series(run.label, places, values, low, high, style=run.style))
        drawn = line_plot(lines, title=f"Count, {clip}", x_label=x_label, y_limits=(0.0, None))
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
            flat = {key: _text(entry) for key, entry in contents.flat_items(value) if key != "out"}
            found["train" if name == "config.yaml" else stage] = flat
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _environment(runs: Sequence[Run]) -> Shown:
    tables = []
    for key, caption in (
        ("hardware", "Hardware"),
        ("versions", "Software versions that differ"),
        ("data", "Data with another fingerprint"),
    ):
        noted = [contents.as_mapping(run.contents.metadata.get(key)) for run in runs]
        if key == "data":  # known by their file's name: each run has them in a folder of its own
            noted = [{Path(name).name: value for name, value in one.items()} for one in noted]
        texts = [{n: "none" if v is None else _text(v) for n, v in one.items()} for one in noted]
        rows = _rows(texts)
        unlike, alike = (rows, []) if key == "hardware" else _split(rows)
        if rows:
            tables.append((key, caption, unlike, [row[:2] for row in alike]))
    return {"runs": runs, "tables": tables} if tables else None
