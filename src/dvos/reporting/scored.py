"""Reads what ``dvos score`` wrote: overall figures and those of each mask."""

from __future__ import annotations

from pathlib import Path

from dvos.errors import FaultCollector
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.reporting.contents import Figures, Interval, ScoredMask, Scores
from dvos.reporting.frames import FrameIndex
from dvos.reporting.reading import REMEDY, as_number, read_object, read_rows

__all__ = ["read_scored_masks", "read_scores"]


def read_scores(path: Path, faults: FaultCollector) -> Scores | None:
    """The figures of ``scores.json``, of this version or an earlier one.

    Args:
        path: The file.
        faults: Takes what is wrong with it.

    Returns:
        The figures that it has; None where there is no such file.
    """
    value = read_object(path, faults)
    if value is None:
        return None
    whole = _figures(str(path), value, faults)
    domains = {
        name: _figures(f"{path}: domains.{name}", entry, faults)
        for name, entry in _mapping(value.get("domains")).items()
    }
    mean = value.get("domain_mean")
    return Scores(
        values=whole.values,
        intervals=whole.intervals,
        clips={name: _numbers(entry) for name, entry in _mapping(value.get("clips")).items()},
        counts=_numbers(value.get("counts")),
        instances=_numbers(value.get("instances")),
        domains=domains,
        domain_mean=_figures(f"{path}: domain_mean", mean, faults) if mean else None,
    )


def read_scored_masks(
    path: Path, index: FrameIndex, faults: FaultCollector
) -> tuple[ScoredMask, ...]:
    """The rows of ``scores.csv``, in file order; none where there is no such file.

    Args:
        path: The file.
        index: Finds the frames of rows that give only their names.
        faults: Takes what is wrong with it.
    """
    scored: list[ScoredMask] = []
    for row in read_rows(path, ("Image", "Mask", "Pred", "IoU", "Dice"), faults):
        # The closing row of means is no mask; it has its name in whichever column.
        if "Mean" in (row.cells[name].strip() for name in ("Image", "Mask", "Pred")):
            continue
        mask = row.path("Mask")
        if mask is None:
            faults.add(f"{path} row {row.number} column Mask", "empty", "the mask's path")
            continue
        iou, dice = row.number_in("IoU", faults), row.number_in("Dice", faults)
        image = row.path("Image")
        named = image is not None and image.suffix.lower() in IMAGE_SUFFIXES
        # Scored without frames, a row has only its frame's name there.
        frame = image if named else index.find(row.cells["Image"].strip())
        scored.append(ScoredMask(frame, mask, row.path("Pred"), iou, dice))
    return tuple(scored)


def _mapping(value: object) -> dict[str, object]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}


def _figures(where: str, value: object, faults: FaultCollector) -> Figures:
    intervals: dict[str, Interval] = {}
    for key, entry in _mapping(value).items():
        if key.endswith("_interval") and entry is not None:
            found = _interval(entry)
            if found is None:
                faults.add(f"{where}: {key}", f"{entry!r}", "numbers low and high", REMEDY)
            else:
                intervals[key.removesuffix("_interval")] = found
    return Figures(_numbers(value), intervals)


def _numbers(value: object) -> dict[str, float]:
    pairs = ((key, as_number(entry)) for key, entry in _mapping(value).items())
    return {key: number for key, number in pairs if number is not None}


def _interval(entry: object) -> Interval | None:
    if isinstance(entry, list) and len(entry) == 2:
        entry = {"low": entry[0], "high": entry[1]}
    if not isinstance(entry, dict):
        return None
    low, high = as_number(entry.get("low")), as_number(entry.get("high"))
    if low is None or high is None:
        return None
    units = as_number(entry.get("units"))
    return Interval(
        low,
        high,
        level=as_number(entry.get("level")),
        unit=str(entry.get("unit") or ""),
        units=None if units is None else int(units),
    )
