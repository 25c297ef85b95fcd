"""``dvos pseudo-label``: unlabelled video in; the labels that are sure enough out."""

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import dvos.selftraining.labeller as labeller
from dvos import files
from dvos.config.base import placed, values_affecting
from dvos.config.selftraining import PseudoLabelSettings
from dvos.media.image import read_image, write_image
from dvos.media.intensity import told_together
from dvos.media.layout import evenly
from dvos.media.mask import read_mask
from dvos.media.overlay import overlay
from dvos.prediction.inputs import find_clips
from dvos.prediction.job import run_by_others, run_clips
from dvos.prediction.places import check_names_free, check_places
from dvos.runner.manifest import Row, restore_clips
from dvos.runner.shards import part_of
from dvos.runner.tasks import run_on_cluster
from dvos.selftraining.filter import OBJECT, UNKNOWN
from dvos.selftraining.probe_fitting import ProbeRecord
from dvos.tables import rows_beside, write_rows

_log = logging.getLogger(__name__)

CLIP_TABLE, STILL_TABLE = "pseudo_labels.csv", "pseudo_stills.csv"
_COLUMNS = {CLIP_TABLE: ("VID", "FID", "Image", "Mask", "Label"), STILL_TABLE: ("Image", "Mask")}
PROVENANCE = "pseudo_labels.json"
_FORMAT = 1


class _OfClip(BaseModel):
    clip: str
    frames: list[labeller.LabelRow]


class _Provenance(BaseModel):
    """What is read of ``pseudo_labels.json``; there is more in it."""

    clips: list[_OfClip]


def write_results(
    settings: PseudoLabelSettings,
    jobs: Sequence[labeller.ClipJob],
    probe: dict[str, Any],
    order: Sequence[str],
) -> tuple[Path, dict[str, Any], int]:
    """Write the table for training and ``pseudo_labels.json``; clips of other runs stay in both.

    Clips stand in the ``order`` of the input, after those of others. Gives the table, the summary
    of this run's ``jobs``, and how many clips are not labelled yet. An OutputError if a file cannot
    be written, a TableError if the table there is none of labels.
    """
    from dvos.training.records import versions

    own = {job.clip.name for job in jobs}
    places = {name: place for place, name in enumerate(order)}
    table = settings.out / (STILL_TABLE if settings.stills else CLIP_TABLE)
    listed: list[tuple[str, Sequence[object]]] = [*_rows_of_others(table, own)]
    for job in jobs:
        name = job.clip.name
        for row in job.rows:
            files_of, accepted = (job.image_of(row), job.mask_of(row)), int(row["accepted"])
            if not settings.stills:
                listed.append((name, (name, row["frame_index"], *files_of, accepted)))
            elif accepted:
                listed.append((name, files_of))
    listed.sort(key=lambda pair: places.get(pair[0], -1))
    write_rows(table, _COLUMNS[table.name], [cells for _, cells in listed])
    checkpoint = settings.checkpoint
    made_with: dict[str, Any] = {
        "round": settings.round,
        "checkpoint": {"path": str(checkpoint), "digest": files.file_digest(checkpoint)},
        **probe,
        "settings": values_affecting(settings),
        "versions": versions(),
    }
    made_with = json.loads(json.dumps(made_with))  # as it is read back
    others = _clips_of_others(settings.out, own)
    for clip in others:
        if clip["made_with"] == made_with:
            del clip["made_with"]
    for job in jobs:
        clip = {"clip": job.clip.name, "intensity": job.intensity}
        others.append(clip | {"unreadable": job.unreadable(), "frames": job.rows})
    clips = sorted(others, key=lambda clip: places.get(clip["clip"], -1))
    _write_provenance(settings.out, made_with, clips)
    missing = len(places.keys() - {clip["clip"] for clip in clips})
    return table, _summary([row for job in jobs for row in job.rows]), missing


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
    files.write_json(out / PROVENANCE, facts)


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
        there = not mask or files.find_path(table.parent, mask, os.path.isfile) is not None
        return there and clip_of(row) not in own

    kept = rows_beside(table, columns, keep)
    return [(clip_of(dict(zip(columns, cells, strict=True))), cells) for cells in kept]


def _clips_of_others(out: Path, own: Collection[str]) -> list[dict[str, Any]]:
    """Entries of ``pseudo_labels.json`` of clips of other runs, with what they were made with."""
    path = out / PROVENANCE
    try:
        facts = files.parse_json(path.read_bytes())
        _Provenance.model_validate(facts)
    except FileNotFoundError:
        return []
    except (OSError, ValueError):  # it tells where labels come from, and decides nothing
        _log.warning("%s: cannot be trusted: it is written anew, of the clips of this run", path)
        return []
    made_with = {key: facts[key] for key in facts if key not in ("format", "summary", "clips")}
    return [{"made_with": made_with, **clip} for clip in facts["clips"] if clip["clip"] not in own]


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
    missing: int = 0  # Clips of other shards not labelled yet; all else is of this shard.

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

    Every frame is predicted in several views, compared with its neighbours and with a feature
    probe, which is fitted before, and filtered by :class:`dvos.config.selftraining.FilterSettings`.
    Writes ``masks/<clip>/<frame>.png``, of video files ``frames/<clip>/``, the probe, and a table
    with its provenance. Started again it goes on at the next frame. A MediaError if clips cannot be
    read, after the others are done; another DvosError for what else is wrong.
    """
    files.check_given([("INPUT", settings.input)], [("--checkpoint", settings.checkpoint)])
    # Workers on other machines start in other folders.
    far = None if settings.scheduler is None else placed(settings)
    # What only hands clips on need not hold a device.
    here = settings if far is None else far.model_copy(update={"device": "cpu"})
    network, out = labeller.Labeller(here), here.out
    # The frames a photo is compared with have references of their own.
    context = network.predictor.context - min([0, *here.neighbours]) if here.stills else 0
    photos = here.model_dump(include={"stills", "pan_step", "seed"})
    intensity = network.predictor.intensity
    clips = find_clips(here.input, context=context, intensity=intensity, **photos)
    check_places(clips, out, lambda clip: filter(None, labeller.result_folders(out, clip)))
    if not any((out / ".progress").glob("*.jsonl")):
        files.refuse_foreign([out / PROVENANCE], "dvos pseudo-label")
    files.make_folder(out)
    restore_clips(out)
    address, work = settings.scheduler or "", labeller.do_on_worker
    if far is None or not settings.probe:
        record = network.fit_probe(clips)
    else:
        fit = labeller.LabelTask(far, tuple(clips))
        ((_, told),) = run_on_cluster(address, work, [("probe", fit)], description="fit probe")
        record = told["record"]
    affected = labeller.fingerprint_of(settings, "result", "labels")
    fingerprint = files.digest([affected, record.digest])
    every = [network.job(clip, fingerprint) for clip in clips]
    jobs = part_of(every, settings.shard)
    check_names_free(jobs)
    with files.exclusive(out):
        take_out(out, {job.clip.name for job in jobs})  # they may name files that are to go
    if far is None:
        run_clips(jobs, description="pseudo-label")
    else:
        tasks = (labeller.LabelTask(far, (x.clip,), fingerprint, record.digest) for x in jobs)
        run_by_others(address, work, jobs, tasks, description="pseudo-label")
    return _finish(settings, every, record)


def _finish(
    settings: PseudoLabelSettings, every: Sequence[labeller.ClipJob], record: ProbeRecord
) -> PseudoLabelResult:
    """Write tables, provenance and pictures, of the jobs of this run among those of the input."""
    out, order = settings.out, [job.clip.name for job in every]
    jobs = part_of(every, settings.shard)
    with files.exclusive(out):
        table, summary, missing = write_results(settings, jobs, record.provenance(), order)
    if not summary["accepted"]:
        text = "%s: none of %d frames was accepted; see %s for the reasons"
        _log.warning(text, settings.input, summary["judged"], out / PROVENANCE)
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


def _draw_pictures(out: Path, jobs: Sequence[labeller.ClipJob], count: int) -> list[Path]:
    """Draw accepted frames, evenly spread, objects in one colour and unknown in another."""
    folder = out / "overlays"
    for job in jobs:
        for row in job.rows:
            (folder / job.clip.name / f"{row['frame']}.jpg").unlink(missing_ok=True)
    with suppress(OSError):  # of the user's own files there none are touched
        for part in (*(folder / job.clip.name for job in jobs), folder):
            part.rmdir()
    accepted = [(job, row) for job in jobs for row in job.rows if row["accepted"]]
    drawn = []
    for job, row in evenly(accepted, count):
        labels = read_mask(job.masks / f"{row['frame']}.png")
        picture = overlay(read_image(job.image_of(row), job.clip.intensity), labels == OBJECT)
        picture = overlay(picture, labels == UNKNOWN, colour=_UNKNOWN_COLOUR)
        drawn.append(folder / job.clip.name / f"{row['frame']}.jpg")
        write_image(drawn[-1], picture)
    return drawn
