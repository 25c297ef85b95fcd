"""``dvos pseudo-label``: unlabelled video in; the labels that are sure enough out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dvos.config.base import plain_values
from dvos.config.pseudo import PseudoLabelOptions, PseudoLabelSettings
from dvos.errors import CheckpointError, DvosError, FaultCollector, MediaError, UsageError
from dvos.files import digest, file_digest, make_folder
from dvos.prediction.features import load_features
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.predictor import Predictor, load_predictor
from dvos.runner import progress
from dvos.selftraining import tables
from dvos.selftraining.accept import Rule, judge
from dvos.selftraining.clip_job import ClipJob, Opine, View, frames_folder, masks_folder
from dvos.selftraining.opinion import opinion_on
from dvos.selftraining.survey import OPINION, Survey, survey
from dvos.selftraining.views import mirrors_of, view_clip

__all__ = ["PseudoLabelResult", "pseudo_label"]

_log = logging.getLogger(__name__)

#: Raised whenever the same input and settings give other labels than before.
_VERSION = 2

# Settings that predictions depend on, and those that only the labels do.
_SURVEYED = ("scales", "flips", "precision", "tile", "reference_interval", "pan_step", "seed")
_JUDGED = ("neighbours", "interval", "accept", "frame_format")


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

    A survey of some frames fits a second opinion. Then every frame is
    predicted in several views and compared with that and with its neighbours;
    see :class:`dvos.selftraining.accept.Rule` for the rule. Writes
    ``masks/<clip>/<frame>.png``, for video files also ``frames/<clip>/``, the
    opinion, and a table with its provenance. Started again it goes on at the
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
    predictors = _build_predictors(settings, settings.checkpoint)
    view = partial(view_clip, predictors=predictors, mirrors=mirrors_of(settings.flips))
    clips = _find_clips(settings, predictors[0].context)
    _check_places(clips, settings.out)
    opine, surveyed = _build_opinion(settings, clips, view, predictors[0].context)
    jobs = _build_jobs(settings, clips, view, opine, surveyed)
    _run(jobs, settings.out)
    table, summary = tables.write_all(
        settings.out, jobs, stills=settings.stills, facts=_facts(settings, surveyed)
    )
    if not summary["accepted"]:
        _log.warning(
            "%s: none of %d frames was accepted; see %s for the reasons",
            settings.input,
            summary["judged"],
            settings.out / tables.PROVENANCE,
        )
    return PseudoLabelResult(
        out=settings.out,
        table=table,
        provenance=settings.out / tables.PROVENANCE,
        stills=settings.stills,
        frames=summary["frames"],
        judged=summary["judged"],
        accepted=summary["accepted"],
        object_share=summary["object"],
        background_share=summary["background"],
        pictures=tuple(tables.draw_pictures(settings.out, jobs, settings.pictures)),
    )


def _find_clips(settings: PseudoLabelSettings, context: int) -> list[ClipInput]:
    before = -min([0, *settings.neighbours])
    return find_clips(
        settings.input,
        stills=settings.stills,
        # The frames a photo is compared with have references of their own.
        context=context + before if settings.stills else 0,
        pan_step=settings.pan_step,
        seed=settings.seed,
    )


def _build_opinion(
    settings: PseudoLabelSettings, clips: Sequence[ClipInput], view: View, context: int
) -> tuple[Opine | None, Survey | None]:
    """What gives the second opinion, if one is wanted and can be, and how it was found."""
    if not settings.opinion:
        make_folder(settings.out)
        (settings.out / OPINION).unlink(missing_ok=True)
        return None, None
    # Before the folder is made: not every network can be asked.
    reader = load_features(settings.checkpoint, settings.device, tile=settings.tile)
    make_folder(settings.out)
    opinion, found = survey(
        clips,
        out=settings.out,
        fingerprint=_fingerprint(settings, _SURVEYED),
        view=view,
        reader=reader,
        context=context,
        frames=settings.survey_frames,
        seed=settings.seed,
    )
    if opinion is None:
        return None, found
    return partial(opinion_on, reader=reader, opinion=opinion), found


def _build_jobs(
    settings: PseudoLabelSettings,
    clips: Sequence[ClipInput],
    view: View,
    opine: Opine | None,
    surveyed: Survey | None,
) -> list[ClipJob]:
    rule = partial(judge, rule=Rule(**settings.accept.model_dump()))
    opinion = surveyed and surveyed.digest
    fingerprint = digest([_fingerprint(settings, _SURVEYED + _JUDGED), opinion])
    return [
        ClipJob(
            clip,
            out=settings.out,
            fingerprint=fingerprint,
            view=view,
            opine=opine,
            judge=rule,
            neighbours=settings.neighbours,
            interval=settings.interval,
            frame_format=settings.frame_format,
        )
        for clip in clips
    ]


def _build_predictors(options: PseudoLabelOptions, checkpoint: Path) -> list[Predictor]:
    """One for each scale."""
    return [
        load_predictor(
            checkpoint,
            options.device,
            scale=scale,
            tile=options.tile,
            precision=options.precision,
            batch=options.batch,
            reference_interval=options.reference_interval,
        )
        for scale in options.scales
    ]


def _fingerprint(settings: PseudoLabelSettings, names: Sequence[str]) -> str:
    """Of the checkpoint and of some settings."""
    chosen = {name: plain_values(getattr(settings, name)) for name in names}
    return digest([_VERSION, file_digest(settings.checkpoint), chosen])


def _check_places(clips: Sequence[ClipInput], out: Path) -> None:
    """Refuse an output folder in which results would replace the input itself."""
    with FaultCollector(UsageError) as faults:
        for clip in clips:
            places = (masks_folder(out, clip), frames_folder(out, clip))
            written = {place.resolve() for place in places if place is not None}
            if any(path.resolve().parent in written for path in clip.files):
                faults.add(
                    out,
                    f"the results of clip {clip.name!r} would lie among its frames",
                    "a folder apart from the input",
                    "choose another --out",
                )


def _run(jobs: Sequence[ClipJob], out: Path) -> None:
    """Label all clips; one that cannot be read does not cost the others."""

    def frames() -> Iterator[None]:
        for job in jobs:
            try:
                yield from job.run()
            except MediaError as error:
                faults.extend(error.faults)

    with FaultCollector(MediaError) as faults:
        if not all(_is_finished(job) for job in jobs):
            tables.remove_tables(out)
        remaining = [job.remaining() for job in jobs]
        known = [number for number in remaining if number is not None]
        total = sum(known) if len(known) == len(remaining) else None
        for _ in progress(frames(), description="pseudo-label", total=total, unit="frame"):
            pass


def _is_finished(job: ClipJob) -> bool:
    try:
        return job.is_finished()
    except DvosError:
        return False  # reported when the clip's turn comes


def _facts(settings: PseudoLabelSettings, surveyed: Survey | None) -> dict[str, Any]:
    """What the labels were made with, the same for the same run."""
    from dvos.training.facts import versions

    free = {"checkpoint", "out", "device", "batch", "pictures", "round"}
    return {
        "round": settings.round,
        "checkpoint": {
            "path": str(settings.checkpoint),
            "digest": file_digest(settings.checkpoint),
        },
        **_opinion_facts(surveyed),
        "settings": {k: v for k, v in plain_values(settings).items() if k not in free},
        "versions": versions(),
    }


def _opinion_facts(surveyed: Survey | None) -> dict[str, Any]:
    """The second opinion, or null and why."""
    if surveyed is None:
        return {"opinion": None, "opinion_reason": "switched off by opinion: false"}
    if surveyed.digest is None:
        return {"opinion": None, "opinion_reason": surveyed.reason}
    names = ("digest", "frames", "samples", "objects", "backgrounds")
    return {"opinion": {"file": OPINION} | {name: getattr(surveyed, name) for name in names}}
