"""``dvos predict`` and ``dvos evaluate``: videos in; masks, counts, overlays and scores out."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dvos import files
from dvos.config.base import placed, values_affecting
from dvos.config.prediction import EvaluationSettings, PredictionOptions, PredictionSettings
from dvos.config.scoring import ScoringSettings
from dvos.errors import DvosError, FaultCollector, UsageError, shortened
from dvos.formats.regions import read_regions
from dvos.media.intensity import told_together
from dvos.media.layout import inner_folder, list_folders
from dvos.prediction.counting import finish_rows
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.job import (
    ClipJob,
    ClipResult,
    held,
    is_made_otherwise,
    run_by_others,
    run_clips,
    run_for_others,
)
from dvos.prediction.places import check_names_apart, check_names_free, check_places
from dvos.prediction.predictor import KnowsItsData, Predictor, StartsFromMasks
from dvos.prediction.scale import ClipScale, tell_scales, tell_sizes
from dvos.prediction.tracks.table import TOTAL_COLUMNS
from dvos.runner.manifest import read_record, restore_clips
from dvos.runner.shards import part_of, taken_folder
from dvos.scoring.match import true_masks
from dvos.scoring.score import check_out, score
from dvos.scoring.summary import Scores
from dvos.tables import COUNT_COLUMNS, rows_beside, write_rows
from dvos.tables.cells import table_values

_log = logging.getLogger(__name__)

#: Loads the network of ``options.checkpoint``; :func:`dvos.registry.predictor_for` does.
LoadPredictor = Callable[[PredictionOptions], Predictor]

COUNTS, TOTALS = "counts.csv", "totals.csv"
_TABLES = {COUNTS: COUNT_COLUMNS, TOTALS: TOTAL_COLUMNS}
RUN = "run.json"
_LOOKED_AT = 8  # clips of which the first frame is looked at, evenly spread
_VERSION = 5  # raised whenever the same input and settings give other masks or rows than before


@dataclass(frozen=True)
class _Run:
    """``run.json``: what was measured of each clip, where ``scale`` is ``auto``."""

    scales: dict[str, ClipScale]


@dataclass(frozen=True)
class PredictResult:
    """What ``dvos predict`` made; of a shard its own clips, in order."""

    out: Path
    counts: Path
    clips: tuple[ClipResult, ...]
    missing: int = 0  # clips of other shards that ``counts.csv`` does not hold yet

    @property
    def frames(self) -> int:
        """Number of masks."""
        return sum(clip.frames for clip in self.clips)

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows of ``counts.csv``, as ``pandas.DataFrame`` takes them."""
        return table_values(self.counts)

    def __str__(self) -> str:
        clips = "1 clip" if len(self.clips) == 1 else f"{len(self.clips)} clips"
        text = f"{self.frames} masks of {clips} in {self.out}; counts in {self.counts}"
        if self.missing:
            text += f"; {self.missing} clips of other shards are still to be predicted"
        return text


@dataclass(frozen=True)
class EvaluationResult:
    """Masks and counts, in ``predictions`` of the output folder, and their scores."""

    prediction: PredictResult
    scores: Scores  # whose ``missing`` lists labelled frames that got no mask

    @property
    def out(self) -> Path:
        """The folder of the scores."""
        return self.scores.out

    def __str__(self) -> str:
        return f"{self.prediction}\n{self.scores}"


def predict(settings: PredictionSettings, load: LoadPredictor) -> PredictResult:
    """Segment every frame of an input, with the network of the checkpoint that ``load`` gives.

    Writes ``<clip>/<frame>.png``, ``counts.csv`` and, as asked for, overlay videos, probabilities,
    numbered objects with a table of them, and the masks as run lengths. Started again it goes on at
    the next frame; a finished clip is passed over while input, checkpoint and settings are the
    same. The shards of an input give what one run gives, in any order or at once.

    Raises a UsageError, TableError or CheckpointError for what is given, a MediaError if clips
    cannot be read (a fault for each; the others are finished first), an OutputError if something
    cannot be written (what is done is kept), a RunError if memory runs out, or a cluster fails.
    """
    if "checkpoint" not in settings.model_fields_set:
        _log.warning(
            "no checkpoint is given: the starter weights %s are taken, which learnt from rendered"
            " fields alone; a training on your own stills finds more",
            settings.checkpoint.stem,
        )
    if settings.scheduler is not None:
        settings = placed(settings)  # workers on other machines start in other folders
    shared = (settings.shard, settings.scheduler)
    return _predict(settings, settings.input, settings.out, load, *shared)


def evaluate(settings: EvaluationSettings, load: LoadPredictor) -> EvaluationResult:
    """Predict the frames of labelled clips and score them against their masks.

    Writes ``predictions/`` as :func:`predict` does, and ``scores.csv``, ``scores.json`` and
    pictures as :func:`~dvos.scoring.score.score` does. Every frame of a clip is predicted, as later
    ones refer to earlier ones; the labelled are scored. Raises as both do, and a UsageError if the
    frames of a truth folder are not given.
    """
    # Labelled clips are their own truth where no other is given.
    alone = settings.input is None and "input" in settings.model_fields_set
    given = [("INPUT" if alone else "--truth", settings.truth), ("INPUT", settings.input)]
    files.check_given(given, [("--checkpoint", settings.checkpoint)])
    check_out(settings.out, settings.truth, settings.frames)
    true_masks(settings.truth, frames=settings.frames, images=None)  # tells what is wrong there
    source = settings.input or settings.truth
    if settings.input is None and source.is_dir():
        folders = (source, *list_folders(source))
        if not any(inner_folder(folder, "frames") for folder in folders):
            found = f"not given, and {source} holds no folder named frames"
            expected = "the frames that the true masks belong to"
            raise UsageError.at("input", found, expected, "give them with --set input=FOLDER")
    with taken_folder(settings.out):
        prediction = _predict(settings, source, settings.out / "predictions", load)
        shared = ("truth", "out", "frames", "overlay_interval", "domain", "void", "seed")
        scoring = ScoringSettings(
            **{name: getattr(settings, name) for name in shared},
            predictions=prediction.out,
            images=None if source.suffix.lower() == ".csv" else source,
            temporal=not settings.stills,  # photos follow each other in no order of time
        )
        return EvaluationResult(prediction, score(scoring))


@told_together()
def _predict(
    options: PredictionOptions,
    source: Path,
    out: Path,
    load: LoadPredictor,
    shard: str | None = None,
    scheduler: str | None = None,
) -> PredictResult:
    # What only hands clips on need not hold a device.
    here = options if scheduler is None else options.model_copy(update={"device": "cpu"})
    first = options.first_mask if isinstance(options.first_mask, Path) else None
    with FaultCollector() as faults:
        predictor = faults.collect(_predictor, here, load)
        faults.collect(files.check_given, [("--first-mask", first)])
        if options.regions:
            faults.collect(read_regions, options.regions)
        # How many frames a photo needs before it is for the network to say.
        context = predictor.context if predictor and options.stills else 0
        clips = faults.collect(
            find_clips,
            source,
            stills=options.stills,
            context=context,
            pan_step=options.pan_step,
            seed=options.seed,
            frame_rate=options.frame_rate,
            intensity=predictor.intensity if predictor else options.intensity,
        )
    assert predictor is not None  # else the block has raised
    assert clips is not None
    clips = [replace(clip, every=options.every) for clip in clips]
    check_places(clips, out, lambda clip: [out / clip.name, out / f"{clip.name}.mp4"])
    if options.format == "ctc":
        check_places(clips, out, lambda clip: [out / f"{clip.name}_RES"])
    part, alone = part_of(clips, shard), len(clips) == 1
    own = [predictor] * len(part)
    if isinstance(predictor, StartsFromMasks):
        # Before anything is written: each clip's first mask is found and looked at here.
        with FaultCollector() as faults:
            found = [faults.collect(predictor.of_clip, one, alone=alone) for one in part]
        own = [one for one in found if one is not None]
    files.make_folder(out)
    restore_clips(out)
    fingerprint = _fingerprint(options)
    with FaultCollector() as faults:
        made = [
            faults.collect(ClipJob, clip, one, options, out, fingerprint)
            for clip, one in zip(part, own, strict=True)
        ]
    jobs = [job for job in made if job is not None]
    check_names_apart(jobs, (out / name for name in (*_TABLES, RUN)))
    check_names_free(jobs)
    with FaultCollector(UsageError) as faults:
        for job in jobs:
            faults.collect(job.check_corrected)
    if shard and not isinstance(predictor, StartsFromMasks):
        names = {clip.name for clip in part}
        _tell_other_settings(out, [x for x in clips if x.name not in names], fingerprint)
    # Foreign files of these names are told before the work.
    if options.scale == "auto" and (out / RUN).exists() and read_record(out / RUN, _Run) is None:
        files.refuse_foreign([out / RUN], "this command")
    for name, columns in _TABLES.items():
        _rows_of_others(out / name, columns, set())
    try:
        if scheduler is None:
            _tell_unlike(predictor, jobs)
            run_clips(jobs, description="predict")
        else:
            tasks = (_ClipTask(clip, options, load, out, fingerprint, alone) for clip in part)
            run_by_others(scheduler, predict_clip, jobs, tasks, description="predict")
    finally:
        # Also after a failure: the counts so far are worth having.
        with files.exclusive(out):
            missing = _write_tables(out, jobs, clips, smoothing=options.smoothing)
            if scales := {job.clip.name: job.scale for job in jobs if job.scale is not None}:
                tell_scales(scales)
                # Beside those of other runs.
                known = (read_record(out / RUN, _Run) or _Run({})).scales | scales
                files.write_json(out / RUN, asdict(_Run(dict(sorted(known.items())))))
    judged = {job.clip.name: job.usual_sizes for job in jobs if job.usual_sizes is not None}
    scale = 1.0 if options.scale == "auto" else options.scale
    tell_sizes({job.clip.name: job.rows for job in jobs}, judged, scale)
    results = tuple(job.result() for job in jobs)
    return PredictResult(out, out / COUNTS, results, missing if shard else 0)


def _tell_other_settings(out: Path, others: Iterable[ClipInput], fingerprint: str) -> None:
    """Warn of clips that other shards have begun by other settings: a table would hold both."""
    if wrong := sorted(one.name for one in others if is_made_otherwise(one, out, fingerprint)):
        _log.warning(
            "%s: other shards have predicted %s with other settings or weights, or of other files:"
            " give all shards the same, and run those again",
            *(out, shortened(wrong)),
        )


def _tell_unlike(predictor: Predictor, jobs: Sequence[ClipJob]) -> None:
    """Warn of clips that are unlike all that the network has learnt from, of a few of them."""
    if not isinstance(predictor, KnowsItsData):
        return
    unlike: dict[str, float] = {}
    looked = [job.clip for job in jobs[:: -(-len(jobs) // _LOOKED_AT) or 1]]
    for clip in looked:
        # What cannot be read is told of when its turn comes.
        with suppress(DvosError, StopIteration):
            found = predictor.novelty(next(iter(clip.open())).image)
            if found is not None and found > 1:
                unlike[clip.name] = found
    if unlike:
        _log.warning(
            "%d of %d clips looked at are unlike all that the network has learnt from (%s; %.1f"
            " times as far as such pictures lie): do not trust their masks; label some and train",
            *(len(unlike), len(looked), shortened(list(unlike)), max(unlike.values())),
        )


def _write_tables(
    out: Path, jobs: Sequence[ClipJob], clips: Sequence[ClipInput], *, smoothing: int
) -> int:
    """Bring the tables of an output folder up to date; how many clips of the input they lack.

    Rows of this run take the place of what a table holds of its clips. Clips of this input stand in
    its order, whichever run predicted them, after those of others.
    """
    begun = {job.clip.name: job for job in jobs if job.begun}
    own: dict[str, Mapping[str, Sequence[Any]]] = {
        COUNTS: {x: finish_rows(x, job.rows, smoothing=smoothing) for x, job in begun.items()},
        # Of tracks that stay though none are asked for now, so do the totals.
        TOTALS: {
            name: job.totals
            for name, job in begun.items()
            if job.totals or not (out / f"{name}.tracks.csv").is_file()
        },
    }
    places = {clip.name: place for place, clip in enumerate(clips)}
    known: set[str] = set()
    for name, columns in _TABLES.items():
        rows: list[Sequence[Any]] = [*_rows_of_others(out / name, columns, own[name].keys())]
        rows += [astuple(row) for of_clip in own[name].values() for row in of_clip]
        rows.sort(key=lambda row: places.get(row[0], -1))
        if name == COUNTS:
            known = {*begun, *(row[0] for row in rows)}
        if rows or name == COUNTS or (out / name).exists():
            write_rows(out / name, columns, rows)
    return len(places.keys() - known)


def _rows_of_others(path: Path, columns: Sequence[str], own: Set[str]) -> list[list[str]]:
    """Rows of clips that other runs have put into a table, whose masks are still there."""

    def keep(row: Mapping[str, str]) -> bool:
        clip = row["clip"]
        there = files.is_plain_name(clip) and files.find_path(path.parent, clip, os.path.isdir)
        return clip not in own and bool(there)

    return rows_beside(path, columns, keep)


def _fingerprint(options: PredictionOptions) -> str:
    """Of the networks and of all options that masks and rows of frames depend on."""
    finder = options.first_mask_checkpoint
    found_by = None if finder is None else files.file_digest(finder)
    chosen = values_affecting(options, "result")
    return files.digest([_VERSION, files.file_digest(options.checkpoint), found_by, chosen])


class _ClipTask(NamedTuple):
    """A clip to predict, wherever that is done: paths are absolute, ``load`` can be imported."""

    clip: ClipInput
    options: PredictionOptions
    load: LoadPredictor
    out: Path
    fingerprint: str
    alone: bool


def _predictor(options: PredictionOptions, load: LoadPredictor) -> Predictor:
    """The predictor of options; of the scale ``auto`` at 1, from which it is measured."""
    finder = ("--first-mask-checkpoint", options.first_mask_checkpoint)
    files.check_given([], [("--checkpoint", options.checkpoint), finder])
    plain = {"scale": 1.0} if options.scale == "auto" else {}
    return load(options.model_copy(update=plain))


def predict_clip(task: _ClipTask) -> dict[str, Any]:
    """Predict what is left of a clip, on a worker."""
    key = (task.fingerprint, task.options.model_dump_json())
    with held(key, partial(_predictor, task.options, task.load)) as predictor:
        if isinstance(predictor, StartsFromMasks):
            predictor = predictor.of_clip(task.clip, alone=task.alone)
        job = ClipJob(task.clip, predictor, task.options, task.out, task.fingerprint)
        return run_for_others(job)
