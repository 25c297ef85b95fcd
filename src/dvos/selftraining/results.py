"""What a folder of pseudo-labels collects of all runs into it: tables for training, provenance."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dvos.config.base import values_affecting
from dvos.config.selftraining import PseudoLabelSettings
from dvos.files import file_digest, find_path, parse_json, write_json
from dvos.runner import Row
from dvos.selftraining.clip_job import ClipJob, LabelRow
from dvos.tables import rows_beside, write_rows

_log = logging.getLogger(__name__)

CLIP_TABLE, STILL_TABLE = "pseudo_labels.csv", "pseudo_stills.csv"
_COLUMNS = {
    CLIP_TABLE: ("VID", "FID", "Image", "Mask", "Label"),
    STILL_TABLE: ("Image", "Mask"),
}
PROVENANCE = "pseudo_labels.json"
_FORMAT = 1


class _OfClip(BaseModel):
    clip: str
    frames: list[LabelRow]


class _Provenance(BaseModel):
    """What is read of ``pseudo_labels.json``; there is more in it."""

    clips: list[_OfClip]


def write_results(
    settings: PseudoLabelSettings,
    jobs: Sequence[ClipJob],
    probe: dict[str, Any],
    order: Sequence[str],
) -> tuple[Path, dict[str, Any], dict[str, list[Row]]]:
    """Write the table for training and ``pseudo_labels.json``; clips of other runs stay in both.

    Clips of this input stand in its ``order``, whichever run labelled them, after those of others.
    Gives the table, the summary of the ``jobs`` of this run, and the rows of each clip that is
    labelled; ``probe`` is what is told of the feature probe.

    Raises:
        OutputError: If a file cannot be written.
        TableError: If the table there is none of labels.
    """
    from dvos.training.records import versions

    own = {job.clip.name for job in jobs}
    places = {name: place for place, name in enumerate(order)}
    table = settings.out / (STILL_TABLE if settings.stills else CLIP_TABLE)
    listed: dict[str, list[Sequence[object]]] = {}
    for other, cells in _rows_of_others(table, own):
        listed.setdefault(other, []).append(cells)
    for job in jobs:
        listed[job.clip.name] = [
            (job.image_of(row), job.mask_of(row))
            if settings.stills
            else (job.clip.name, row["frame_index"], job.image_of(row), job.mask_of(row), accepted)
            for row in job.rows
            if (accepted := int(row["accepted"])) or not settings.stills
        ]
    ordered = sorted(listed, key=lambda name: places.get(name, -1))
    write_rows(table, _COLUMNS[table.name], [row for name in ordered for row in listed[name]])
    checkpoint = settings.checkpoint
    made_with: dict[str, Any] = {
        "round": settings.round,
        "checkpoint": {"path": str(checkpoint), "digest": file_digest(checkpoint)},
        **probe,
        "settings": values_affecting(settings),
        "versions": versions(),
    }
    made_with = json.loads(json.dumps(made_with))  # as it is read back
    others = _clips_of_others(settings.out, own)
    for clip in others:
        if clip["made_with"] == made_with:
            del clip["made_with"]
    clips: list[dict[str, Any]] = [
        {
            "clip": job.clip.name,
            "intensity": job.intensity,
            "unreadable": job.unreadable(),
            "frames": job.rows,
        }
        for job in jobs
    ]
    clips = sorted([*others, *clips], key=lambda clip: places.get(clip["clip"], -1))
    _write_provenance(settings.out, made_with, clips)
    known = {clip["clip"]: clip["frames"] for clip in clips}
    return table, _summary([row for job in jobs for row in job.rows]), known


def take_out(out: Path, own: Collection[str]) -> None:
    """Take the clips of this run out of tables and provenance; a file of no other clip goes."""
    for name, columns in _COLUMNS.items():
        if kept := _rows_of_others(out / name, own):
            write_rows(out / name, columns, [cells for _, cells in kept])
        else:
            (out / name).unlink(missing_ok=True)
    if clips := _clips_of_others(out, own):
        _write_provenance(out, {}, clips)
    else:
        (out / PROVENANCE).unlink(missing_ok=True)


def _write_provenance(out: Path, made_with: dict[str, Any], clips: list[dict[str, Any]]) -> None:
    rows = [row for clip in clips for row in clip["frames"]]
    facts = {"format": _FORMAT, **made_with, "summary": _summary(rows), "clips": clips}
    write_json(out / PROVENANCE, facts)


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    """How many frames were judged and accepted, and the mean shares of the accepted."""
    judged = [row for row in rows if "object" in row]
    accepted = [row for row in judged if row["accepted"]]
    return {"frames": len(rows), "judged": len(judged), "accepted": len(accepted)} | {
        name: round(sum(row[name] for row in accepted) / len(accepted), 6) if accepted else None
        for name in ("object", "background", "unknown")
    }


def _rows_of_others(table: Path, own: Collection[str]) -> list[tuple[str, list[str]]]:
    """Clips and rows of the table for training that other runs have put into the folder."""
    columns = _COLUMNS[table.name]

    def clip_of(row: Mapping[str, str]) -> str:
        return row["VID"] if "VID" in row else Path(row["Mask"]).parent.name

    def keep(row: Mapping[str, str]) -> bool:
        mask = row.get("Mask") or ""
        there = not mask or find_path(table.parent, mask, os.path.isfile) is not None
        return there and clip_of(row) not in own

    kept = rows_beside(table, columns, keep)
    return [(clip_of(dict(zip(columns, cells, strict=True))), cells) for cells in kept]


def _clips_of_others(out: Path, own: Collection[str]) -> list[dict[str, Any]]:
    """Entries of ``pseudo_labels.json`` of clips of other runs, with what they were made with."""
    path = out / PROVENANCE
    try:
        facts = parse_json(path.read_bytes())
        _Provenance.model_validate(facts)
    except FileNotFoundError:
        return []
    except (OSError, ValueError):  # it tells where labels come from, and decides nothing
        _log.warning("%s: cannot be trusted: it is written anew, of the clips of this run", path)
        return []
    made_with = {key: facts[key] for key in facts if key not in ("format", "summary", "clips")}
    return [{"made_with": made_with, **clip} for clip in facts["clips"] if clip["clip"] not in own]
