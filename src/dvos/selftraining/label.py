"""``dvos pseudo-label``: unlabelled video in; the labels that are sure enough out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dvos.config.base import values_affecting
from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import CheckpointError, FaultCollector, UsageError
from dvos.files import digest, file_digest, make_folder, write_json
from dvos.media.frames import FrameSource
from dvos.media.image import read_image, write_image
from dvos.media.mask import read_mask
from dvos.media.overlay import overlay
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.job import run_clips
from dvos.prediction.predictor import FramePrediction, Views
from dvos.registry import features_of, predictor_of
from dvos.selftraining.clip_job import ClipJob, Probe, View, result_folders
from dvos.selftraining.filter import OBJECT, UNKNOWN
from dvos.selftraining.probe_fitting import PROBE, ProbeRecord, probe_for
from dvos.tables import write_rows

_log = logging.getLogger(__name__)

#: Raised whenever the same input and settings give other labels than before.
_VERSION = 2

CLIP_TABLE, STILL_TABLE = "pseudo_labels.csv", "pseudo_stills.csv"
PROVENANCE = "pseudo_labels.json"
_FORMAT = 1
_UNKNOWN_COLOUR = (240, 200, 60)


@dataclass(frozen=True)
class PseudoLabelResult:
    """What ``dvos pseudo-label`` made.

    Attributes:
        out: The output folder.
        table: The table for training, of clips or of stills.
        provenance: ``pseudo_labels.json``.
        stills: Whether the table is one of stills.
        frames: Frames that were read.
        judged: Frames that were looked at.
        accepted: Frames that may be queries in training.
        object_share: Of the pixels of the accepted frames; None where there are none.
        background_share: Likewise.
        pictures: What was drawn.
    """

    out: Path
    table: Path
    provenance: Path
    stills: bool
    frames: int
    judged: int
    accepted: int
    object_share: float | None
    background_share: float | None
    pictures: tuple[Path, ...]

    @property
    def known_share(self) -> float | None:
        """Share of the accepted frames' pixels that have a label."""
        if self.object_share is None or self.background_share is None:
            return None
        return self.object_share + self.background_share

    def __str__(self) -> str:
        text = f"{self.accepted} of {self.judged} frames accepted"
        if self.known_share is not None:
            text += (
                f", {self.known_share:.1%} of their pixels known, {self.object_share:.1%} object"
            )
        return f"{text}: {self.table}"


def pseudo_label(settings: PseudoLabelSettings) -> PseudoLabelResult:
    """Label the frames of unlabelled video or photos, as far as that is safe.

    A feature probe is fitted on some frames. Then every frame is predicted in
    several views and compared with that and with its neighbours; the criteria
    are told in :class:`dvos.config.selftraining.FilterSettings`. Writes
    ``masks/<clip>/<frame>.png``, for video files also ``frames/<clip>/``, the
    probe, and a table with its provenance. Started again it goes on at the
    next frame.

    Raises:
        UsageError: If input or device does not exist, or results would replace
            the input.
        TableError: If a CSV has faults.
        CheckpointError: If the checkpoint cannot be used.
        MediaError: If clips cannot be read, a fault for each; the others are
            finished first, but no table is written.
        OutputError: If something cannot be written; what is done is kept.
        RunError: If memory runs out.
    """
    if not settings.checkpoint.is_file():
        raise CheckpointError.at(
            settings.checkpoint, "no such file", "a trained network", "check --checkpoint"
        )
    out = settings.out
    view, context = _load_views(settings)
    clips = find_clips(
        settings.input,
        stills=settings.stills,
        # The frames a photo is compared with have references of their own.
        context=context - min([0, *settings.neighbours]) if settings.stills else 0,
        pan_step=settings.pan_step,
        seed=settings.seed,
    )
    _check_places(settings.out, clips)
    probe, record = _fit_probe(settings, clips, view, context)
    fingerprint = digest(
        [_fingerprint(settings, "result", "labels"), record.digest if record else None]
    )
    jobs = [
        ClipJob(clip, settings, fingerprint=fingerprint, view=view, probe=probe) for clip in clips
    ]
    for name in (PROVENANCE, CLIP_TABLE, STILL_TABLE):
        (out / name).unlink(missing_ok=True)  # they may name files that are to go
    run_clips(jobs, description="pseudo-label")
    table, summary = _write_tables(settings, jobs, record)
    if not summary["accepted"]:
        _log.warning(
            "%s: none of %d frames was accepted; see %s for the reasons",
            settings.input,
            summary["judged"],
            out / PROVENANCE,
        )
    return PseudoLabelResult(
        out=out,
        table=table,
        provenance=out / PROVENANCE,
        stills=settings.stills,
        frames=summary["frames"],
        judged=summary["judged"],
        accepted=summary["accepted"],
        object_share=summary["object"],
        background_share=summary["background"],
        pictures=tuple(_draw_pictures(out, jobs, settings.pictures)),
    )


def _load_views(settings: PseudoLabelSettings) -> tuple[View, int]:
    """What predicts a clip in every view, and how many frames before a frame it looks at."""
    options = PredictorOptions(
        device=settings.device,
        precision=settings.precision,
        batch=settings.batch,
        tile=settings.tile,
        reference_interval=settings.reference_interval,
    )
    predictor = predictor_of(settings.checkpoint, options)
    views = Views(tuple(settings.scales), settings.flips)

    def view(source: FrameSource, *, start: int = 0) -> Generator[FramePrediction, None, None]:
        yield from predictor.segment_views(source, views, start=start)

    return view, predictor.context


def _check_places(out: Path, clips: Sequence[ClipInput]) -> None:
    """Refuse an output folder in which results would replace the input itself."""
    with FaultCollector(UsageError) as faults:
        for clip in clips:
            places = (place for place in result_folders(out, clip) if place is not None)
            written = {place.resolve() for place in places}
            if any(path.resolve().parent in written for path in clip.files):
                faults.add(
                    out,
                    f"the results of clip {clip.name!r} would lie among its frames",
                    "a folder apart from the input",
                    "choose another --out",
                )


def _fit_probe(
    settings: PseudoLabelSettings, clips: Sequence[ClipInput], view: View, context: int
) -> tuple[Probe | None, ProbeRecord | None]:
    """The feature probe, if one is wanted and can be fitted, and how it was found."""
    if not settings.probe:
        make_folder(settings.out)
        (settings.out / PROBE).unlink(missing_ok=True)
        return None, None
    # Before the folder is made: not every network shows its features.
    reader = features_of(settings.checkpoint, settings.device, tile=settings.tile)
    make_folder(settings.out)
    probe, record = probe_for(
        clips,
        settings,
        fingerprint=_fingerprint(settings, "result"),
        view=view,
        reader=reader,
        context=context,
    )
    return (None if probe is None else partial(probe.of_frame, reader=reader)), record


def _fingerprint(settings: PseudoLabelSettings, *products: str) -> str:
    """Of the checkpoint, and of the settings that affect some products."""
    chosen = values_affecting(settings, *products)
    return digest([_VERSION, file_digest(settings.checkpoint), chosen])


def _write_tables(
    settings: PseudoLabelSettings, jobs: Sequence[ClipJob], record: ProbeRecord | None
) -> tuple[Path, dict[str, Any]]:
    """Write the table for training and ``pseudo_labels.json``; give it and the figures."""
    rows = [(job, row) for job in jobs for row in job.rows]
    if settings.stills:
        table = settings.out / STILL_TABLE
        stills = ((job.image_of(row), job.mask_of(row)) for job, row in rows if row["accepted"])
        write_rows(table, ("Image", "Mask"), stills)
    else:
        table = settings.out / CLIP_TABLE
        frames = (
            (
                job.clip.name,
                row["frame_index"],
                job.image_of(row),
                job.mask_of(row),
                int(row["accepted"]),
            )
            for job, row in rows
        )
        write_rows(table, ("VID", "FID", "Image", "Mask", "Label"), frames)
    judged = [row for _, row in rows if "object" in row]
    accepted = [row for row in judged if row["accepted"]]
    summary: dict[str, Any] = {
        "frames": len(rows),
        "judged": len(judged),
        "accepted": len(accepted),
    }
    for name in ("object", "background", "unknown"):
        total = sum(row[name] for row in accepted)
        summary[name] = round(total / len(accepted), 6) if accepted else None
    clips = [
        {
            "clip": job.clip.name,
            "unreadable": job.unreadable(),
            "frames": job.rows,
        }
        for job in jobs
    ]
    facts = {"format": _FORMAT, **_metadata(settings, record), "summary": summary, "clips": clips}
    write_json(settings.out / PROVENANCE, facts)
    return table, summary


def _metadata(settings: PseudoLabelSettings, record: ProbeRecord | None) -> dict[str, Any]:
    """What the labels were made with, the same for the same run."""
    from dvos.training.records import versions

    if record is None:
        probe: dict[str, Any] = {"probe": None, "probe_reason": "switched off by probe: false"}
    elif record.digest is None:
        probe = {"probe": None, "probe_reason": record.reason}
    else:
        names = ("digest", "frames", "samples", "objects", "backgrounds")
        probe = {"probe": {"file": PROBE} | {name: getattr(record, name) for name in names}}
    return {
        "round": settings.round,
        "checkpoint": {
            "path": str(settings.checkpoint),
            "digest": file_digest(settings.checkpoint),
        },
        **probe,
        "settings": values_affecting(settings),
        "versions": versions(),
    }


def _draw_pictures(out: Path, jobs: Sequence[ClipJob], count: int) -> list[Path]:
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
