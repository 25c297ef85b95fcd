"""``dvos pseudo-label``: unlabelled video in; the labels that are sure enough out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import CheckpointError
from dvos.files import digest, exclusive, make_folder
from dvos.media.image import read_image, write_image
from dvos.media.intensity import told_together
from dvos.media.mask import read_mask
from dvos.media.overlay import overlay
from dvos.prediction.inputs import find_clips
from dvos.prediction.job import check_names_free, check_places, run_clips
from dvos.runner import part_of, restore_clips
from dvos.selftraining.clip_job import ClipJob, result_folders
from dvos.selftraining.filter import OBJECT, UNKNOWN
from dvos.selftraining.labeller import Labeller, fingerprint_of, fit_on_cluster, label_on_cluster
from dvos.selftraining.probe_fitting import ProbeRecord
from dvos.selftraining.results import CLIP_TABLE as CLIP_TABLE
from dvos.selftraining.results import PROVENANCE, take_out, write_results
from dvos.selftraining.results import STILL_TABLE as STILL_TABLE

_log = logging.getLogger(__name__)

_UNKNOWN_COLOUR = (240, 200, 60)


@dataclass(frozen=True)
class PseudoLabelResult:
    """What ``dvos pseudo-label`` made."""

    out: Path  # The output folder.
    table: Path  # The table for training, of clips or of stills.
    provenance: Path  # ``pseudo_labels.json``.
    stills: bool  # Whether the table is one of stills.
    frames: int  # Frames that were read.
    judged: int  # Frames that were looked at.
    accepted: int  # Frames that may be queries in training.
    object_share: float | None  # Of the pixels of the accepted frames; None where there are none.
    background_share: float | None  # Likewise.
    pictures: tuple[Path, ...]  # What was drawn; of shards by the one that completes the set.
    # Clips of other shards that are not labelled yet; the numbers are those of this shard.
    missing: int = 0

    @property
    def setting(self) -> str:
        """Of training, the setting that takes the table."""
        return f"data.pseudo.{'stills' if self.stills else 'clips'}"

    @property
    def known_share(self) -> float | None:
        """Share of the accepted frames' pixels that have a label."""
        if self.object_share is None or self.background_share is None:
            return None
        return self.object_share + self.background_share

    def __str__(self) -> str:
        text = f"{self.accepted} of {self.judged} frames accepted"
        if self.known_share is not None:
            text += f", {self.known_share:.1%} of their pixels known"
            text += f", {self.object_share:.1%} object"
        if self.missing:
            text += f"; {self.missing} clips of other shards are still to be labelled"
        return f"{text}: {self.table}"


@told_together()
def pseudo_label(settings: PseudoLabelSettings) -> PseudoLabelResult:
    """Label the frames of unlabelled video or photos, as far as that is safe.

    A feature probe is fitted on some frames. Then every frame is predicted in several views and
    compared with that and with its neighbours; the criteria are told in
    :class:`dvos.config.selftraining.FilterSettings`. Writes ``masks/<clip>/<frame>.png``, for video
    files also ``frames/<clip>/``, the probe, and a table with its provenance. Started again it goes
    on at the next frame.

    Raises:
        UsageError: If input or device does not exist, or results would replace the input.
        TableError: If a CSV has faults.
        CheckpointError: If the checkpoint cannot be used.
        MediaError: If clips cannot be read, after the others are done; no table is written.
        OutputError: If something cannot be written; what is done is kept.
        RunError: If memory runs out.
    """
    checkpoint = settings.checkpoint
    if not checkpoint.is_file():
        remedy = "check --checkpoint"
        raise CheckpointError.at(checkpoint, "no such file", "a trained network", remedy)
    # Workers on other machines start in other folders.
    places = {name: getattr(settings, name).absolute() for name in ("input", "checkpoint", "out")}
    far = None if settings.scheduler is None else settings.model_copy(update=places)
    # What only hands clips on need not hold a device.
    here = settings if far is None else far.model_copy(update={"device": "cpu"})
    labeller, out = Labeller(here), here.out
    clips = find_clips(
        here.input,
        stills=here.stills,
        # The frames a photo is compared with have references of their own.
        context=labeller.context - min([0, *here.neighbours]) if here.stills else 0,
        pan_step=here.pan_step,
        seed=here.seed,
        intensity=labeller.intensity,
    )
    check_places(clips, out, lambda clip: filter(None, result_folders(out, clip)))
    make_folder(out)
    restore_clips(out)
    if far is None or not settings.probe:
        record = labeller.fit_probe(clips)
    else:
        record = fit_on_cluster(far, clips)
    fingerprint = digest([fingerprint_of(settings, "result", "labels"), record.digest])
    every = [labeller.job(clip, fingerprint) for clip in clips]
    jobs = part_of(every, settings.shard)
    check_names_free(jobs)
    with exclusive(out):
        take_out(out, {job.clip.name for job in jobs})  # they may name files that are to go
    if far is None:
        run_clips(jobs, description="pseudo-label")
    else:
        label_on_cluster(far, jobs, fingerprint, record.digest)
    return _finish(settings, every, jobs, record)


def _finish(
    settings: PseudoLabelSettings,
    every: Sequence[ClipJob],
    jobs: Sequence[ClipJob],
    record: ProbeRecord,
) -> PseudoLabelResult:
    """Write tables, provenance and pictures, of the jobs of this run among those of the input."""
    out, order = settings.out, [job.clip.name for job in every]
    with exclusive(out):
        table, summary, known = write_results(settings, jobs, record.provenance(), order)
    if not summary["accepted"]:
        text = "%s: none of %d frames was accepted; see %s for the reasons"
        _log.warning(text, settings.input, summary["judged"], out / PROVENANCE)
    missing = len({*order} - known.keys())
    for job in every:
        job.rows = job.rows or job.manifest().rows  # of a clip that another shard has labelled
    return PseudoLabelResult(
        out=out,
        table=table,
        provenance=out / PROVENANCE,
        stills=settings.stills,
        **{name: summary[name] for name in ("frames", "judged", "accepted")},
        object_share=summary["object"],
        background_share=summary["background"],
        pictures=tuple(_draw_pictures(out, every, 0 if missing else settings.pictures)),
        missing=missing,
    )


def _draw_pictures(out: Path, jobs: Sequence[ClipJob], count: int) -> list[Path]:
    """Draw accepted frames, evenly spread, objects in one colour and unknown in another."""
    folder = out / "overlays"
    for job in jobs:
        for row in job.rows:
            (folder / job.clip.name / f"{row['frame']}.jpg").unlink(missing_ok=True)
    with suppress(OSError):  # of the user's own files there none are touched
        for part in (*(folder / job.clip.name for job in jobs), folder):
            part.rmdir()
    accepted = [(job, row) for job in jobs for row in job.rows if row["accepted"]]
    count = min(count, len(accepted))
    drawn = []
    for number in range(count):
        job, row = accepted[(2 * number + 1) * len(accepted) // (2 * count)]
        labels = read_mask(job.masks / f"{row['frame']}.png")
        picture = overlay(read_image(job.image_of(row), job.clip.intensity), labels == OBJECT)
        picture = overlay(picture, labels == UNKNOWN, colour=_UNKNOWN_COLOUR)
        drawn.append(folder / job.clip.name / f"{row['frame']}.jpg")
        write_image(drawn[-1], picture)
    return drawn
