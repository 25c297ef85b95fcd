"""What a pseudo-label run leaves behind: its tables, their provenance, its pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvos.files import write_json
from dvos.media.image import read_image, write_image
from dvos.media.mask import read_mask
from dvos.media.overlay import overlay
from dvos.selftraining.accept import OBJECT, UNKNOWN
from dvos.selftraining.clip_job import ClipJob
from dvos.tables import write_rows

__all__ = ["CLIP_TABLE", "PROVENANCE", "STILL_TABLE", "draw_pictures", "remove_tables", "write_all"]

CLIP_TABLE, STILL_TABLE = "pseudo_labels.csv", "pseudo_stills.csv"
PROVENANCE = "pseudo_labels.json"

_FORMAT = 1
_UNKNOWN_COLOUR = (240, 200, 60)


def remove_tables(out: Path) -> None:
    """Remove the tables of an earlier run, which may name files that are to go."""
    for name in (PROVENANCE, CLIP_TABLE, STILL_TABLE):
        (out / name).unlink(missing_ok=True)


def write_all(
    out: Path, jobs: Sequence[ClipJob], *, stills: bool, facts: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Write the table for training and ``pseudo_labels.json``.

    Args:
        out: The output folder.
        jobs: The finished clips.
        stills: Whether they are photos.
        facts: What the labels were made with; begins ``pseudo_labels.json``.

    Returns:
        The table and the figures of all frames together.
    """
    table = _write_stills(out, jobs) if stills else _write_clips(out, jobs)
    summary = _summary(jobs)
    clips = [
        {
            "clip": job.clip.name,
            "unreadable": job.unreadable(),
            "frames": [{k: v for k, v in row.items() if k != "files"} for row in job.rows],
        }
        for job in jobs
    ]
    write_json(out / PROVENANCE, {"format": _FORMAT, **facts, "summary": summary, "clips": clips})
    return table, summary


def draw_pictures(out: Path, jobs: Sequence[ClipJob], count: int) -> list[Path]:
    """Draw accepted frames, evenly spread, objects in one colour and unknown in another."""
    folder = out / "overlays"
    shutil.rmtree(folder, ignore_errors=True)
    accepted = [(job, row) for job in jobs for row in job.rows if row["accepted"]]
    count = min(count, len(accepted))
    drawn = []
    for number in range(count):
        job, row = accepted[(2 * number + 1) * len(accepted) // (2 * count)]
        labels = read_mask(job.masks / f"{row['frame']}.png")
        picture = overlay(read_image(job.image_of(row)), labels == OBJECT)
        picture = overlay(picture, labels == UNKNOWN, colour=_UNKNOWN_COLOUR)
        drawn.append(folder / job.clip.name / f"{row['frame']}.jpg")
        write_image(drawn[-1], picture)
    return drawn


def _write_clips(out: Path, jobs: Sequence[ClipJob]) -> Path:
    cells = (
        (
            job.clip.name,
            row["frame_index"],
            job.image_of(row),
            job.mask_of(row),
            int(row["accepted"]),
        )
        for job in jobs
        for row in job.rows
    )
    write_rows(out / CLIP_TABLE, ("VID", "FID", "Image", "Mask", "Label"), cells)
    return out / CLIP_TABLE


def _write_stills(out: Path, jobs: Sequence[ClipJob]) -> Path:
    cells = (
        (job.image_of(row), job.mask_of(row)) for job in jobs for row in job.rows if row["accepted"]
    )
    write_rows(out / STILL_TABLE, ("Image", "Mask"), cells)
    return out / STILL_TABLE


def _summary(jobs: Sequence[ClipJob]) -> dict[str, Any]:
    rows = [row for job in jobs for row in job.rows]
    judged = [row for row in rows if "object" in row]
    accepted = [row for row in judged if row["accepted"]]
    shares = {
        name: round(sum(row[name] for row in accepted) / len(accepted), 6) if accepted else None
        for name in ("object", "background", "unknown")
    }
    return {"frames": len(rows), "judged": len(judged), "accepted": len(accepted), **shares}
