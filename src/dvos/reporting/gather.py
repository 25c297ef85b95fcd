"""Finds in a folder what a run wrote there and reads it into plain data.

Three kinds of folder are known: that of ``dvos demo``, with its parts in
subfolders; the run folder of ``dvos train``; and a folder of results of
``dvos predict``, ``evaluate`` or ``score``. They need no telling apart: each
part is looked for in its subfolder first and then in the folder itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dvos.errors import FaultCollector, TableError, UsageError
from dvos.media.layout import IMAGE_SUFFIXES, list_files, read_still_folder
from dvos.reporting.contents import (
    ClipFrame,
    CountRow,
    History,
    OutputFile,
    RunContents,
    Stage,
    Still,
)
from dvos.reporting.frames import FrameIndex
from dvos.reporting.reading import REMEDY, Row, as_number, read_object, read_rows, read_text
from dvos.reporting.scored import read_scored_masks, read_scores

__all__ = ["gather"]

#: Columns of counts.csv in the order of a CountRow; older tables lack the later ones.
_COUNT_CELLS = (
    *("time_s", "coverage", "count"),
    *("count_smooth", "count_low", "count_high", "density"),
)

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
    index = FrameIndex(frames or folder / "sample" / "validation")
    with FaultCollector(TableError) as faults:
        counts = _counts(predict / "counts.csv", faults)
        return RunContents(
            folder=folder,
            history=_history(folder / "stages.json", faults),
            scores=read_scores(scores / "scores.json", faults),
            scored=read_scored_masks(scores / "scores.csv", index, faults),
            facts=read_object(train / "run.json", faults) or {},
            records=_records(train / "records.csv", faults),
            counts=counts,
            held_out=held_out,
            videos=_videos(predict, counts),
            frame_masks=_frame_masks(predict, counts),
            overlays=tuple(list_files(predict / "overlays", IMAGE_SUFFIXES)),
            stills=_stills(folder, faults),
            cutouts=_images(_table(folder, "objects", "cutouts.csv"), faults),
            distractors=_images(_table(folder, "objects", "distractors.csv"), faults),
            clip_frames=_clip_frames(_table(folder, "clips", "clips.csv"), faults),
            settings=_settings(folder, faults),
            files=_files(folder, predict, counts),
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


def _history(path: Path, faults: FaultCollector) -> History | None:
    value = read_object(path, faults)
    if value is None:
        return None
    stages: list[Stage] = []
    listed = value.get("stages", [])
    for index, entry in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            faults.add(f"{path}: stages[{index}]", f"{entry!r}", "an object with a name", REMEDY)
            continue
        stages.append(Stage(entry["name"], as_number(entry.get("seconds")), _stage_note(entry)))
    seed = as_number(value.get("seed"))
    return History(
        stages=tuple(stages),
        started=str(value.get("started") or ""),
        finished=str(value.get("finished") or ""),
        command=str(value.get("command") or ""),
        seed=None if seed is None else int(seed),
    )


def _stage_note(entry: dict[str, Any]) -> str:
    starts = as_number(entry.get("starts")) or 1
    remarks = [
        str(entry.get("note") or ""),
        f"in {starts:.0f} starts" if starts > 1 else "",
        "done at an earlier start" if entry.get("skipped") is True else "",
        "not finished" if entry.get("finished") is False else "",
    ]
    return "; ".join(filter(None, remarks))


def _records(path: Path, faults: FaultCollector) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for row in read_rows(path, ("epoch",), faults):
        for name in row.cells:
            value = row.number_in(name, faults)
            columns.setdefault(name, []).append(math.nan if value is None else value)
    return columns


def _counts(path: Path, faults: FaultCollector) -> dict[str, list[CountRow]]:
    clips: dict[str, list[CountRow]] = {}
    for row in read_rows(path, ("clip", "frame_index", "coverage", "count"), faults):
        index = row.number_in("frame_index", faults)
        if index is None:
            if not row.cells["frame_index"].strip():
                faults.add(f"{path} row {row.number} column frame_index", "empty", "a number")
            continue
        clip = row.cells["clip"]
        cells = [row.number_in(name, faults) for name in _COUNT_CELLS]
        clips.setdefault(clip, []).append(CountRow(clip, int(index), *cells))
    return clips


def _inside(folder: Path, name: str) -> Path | None:
    # A clip's name comes from a table: "../.." must not lead out of the folder.
    place = folder / name
    return place if name and place.resolve().is_relative_to(folder.resolve()) else None


def _videos(predict: Path, clips: dict[str, list[CountRow]]) -> dict[str, Path]:
    places = {clip: _inside(predict, f"{clip}.mp4") for clip in clips}
    return {clip: place for clip, place in places.items() if place and place.is_file()}


def _frame_masks(predict: Path, clips: dict[str, list[CountRow]]) -> dict[str, list[Path]]:
    masks: dict[str, list[Path]] = {}
    for clip in clips:
        place = _inside(predict, clip)
        if place and place.is_dir():
            masks[clip] = sorted(place.glob("*.png"))
    return masks


def _stills(folder: Path, faults: FaultCollector) -> tuple[Still, ...]:
    table = _table(folder, "objects", "annotated.csv")
    if table.is_file():
        rows = read_rows(table, ("Image", "Mask"), faults)
        paths = [(row.path("Image"), row.path("Mask")) for row in rows]
        return tuple(Still(image, mask) for image, mask in paths if image and mask)
    return tuple(Still(*pair) for pair in read_still_folder(folder / "sample" / "annotated").pairs)


def _images(path: Path, faults: FaultCollector) -> tuple[Path, ...]:
    return tuple(
        image for row in read_rows(path, ("Image",), faults) if (image := row.path("Image"))
    )


def _clip_frames(path: Path, faults: FaultCollector) -> tuple[ClipFrame, ...]:
    rows = read_rows(path, ("VID", "FID", "Image", "Mask"), faults)
    frames = (_clip_frame(row, faults) for row in rows)
    return tuple(frame for frame in frames if frame)


def _clip_frame(row: Row, faults: FaultCollector) -> ClipFrame | None:
    image, fid = row.path("Image"), row.number_in("FID", faults)
    if image is None or fid is None:
        return None
    background = row.cells.get("BID", "").strip()
    clip = f"{background} / {row.cells['VID']}" if background else row.cells["VID"]
    return ClipFrame(clip, int(fid), image, row.path("Mask"))


def _settings(folder: Path, faults: FaultCollector) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/config.yaml"))):
        text = read_text(path, faults)
        if text is not None:
            found[path.relative_to(folder).as_posix()] = text
    return found


def _files(folder: Path, predict: Path, clips: dict[str, list[CountRow]]) -> tuple[OutputFile, ...]:
    found: dict[Path, OutputFile] = {}
    for name, purpose in _PURPOSES:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            parent = path.parent.name if path.parent != folder else ""
            # Subfolders of the sample's or of a clip tree bear the same names.
            if path.is_dir() and parent:
                continue
            if path.exists():
                found[path] = OutputFile(path, purpose, _size(path))
    for clip, path in _videos(predict, clips).items():
        found[path] = OutputFile(path, f"overlay video of {clip}", _size(path))
    return tuple(found[path] for path in sorted(found, key=lambda p: _order(p, folder)))


def _order(path: Path, folder: Path) -> tuple[int, str]:
    name = path.relative_to(folder).as_posix()
    return name.count("/"), name


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
