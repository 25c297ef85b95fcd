"""What a folder of pseudo-labels collects of all runs into it: tables for training, provenance."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dvos.config.base import values_affecting
from dvos.config.selftraining import PseudoLabelSettings
from dvos.files import file_digest, parse_json, write_json
from dvos.prediction.inputs import ClipInput
from dvos.runner import Row
from dvos.tables import rows_beside, write_rows

CLIP_TABLE, STILL_TABLE = "pseudo_labels.csv", "pseudo_stills.csv"
_COLUMNS = {
    CLIP_TABLE: ("VID", "FID", "Image", "Mask", "Label"),
    STILL_TABLE: ("Image", "Mask"),
}
PROVENANCE = "pseudo_labels.json"
_FORMAT = 1


class LabelledClip(Protocol):
    """A clip that this run labelled."""

    clip: ClipInput
    rows: list[Row]

    def image_of(self, row: Row) -> Path:
        """The image file of a finished frame."""

    def mask_of(self, row: Row) -> Path | None:
        """The mask of a finished frame; None where it was not accepted."""

    def unreadable(self) -> list[str]:
        """What could not be decoded."""


def write_results(
    settings: PseudoLabelSettings, jobs: Sequence[LabelledClip], probe: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Write the table for training and ``pseudo_labels.json``; clips of other runs stay in both.

    Args:
        settings: What the labels were made with.
        jobs: Clips of this run.
        probe: What is told of the feature probe.

    Returns:
        The table, and the summary of this run's clips.

    Raises:
        OutputError: If a file cannot be written.
        TableError: If the table there is none of labels.
    """
    from dvos.training.records import versions

    own = {job.clip.name for job in jobs}
    listed = (
        (job.clip.name, row["frame_index"], job.image_of(row), job.mask_of(row), row["accepted"])
        for job in jobs
        for row in job.rows
    )
    table = settings.out / (STILL_TABLE if settings.stills else CLIP_TABLE)
    kept = _rows_of_others(table, own)
    if settings.stills:
        stills = ((image, mask) for *_, image, mask, accepted in listed if accepted)
        write_rows(table, _COLUMNS[STILL_TABLE], [*kept, *stills])
    else:
        frames = ((*row, int(accepted)) for *row, accepted in listed)
        write_rows(table, _COLUMNS[CLIP_TABLE], [*kept, *frames])
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
    clips = [
        {"clip": job.clip.name, "unreadable": job.unreadable(), "frames": job.rows} for job in jobs
    ]
    rows = [row for clip in (*others, *clips) for row in clip["frames"]]
    facts = {"format": _FORMAT, **made_with, "summary": _summary(rows), "clips": others + clips}
    write_json(settings.out / PROVENANCE, facts)
    return table, _summary([row for job in jobs for row in job.rows])


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    """How many frames were judged and accepted, and the mean shares of the accepted."""
    judged = [row for row in rows if "object" in row]
    accepted = [row for row in judged if row["accepted"]]
    return {"frames": len(rows), "judged": len(judged), "accepted": len(accepted)} | {
        name: round(sum(row[name] for row in accepted) / len(accepted), 6) if accepted else None
        for name in ("object", "background", "unknown")
    }


def _rows_of_others(table: Path, own: Collection[str]) -> list[list[str]]:
    """Rows of the table for training that other runs have put into the folder."""

    def keep(row: Mapping[str, str]) -> bool:
        clip = row["VID"] if "VID" in row else Path(row["Mask"]).parent.name
        mask = row.get("Mask") or ""
        return clip not in own and (not mask or (table.parent / mask).is_file())

    return rows_beside(table, _COLUMNS[table.name], keep)


def _clips_of_others(out: Path, own: Collection[str]) -> list[dict[str, Any]]:
    """Entries of ``pseudo_labels.json`` of clips of other runs, with what they were made with."""
    try:
        facts = parse_json((out / PROVENANCE).read_text(encoding="utf-8"))
        made_with = {key: facts[key] for key in facts if key not in ("format", "summary", "clips")}
        return [
            {"made_with": made_with, **clip} for clip in facts["clips"] if clip["clip"] not in own
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []  # it tells where labels come from, and decides nothing


def take_out(out: Path, own: Collection[str]) -> None:
    """Take the clips of this run out of tables and provenance; a file of no other clip goes."""
    for name, columns in _COLUMNS.items():
        if kept := _rows_of_others(out / name, own):
            write_rows(out / name, columns, kept)
        else:
            (out / name).unlink(missing_ok=True)
    if clips := _clips_of_others(out, own):
        rows = [row for clip in clips for row in clip["frames"]]
        facts = {"format": _FORMAT, "summary": _summary(rows), "clips": clips}
        write_json(out / PROVENANCE, facts)
    else:
        (out / PROVENANCE).unlink(missing_ok=True)
