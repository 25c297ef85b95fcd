"""Finds in a folder what a run wrote there and reads it into plain data.

Three kinds of folder are known: that of ``dvos demo``, with its parts in
subfolders; the run folder of ``dvos train``; and a folder of results of
``dvos predict``, ``evaluate`` or ``score``. They need no telling apart: each
part is looked for in its subfolder first and then in the folder itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from dvos.errors import FaultCollector, TableError, UsageError
from dvos.files import is_plain_name
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_files, pair_stills
from dvos.reporting.contents import (
    ClipFrame,
    Columns,
    Figures,
    History,
    Interval,
    OutputFile,
    RunContents,
    ScoredMask,
    Scores,
    Stage,
    VideoPlace,
)
from dvos.reporting.reading import (
    REMEDY,
    as_mapping,
    as_number,
    place,
    read_object,
    read_table,
    read_text,
)
from dvos.tables import COUNT_COLUMNS, read_counts

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


def gather(folder: Path, *, frames: Path | None = None) -> RunContents:
    """Read everything of a run but its pictures.

    Args:
        folder: The run's folder.
        frames: Video, or folder of videos or images, that holds the scored
            frames where the table gives only their names; None takes the
            sample field's.

    Returns:
        What was found; parts that are not there are None or empty.

    Raises:
        UsageError: If the folder does not exist or holds nothing of a run.
        TableError: With a fault for each thing wrong in its tables and JSON files.
    """
    _check_folder(folder)
    scores = _part(folder, "scores", ("scores.json", "scores.csv"))
    train = _part(folder, "train", ("run.json", "records.csv"))
    predict = _part(folder, "predict", ("counts.csv",))
    held_out = not (predict / "counts.csv").is_file()
    if held_out:
        predict = folder / "heldout"
    find_frame = _frame_finder(frames or folder / "sample" / "validation")
    with FaultCollector(TableError) as faults:
        counts = _counts(predict / "counts.csv", faults)
        videos = _of_clips(predict, counts, ".mp4")
        return RunContents(
            folder=folder,
            history=_history(folder / "stages.json", faults),
            scores=_scores(scores / "scores.json", faults),
            scored=_scored_masks(scores / "scores.csv", find_frame, faults),
            metadata=read_object(train / "run.json", faults),
            records=_records(train / "records.csv", faults),
            counts=counts,
            held_out=held_out,
            videos={clip: path for clip, path in videos.items() if path.is_file()},
            frame_masks={
                clip: list_files(path, {".png"})
                for clip, path in _of_clips(predict, counts).items()
            },
            overlays=tuple(list_files(predict / "overlays", IMAGE_SUFFIXES)),
            stills=_stills(folder, faults),
            cutouts=_images(_table(folder, "objects", "cutouts.csv"), faults),
            distractors=_images(_table(folder, "objects", "distractors.csv"), faults),
            clip_frames=_clip_frames(_table(folder, "clips", "clips.csv"), faults),
            settings=_settings(folder, faults),
            files=_files(folder, videos),
        )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "no such folder"
        raise UsageError.at(folder, found, "a run's folder", "name the folder of a finished run")
    places = (folder, folder / "scores", folder / "train", folder / "predict")
    if not any((place / mark).is_file() for place in places for mark in _MARKS):
        raise UsageError.at(
            folder,
            "holds nothing to report",
            f"at least one of {', '.join(_MARKS)}",
            "name the folder given to --out of dvos demo, train, predict, evaluate or score",
        )


def _part(folder: Path, name: str, marks: tuple[str, ...]) -> Path:
    inner = folder / name
    return inner if any((inner / mark).is_file() for mark in marks) else folder


def _table(folder: Path, part: str, name: str) -> Path:
    outer = folder / name
    return outer if outer.is_file() else folder / part / name


def _history(path: Path, faults: FaultCollector) -> History:
    value = read_object(path, faults)
    stages: list[Stage] = []
    listed = value.get("stages", [])
    for index, entry in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            faults.add(f"{path}: stages[{index}]", f"{entry!r}", "an object with a name", REMEDY)
            continue
        starts = as_number(entry.get("starts")) or 1
        remarks = [
            str(entry.get("note") or ""),
            f"in {starts:.0f} starts" if starts > 1 else "",
            "done at an earlier start" if entry.get("skipped") is True else "",
            "not finished" if entry.get("finished") is False else "",
        ]
        note = "; ".join(filter(None, remarks))
        stages.append(Stage(entry["name"], as_number(entry.get("seconds")), note))
    started, finished, command = (
        str(value.get(key) or "") for key in ("started", "finished", "command")
    )
    seed = as_number(value.get("seed"))
    return History(
        tuple(stages), started, finished, command, seed=None if seed is None else int(seed)
    )


def _records(path: Path, faults: FaultCollector) -> Columns:
    columns: Columns = {}
    for row in read_table(path, ("epoch",), faults):
        for name in row.columns:
            columns.setdefault(name, []).append(_nan_for_none(row.real(name)))
    return columns


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
    return {clip: predict / f"{clip}{suffix}" for clip in clips if is_plain_name(clip)}


def _scores(path: Path, faults: FaultCollector) -> Scores:
    value = read_object(path, faults)
    whole, mean = _figures(str(path), value, faults), value.get("domain_mean")
    clips = {name: _numbers(entry) for name, entry in as_mapping(value.get("clips")).items()}
    domains = {
        name: _figures(f"{path}: domains.{name}", entry, faults)
        for name, entry in as_mapping(value.get("domains")).items()
    }
    return Scores(
        whole.values,
        whole.intervals,
        clips=dict(sorted(clips.items(), key=lambda one: one[1].get("pooled_dice", 0.0))),
        counts=_numbers(value.get("counts")),
        instances=_numbers(value.get("instances")),
        domains=dict(
            sorted(domains.items(), key=lambda one: one[1].values.get("pooled_dice", 0.0))
        ),
        domain_mean=_figures(f"{path}: domain_mean", mean, faults) if mean else None,
    )


def _figures(where: str, value: object, faults: FaultCollector) -> Figures:
    intervals: dict[str, Interval] = {}
    for key, entry in as_mapping(value).items():
        if key.endswith("_interval") and entry is not None:
            found = _interval(entry)
            if found is None:
                faults.add(f"{where}: {key}", f"{entry!r}", "numbers low and high", REMEDY)
            else:
                intervals[key.removesuffix("_interval")] = found
    return Figures(_numbers(value), intervals)


def _numbers(value: object) -> dict[str, float]:
    pairs = ((key, as_number(entry)) for key, entry in as_mapping(value).items())
    return {key: number for key, number in pairs if number is not None}


def _interval(entry: object) -> Interval | None:
    if isinstance(entry, list) and len(entry) == 2:
        entry = {"low": entry[0], "high": entry[1]}
    parts = as_mapping(entry)
    low, high, level, units = (as_number(parts.get(k)) for k in ("low", "high", "level", "units"))
    if low is None or high is None:
        return None
    unit = str(parts.get("unit") or "")
    return Interval(low, high, level, unit, None if units is None else int(units))


def _frame_finder(place: Path) -> Callable[[str], Path | VideoPlace | None]:
    # Rows scored without frames give only names: of an image, or of a video and an index.
    paths = list_files(place, IMAGE_SUFFIXES | VIDEO_SUFFIXES) if place.is_dir() else [place]
    paths = [path for path in paths if path.is_file()]
    images = {path.stem: path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES}
    videos = {path.stem: path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES}

    def find(name: str) -> Path | VideoPlace | None:
        match = _FRAME_NAME.fullmatch(name)
        if name not in images and match and match[1] in videos:
            return VideoPlace(videos[match[1]], int(match[2]))
        return images.get(name)

    return find


def _scored_masks(
    path: Path, find_frame: Callable[[str], Path | VideoPlace | None], faults: FaultCollector
) -> tuple[ScoredMask, ...]:
    scored: list[ScoredMask] = []
    for row in read_table(path, ("Image", "Mask", "Pred", "IoU", "Dice"), faults):
        named = row.text("Image", required=False)
        # The closing row of means is no mask; it has its name in whichever column.
        if "Mean" in (named, row.raw("Mask").strip(), row.raw("Pred").strip()):
            continue
        image, mask, prediction = (place(path, row, name) for name in ("Image", "Mask", "Pred"))
        iou, dice = row.real("IoU"), row.real("Dice")
        if mask is None:
            row.fault("Mask", "empty", "the mask's path")
            continue
        is_file = image is not None and image.suffix.lower() in IMAGE_SUFFIXES
        frame = image if is_file else find_frame(named)
        scored.append(ScoredMask(frame, mask, prediction, iou, dice))
    return tuple(scored)


def _stills(folder: Path, faults: FaultCollector) -> tuple[tuple[Path, Path], ...]:
    table = _table(folder, "objects", "annotated.csv")
    if not table.is_file():
        return tuple(pair_stills(folder / "sample" / "annotated", FaultCollector()))
    rows = read_table(table, ("Image", "Mask"), faults)
    pairs = [(place(table, row, "Image"), place(table, row, "Mask")) for row in rows]
    return tuple((image, mask) for image, mask in pairs if image and mask)


def _images(path: Path, faults: FaultCollector) -> tuple[Path, ...]:
    rows = read_table(path, ("Image",), faults)
    return tuple(image for row in rows if (image := place(path, row, "Image")))


def _clip_frames(path: Path, faults: FaultCollector) -> tuple[ClipFrame, ...]:
    frames: list[ClipFrame] = []
    for row in read_table(path, ("VID", "FID", "Image", "Mask"), faults):
        image, fid = place(path, row, "Image"), row.real("FID")
        if image is not None and fid is not None:
            background = row.text("BID", required=False)
            clip = f"{background} / {row.raw('VID')}" if background else row.raw("VID")
            frames.append(ClipFrame(clip, int(fid), image, place(path, row, "Mask")))
    return tuple(frames)


def _settings(folder: Path, faults: FaultCollector) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/config.yaml"))):
        text = read_text(path, faults)
        if text is not None:
            found[path.relative_to(folder).as_posix()] = text
    return found


def _files(folder: Path, videos: dict[str, Path]) -> tuple[OutputFile, ...]:
    found: dict[Path, str] = {}
    for name, purpose in _PURPOSES:
        inner = sorted(folder.glob(f"*/{name}"))
        # Subfolders of the sample's or of a clip tree bear the same names.
        inner = [path for path in inner if not path.is_dir()]
        found.update((path, purpose) for path in (folder / name, *inner) if path.exists())
    found |= {path: f"overlay video of {clip}" for clip, path in videos.items() if path.is_file()}
    ordered = sorted(found, key=lambda path: (len(path.parts), path.relative_to(folder).as_posix()))
    return tuple(
        OutputFile(path, found[path], path.stat().st_size if path.is_file() else None)
        for path in ordered
    )
