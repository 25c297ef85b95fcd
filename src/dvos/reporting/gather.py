"""Finds in a folder what a run wrote there and reads it into plain data.

``dvos demo`` has its parts in subfolders, ``train``, ``predict``, ``evaluate`` and ``score`` in the
folder itself: the subfolder is looked for first. Files that tables name need not be there.
"""

import math
import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from dvos.config.base import checked_void
from dvos.errors import FaultCollector, TableError, UsageError
from dvos.files import composed, find_path, is_plain_name, parse_json, stem_of
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_files, pair_stills
from dvos.reporting import contents
from dvos.reporting.contents import Columns, as_mapping, as_number
from dvos.tables import COUNT_COLUMNS, read_counts, split_address
from dvos.tables.cells import Cells, read_cells

#: Ends every fault of a run's own files.
REMEDY = "restore the file or run the stage that writes it again"

_DEEPEST = 50  # levels of lists and objects in a JSON file

_TOTALS = ("distinct", "low", "high", "area_m2", "per_m2")
_COUNTS = tuple(name for name in COUNT_COLUMNS if name not in ("clip", "frame"))

#: Frames of a video are named by its stem and their index.
_FRAME_NAME = re.compile(r"(.+)_(\d{6,})")

#: A folder with none of these is no run.
_MARKS = ("stages.json", "scores.json", "scores.csv", "records.csv", "run.json", "counts.csv")

_PURPOSES = (
    ("scores.json", "overall scores"),
    ("scores.csv", "scores of each mask"),
    ("scores_by_mask.csv", "all figures of each mask"),
    ("stages.json", "stages, times and command"),
    ("best.safetensors", "best checkpoint: weights with their configuration"),
    ("last.ckpt", "all that going on with the training needs"),
    ("run.json", "seed, versions, hardware, data hashes"),
    ("records.csv", "figures of each epoch"),
    ("config.yaml", "settings, defaults filled in"),
    ("losses.png", "loss curves"),
    ("counts.csv", "count and coverage of each frame"),
    ("totals.csv", "distinct objects of each clip"),
    ("demo.yaml", "settings of the demo"),
    ("annotated.csv", "table of labelled stills"),
    ("videos.csv", "table of background videos"),
    ("backgrounds.csv", "table of background stills"),
    ("frames.csv", "table of extracted frames"),
    ("cutouts.csv", "table of cutouts"),
    ("distractors.csv", "table of distractors"),
    ("clips.csv", "table of synthetic clips"),
    ("sample", "sample field: videos, stills and labels"),
    ("frames", "extracted frames"),
    ("objects", "cutouts and distractors"),
    ("clips", "synthetic clips"),
    ("train", "training run"),
    ("predict", "masks and overlay of the target video"),
    ("heldout", "masks of the held-out clips"),
)


def check_run(folder: Path) -> None:
    """Refuse, by a UsageError, what is no folder or holds nothing of a run."""
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "no such folder"
        raise UsageError.at(folder, found, "a run's folder", "name the folder of a finished run")
    parts = (folder, folder / "scores", folder / "train", folder / "predict")
    if not any((part / mark).is_file() for part in parts for mark in _MARKS):
        expected = f"at least one of {', '.join(_MARKS)}"
        remedy = "name the folder given to --out of dvos demo, train, predict, evaluate or score"
        raise UsageError.at(folder, "holds nothing to report", expected, remedy)


class RunContents:
    """Everything in a run's folder; what is not there is None or empty. Pictures are read later.

    ``frames`` is a video, or a folder of videos or images, with the scored frames of which the
    table gives only names; by default the sample field's. All faults of its files are told at once.
    """

    def __init__(self, folder: Path, *, frames: Path | None = None) -> None:
        check_run(folder)
        self.folder = folder
        scores = _part(folder, "scores", ("scores.json", "scores.csv"))
        train = _part(folder, "train", ("run.json", "records.csv"))
        predict = _part(folder, "predict", ("counts.csv",))
        #: Whether the predictions are of the held-out clips, as there is no target.
        self.held_out = not (predict / "counts.csv").is_file()
        self.predicted = predict = folder / "heldout" if self.held_out else predict
        frames = frames or folder / "sample" / "validation"
        with FaultCollector(TableError) as faults:
            self.history = _history(folder / "stages.json", faults)
            self.scores = _scores(scores / "scores.json", faults)
            self.scored = _scored_masks(scores / "scores.csv", frames, faults)
            #: ``run.json`` of the training: seed, versions, hardware, hashes.
            self.metadata = _object(train / "run.json", faults)
            self.records = _records(train / "records.csv", faults)
            #: ``counts.csv`` of the predicted videos, by clip in file order.
            self.counts = _counts(predict / "counts.csv", faults)
            places = _of_clips(predict, self.counts, ".mp4")
            #: Overlay videos, and the predicted masks in order, by clip.
            self.videos = {c: path for c, path in places.items() if os.path.isfile(path)}  # noqa: PTH113
            folders = _of_clips(predict, self.counts)
            self.frame_masks = {clip: list_files(path, {".png"}) for clip, path in folders.items()}
            #: Overlay pictures of predicted photos.
            self.overlays = list_files(predict / "overlays", IMAGE_SUFFIXES)
            self.stills = _stills(folder, faults)
            self.cutouts = _images(_table(folder, "objects", "cutouts.csv"), faults)
            self.distractors = _images(_table(folder, "objects", "distractors.csv"), faults)
            self.clips = _clips(_table(folder, "clips", "clips.csv"), faults)
            self.settings = _settings(folder, faults)
            self.files = _files(folder, self.videos)
            #: Whether the data are the program's own sample field.
            self.rendered = (folder / "sample").is_dir()
            rows = rows_of(predict / "totals.csv", ("clip", "region", *_TOTALS), faults)
            self.totals = [
                contents.Total(x.raw("clip"), x.raw("region"), {n: x.real(n) for n in _TOTALS})
                for x in rows
            ]
        noted = self.history.seed
        #: Of the run, else of its training; None where neither was noted.
        self.seed: object = self.metadata.get("seed") if noted is None else noted


def _part(folder: Path, name: str, marks: tuple[str, ...]) -> Path:
    inner = folder / name
    return inner if any((inner / mark).is_file() for mark in marks) else folder


def _table(folder: Path, part: str, name: str) -> Path:
    outer = folder / name
    return outer if outer.is_file() else folder / part / name


def _history(path: Path, faults: FaultCollector) -> contents.History:
    value = _object(path, faults)
    stages: list[contents.Stage] = []
    listed = value.get("stages", [])
    for index, entry in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            faults.add(f"{path}: stages[{index}]", f"{entry!r}", "an object with a name", REMEDY)
            continue
        starts = as_number(entry.get("starts")) or 1
        often = f"in {starts:.0f} starts" if starts > 1 else ""
        broken = "not finished" if entry.get("finished") is False else ""
        note = "; ".join(filter(None, (str(entry.get("note") or ""), often, broken)))
        stages.append(contents.Stage(entry["name"], as_number(entry.get("seconds")), note))
    told = {key: str(value.get(key) or "") for key in ("started", "finished", "command")}
    seed = as_number(value.get("seed"))
    return contents.History(tuple(stages), **told, seed=None if seed is None else int(seed))


def _records(path: Path, faults: FaultCollector) -> Columns:
    rows = rows_of(path, ("epoch",), faults)
    names = rows[0].cells if rows else ()
    return {name: [_nan_for_none(row.real(name)) for row in rows] for name in names}


def _counts(path: Path, faults: FaultCollector) -> dict[str, Columns]:
    clips: dict[str, Columns] = {}
    for row in (faults.collect(read_counts, path) if path.is_file() else None) or []:
        columns = clips.setdefault(row.clip, {name: [] for name in _COUNTS})
        for name, values in columns.items():
            values.append(_nan_for_none(getattr(row, name)))
    return clips


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _of_clips(predict: Path, clips: Iterable[str], suffix: str = "") -> dict[str, Path]:
    names = ((clip, f"{clip}{suffix}") for clip in clips if is_plain_name(clip))
    return {clip: find_path(predict, name) or predict / name for clip, name in names}


def _scores(path: Path, faults: FaultCollector) -> contents.Scores:
    value = _object(path, faults)
    whole, mean = _figures(str(path), value, faults), value.get("domain_mean")
    clips = [(name, _numbers(entry)) for name, entry in as_mapping(value.get("clips")).items()]
    domains = [
        (name, _figures(f"{path}: domains.{name}", entry, faults))
        for name, entry in as_mapping(value.get("domains")).items()
    ]
    try:
        void = checked_void(value.get("void"))
    except ValueError as error:
        faults.add(f"{path}: void", repr(value.get("void"))[:200], str(error), REMEDY)
        void = "auto"
    return contents.Scores(
        whole.values,
        whole.intervals,
        clips=dict(sorted(clips, key=lambda one: one[1].get("pooled_dice", 0.0))),
        counts=_numbers(value.get("counts")),
        instances=_numbers(value.get("instances")),
        domains=dict(sorted(domains, key=lambda one: one[1].values.get("pooled_dice", 0.0))),
        domain_mean=_figures(f"{path}: domain_mean", mean, faults) if mean else None,
        void=void,
    )


def _figures(where: str, value: object, faults: FaultCollector) -> contents.Figures:
    intervals: dict[str, contents.Interval] = {}
    for key, entry in as_mapping(value).items():
        if not key.endswith("_interval") or entry is None:
            continue
        parts = as_mapping(entry)
        names = ("low", "high", "level", "units")
        low, high, level, units = (as_number(parts.get(name)) for name in names)
        if low is None or high is None:
            faults.add(f"{where}: {key}", f"{entry!r}", "numbers low and high", REMEDY)
            continue
        unit, number = str(parts.get("unit") or ""), None if units is None else int(units)
        intervals[key.removesuffix("_interval")] = contents.Interval(low, high, level, unit, number)
    return contents.Figures(_numbers(value), intervals)


def _numbers(value: object) -> dict[str, float]:
    pairs = ((key, as_number(entry)) for key, entry in as_mapping(value).items())
    return {key: number for key, number in pairs if number is not None}


def _scored_masks(path: Path, frames: Path, faults: FaultCollector) -> list[contents.ScoredMask]:
    # Rows scored without frames give only names: of an image, or of a video and an index.
    paths = list_files(frames, IMAGE_SUFFIXES | VIDEO_SUFFIXES) if frames.is_dir() else [frames]
    paths = [one for one in paths if one.is_file()]
    images = {stem_of(one): one for one in paths if one.suffix.lower() in IMAGE_SUFFIXES}
    videos = {stem_of(one): one for one in paths if one.suffix.lower() in VIDEO_SUFFIXES}
    scored: list[contents.ScoredMask] = []
    for row in rows_of(path, ("Image", "Mask", "Pred", "IoU", "Dice"), faults):
        named = composed(row.text("Image", required=False))
        # The closing row of means is no mask; it has its name in whichever column.
        if "Mean" in (named, row.raw("Mask").strip(), row.raw("Pred").strip()):
            continue
        image, mask, prediction = (_place(path, row, name) for name in ("Image", "Mask", "Pred"))
        iou, dice = row.real("IoU"), row.real("Dice")
        if mask is None:
            if "Mask" not in row.bad:
                row.fault("Mask", "empty", "the mask's path")
            continue
        frame: Path | contents.VideoPlace | None = image
        if image is None or image.suffix.lower() not in IMAGE_SUFFIXES:
            frame = images.get(named)
            match = _FRAME_NAME.fullmatch(named)
            if frame is None and match and match[1] in videos:
                frame = contents.VideoPlace(videos[match[1]], int(match[2]))
        scored.append(contents.ScoredMask(frame, mask, prediction, iou, dice))
    return scored


def _stills(folder: Path, faults: FaultCollector) -> list[tuple[Path, Path]]:
    """Image and mask of each labelled still."""
    table = _table(folder, "objects", "annotated.csv")
    if not table.is_file():
        return pair_stills(folder / "sample" / "annotated", FaultCollector())
    rows = rows_of(table, ("Image", "Mask"), faults)
    pairs = [(_place(table, row, "Image"), _place(table, row, "Mask")) for row in rows]
    return [(image, mask) for image, mask in pairs if image and mask]


def _images(path: Path, faults: FaultCollector) -> list[Path]:
    rows = rows_of(path, ("Image",), faults)
    return [image for row in rows if (image := _place(path, row, "Image"))]


def _clips(path: Path, faults: FaultCollector) -> dict[str, list[contents.ClipFrame]]:
    """Frames of the synthetic clips that were stored, by clip, which its background names too."""
    clips: dict[str, list[contents.ClipFrame]] = {}
    for row in rows_of(path, ("VID", "FID", "Image", "Mask"), faults):
        image, fid = _place(path, row, "Image"), row.real("FID")
        if image is not None and fid is not None:
            name = " / ".join(filter(None, (row.text("BID", required=False), row.raw("VID"))))
            frame = contents.ClipFrame(int(fid), image, _place(path, row, "Mask"))
            clips.setdefault(name, []).append(frame)
    return clips


def _settings(folder: Path, faults: FaultCollector) -> dict[str, str]:
    """Text of each resolved settings file, by its name relative to the folder."""
    paths = (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/config.yaml")))
    texts = {path.relative_to(folder).as_posix(): _text(path, faults) for path in paths}
    return {name: text for name, text in texts.items() if text is not None}


def _files(folder: Path, videos: dict[str, Path]) -> list[contents.OutputFile]:
    found: dict[Path, str] = {}
    for name, purpose in _PURPOSES:
        # Subfolders of the sample's or of a clip tree bear the same names.
        inner = [path for path in sorted(folder.glob(f"*/{name}")) if not path.is_dir()]
        found.update((path, purpose) for path in (folder / name, *inner) if path.exists())
    found |= {path: f"overlay video of {clip}" for clip, path in videos.items()}
    ordered = sorted(found, key=lambda path: (len(path.parts), path.relative_to(folder).as_posix()))
    return [
        contents.OutputFile(path, found[path], path.stat().st_size if path.is_file() else None)
        for path in ordered
    ]


def rows_of(path: Path, columns: Sequence[str], faults: FaultCollector) -> list[Cells]:
    """Rows of a table with at least ``columns``; none where it does not exist or is faulty."""
    cells = read_cells(path, columns, faults, allow_empty=True, whole=True)
    return (faults.collect(lambda: [*cells]) if path.is_file() else None) or []


def _place(table: Path, cells: Cells, column: str) -> Path | None:
    """A path, beside its table or, as published ones have it, from here; None where it is empty."""
    text = cells.text(column, required=False)
    if "\0" in text:
        cells.fault(column, "holds a zero byte", "a path")
    if not text or "\0" in text:
        return None

    def is_there(path: Path) -> bool:
        # Unlike Path.exists, also an answer for names that the system refuses.
        return os.path.exists((split_address(path) or (path, 0))[0])  # noqa: PTH110

    beside, here = table.parent / text, Path(text)
    return here if not is_there(beside) and is_there(here) else beside


def _text(path: Path, faults: FaultCollector) -> str | None:
    """The text of a file; None where it does not exist or (a fault) is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        faults.add(path, f"cannot be read ({reason})", remedy=REMEDY)
        return None


def _object(path: Path, faults: FaultCollector) -> dict[str, Any]:
    """A JSON file that holds one object; empty where it does not exist or (a fault) does not."""
    text = _text(path, faults)
    if text is None:
        return {}
    try:
        value = parse_json(text)
    except ValueError as error:
        where = f"{path} line {error.lineno}" if isinstance(error, JSONDecodeError) else path
        reason = error.msg if isinstance(error, JSONDecodeError) else error
        faults.add(where, f"no JSON ({reason})", remedy=REMEDY)
        return {}
    if not isinstance(value, dict):
        faults.add(path, f"a JSON {type(value).__name__}", "a JSON object", REMEDY)
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        inside = [x.values() for x in level if isinstance(x, dict)]
        level = [*chain(*inside, *(x for x in level if isinstance(x, list)))]
    if level:
        faults.add(path, f"nested more than {_DEEPEST} deep", "a run's own file", REMEDY)
        return {}
    return as_mapping(value)
