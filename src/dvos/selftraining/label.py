"""``dvos pseudo-label``: unlabelled video in; the labels that are sure enough out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.config.base import values_affecting
from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import CheckpointError
from dvos.files import digest, exclusive, file_digest, make_folder
from dvos.media.frames import AnyFrames, FrameSource
from dvos.media.image import read_image, write_image
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import read_mask, write_mask
from dvos.media.overlay import overlay
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.job import check_names_free, check_places, note_rows, run_clips
from dvos.prediction.predictor import FramePrediction, Views
from dvos.registry import features_of, predictor_of
from dvos.runner import ClipManifest, Row
from dvos.selftraining.filter import OBJECT, UNKNOWN, filter_frame, with_consistency
from dvos.selftraining.probe_fitting import NO_PROBE, PROBE, View, probe_for
from dvos.selftraining.results import CLIP_TABLE as CLIP_TABLE
from dvos.selftraining.results import PROVENANCE, take_out, write_results
from dvos.selftraining.results import STILL_TABLE as STILL_TABLE

_log = logging.getLogger(__name__)

#: Raised whenever the same input and settings give other labels than before.
_VERSION = 2

_UNKNOWN_COLOUR = (240, 200, 60)

#: Image of a frame to its probability by the feature probe, float32 (H, W).
Probe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


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
            text += f", {self.known_share:.1%} of their pixels known"
            text += f", {self.object_share:.1%} object"
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
    out, checkpoint = settings.out, settings.checkpoint
    if not checkpoint.is_file():
        remedy = "check --checkpoint"
        raise CheckpointError.at(checkpoint, "no such file", "a trained network", remedy)
    shared = ("device", "precision", "batch", "tile", "reference_interval")
    options = PredictorOptions(**{name: getattr(settings, name) for name in shared})
    predictor = predictor_of(checkpoint, options)
    views = Views(tuple(settings.scales), settings.flips)

    def view(source: AnyFrames, *, start: int) -> Generator[FramePrediction, None, None]:
        yield from predictor.segment_views(source, views, start=start)

    clips = find_clips(
        settings.input,
        stills=settings.stills,
        # The frames a photo is compared with have references of their own.
        context=predictor.context - min([0, *settings.neighbours]) if settings.stills else 0,
        pan_step=settings.pan_step,
        seed=settings.seed,
        intensity=predictor.intensity,
    )
    check_places(clips, out, lambda clip: filter(None, _result_folders(out, clip)))
    probe, record = None, NO_PROBE
    if settings.probe:
        # Before the folder is made: not every network shows its features.
        reader = features_of(checkpoint, settings.device, tile=settings.tile)
        make_folder(out)
        of_probe = _fingerprint(settings, "result")
        found, record = probe_for(
            clips, settings, of_probe, view=view, reader=reader, context=predictor.context
        )
        probe = None if found is None else partial(found.of_frame, reader=reader)
    else:
        make_folder(out)
        (out / PROBE).unlink(missing_ok=True)
    fingerprint = digest([_fingerprint(settings, "result", "labels"), record.digest])
    jobs = [ClipJob(clip, settings, fingerprint, view, probe) for clip in clips]
    check_names_free(jobs)
    with exclusive(out):
        take_out(out, {clip.name for clip in clips})  # they may name files that are to go
    run_clips(jobs, description="pseudo-label")
    with exclusive(out):
        table, summary = write_results(settings, jobs, record.provenance())
    if not summary["accepted"]:
        text = "%s: none of %d frames was accepted; see %s for the reasons"
        _log.warning(text, settings.input, summary["judged"], out / PROVENANCE)
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


def _fingerprint(settings: PseudoLabelSettings, *products: str) -> str:
    """Of the checkpoint, and of the settings that affect some products."""
    chosen = values_affecting(settings, *products)
    return digest([_VERSION, file_digest(settings.checkpoint), chosen])


def _result_folders(out: Path, clip: ClipInput) -> tuple[Path, Path | None]:
    """Folders of a clip's masks and of its frames; no second where they are image files already."""
    are_images = clip.files[0].suffix.lower() in IMAGE_SUFFIXES
    return out / "masks" / clip.name, None if are_images else out / "frames" / clip.name


class ClipJob:
    """Labels one clip; keeps to :class:`dvos.prediction.job.ClipWork`.

    Args:
        clip: The clip.
        settings: Where the labels go, which frames are looked at, and the criteria.
        fingerprint: Of all that the labels depend on besides the clip's files.
        view: Predicts it.
        probe: The feature probe; None where there is none.

    Attributes:
        clip: As given.
        masks: Folder of its masks.
        frames: Folder of its frames; None where they are image files already.
        rows: A row for each finished frame, as in ``pseudo_labels.json``.
    """

    def __init__(
        self,
        clip: ClipInput,
        settings: PseudoLabelSettings,
        fingerprint: str,
        view: View,
        probe: Probe | None,
    ) -> None:
        self.clip = clip
        self.masks, self.frames = _result_folders(settings.out, clip)
        self.rows: list[Row] = []
        self._damage: list[str] = []
        self._settings = settings
        self._fingerprint = fingerprint
        self._view = view
        self._probe = probe

    def image_of(self, row: Row) -> Path:
        """The image file of a finished frame."""
        if self.frames is not None:
            return self.frames / f"{row['frame']}.{self._settings.frame_format}"
        # The files are listed in the order of the frame indices.
        return self.clip.files[row["frame_index"]]

    def mask_of(self, row: Row) -> Path | None:
        """The mask of a finished frame; None where it was not accepted."""
        return self.masks / f"{row['frame']}.png" if row["accepted"] else None

    def places(self) -> list[Path]:
        """The folders of its masks and, of a video file, of its frames."""
        return [place for place in (self.masks, self.frames) if place is not None]

    def unreadable(self) -> list[str]:
        """What could not be decoded, after :meth:`run`: damage of a video, names of images."""
        if self.frames is not None:
            return self._damage
        # Not the notes of the source, which a continued run has only in part.
        found = {self.image_of(row) for row in self.rows}
        return [path.name for path in self.clip.files if path not in found]

    def manifest(self) -> ClipManifest:
        """What of the clip is finished."""

        def complete(row: Row) -> bool:
            files = [self.mask_of(row), None if self.frames is None else self.image_of(row)]
            return all(path.is_file() for path in files if path is not None)

        return ClipManifest(
            self._settings.out / ".progress" / f"{self.clip.name}.jsonl",
            source=self.clip.source,
            fingerprint=digest([self._fingerprint, self.clip.fingerprint()]),
            complete=complete,
        )

    def run(self) -> Iterator[None]:
        """Label what is left of the clip; a step for each frame.

        Raises:
            MediaError: If its frames cannot be read.
            RunError: If memory runs out.
        """
        manifest = self.manifest()
        for row in manifest.stale:
            (self.masks / f"{row['frame']}.png").unlink(missing_ok=True)
            if self.frames is not None:
                for suffix in IMAGE_SUFFIXES:
                    (self.frames / f"{row['frame']}{suffix}").unlink(missing_ok=True)
        self.rows = manifest.rows
        if not manifest.finished:
            source = self.clip.open()
            yield from note_rows(manifest, self._labelled(source), source)
        self._damage = manifest.damage
        for note in self._damage:
            _log.warning("%s: %s", self.clip.name, note)

    def _labelled(self, source: FrameSource) -> Iterator[Row]:
        """Rows of the frames that are not finished, whose files are written."""
        first, neighbours = self.clip.first, self._settings.neighbours
        if self.rows:
            first += self.rows[-1]["frame_index"] + 1

        def wanted(index: int) -> bool:
            return index >= first and (index - self.clip.first) % self._settings.interval == 0

        # What the first frame is compared with must be predicted again.
        start = max(0, first + min([0, *neighbours]))
        with closing(self._view(source, start=start)) as predicted:
            compared = with_consistency(predicted, neighbours=neighbours, wanted=wanted)
            for frame, consistency in compared:
                if frame.frame_index >= first:
                    yield self._finished(frame, consistency)

    def _finished(self, frame: FramePrediction, consistency: NDArray[np.float32] | None) -> Row:
        """Write a frame's files and give its row."""
        row: Row = {
            "frame": frame.name,
            "frame_index": frame.frame_index - self.clip.first,
            "accepted": False,
        }
        mask = self.masks / f"{frame.name}.png"
        # One that a killed run with other settings wrote but did not note.
        mask.unlink(missing_ok=True)
        if consistency is None:
            row["reason"] = "not looked at, as interval says"
        else:
            assert frame.std is not None
            probe = None if self._probe is None else self._probe(frame.image)
            criteria = self._settings.filter
            found = filter_frame(frame.probability, frame.std, consistency, probe, criteria)
            row |= {
                "accepted": found.accepted,
                "reason": found.reason,
                "object": round(found.object_share, 6),
                "background": round(found.background_share, 6),
                "unknown": round(found.unknown_share, 6),
            }
            if found.accepted:
                write_mask(mask, found.labels)
        if self.frames is not None:
            write_image(self.image_of(row), frame.image)
        return row


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
