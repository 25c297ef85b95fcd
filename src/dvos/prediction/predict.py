"""``dvos predict`` and ``dvos evaluate``: videos in; masks, counts, overlays and scores out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path

from dvos.config.base import values_affecting
from dvos.config.prediction import EvaluationSettings, PredictionOptions, PredictionSettings
from dvos.config.scoring import ScoringSettings
from dvos.errors import CheckpointError, FaultCollector, UsageError
from dvos.files import digest, exclusive, file_digest, is_plain_name, make_folder
from dvos.media.layout import inner_folder, list_folders
from dvos.prediction.counting import finish_rows
from dvos.prediction.inputs import find_clips
from dvos.prediction.job import ClipJob, ClipResult, check_names_free, check_places, run_clips
from dvos.prediction.predictor import Predictor, StartsFromMasks
from dvos.prediction.totals import TOTAL_COLUMNS
from dvos.scoring.score import Scores, score
from dvos.tables import COUNT_COLUMNS, rows_beside, write_counts, write_rows

__all__ = [
    "ClipResult",
    "EvaluationResult",
    "LoadPredictor",
    "PredictResult",
    "evaluate",
    "predict",
]

#: Raised whenever the same input and settings give other masks or rows than before.
_VERSION = 3

#: Loads the network of ``options.checkpoint``; :func:`dvos.registry.predictor_for` does.
LoadPredictor = Callable[[PredictionOptions], Predictor]


@dataclass(frozen=True)
class PredictResult:
    """What ``dvos predict`` made.

    Attributes:
        out: The output folder.
        counts: ``counts.csv``.
        clips: The clips in order.
    """

    out: Path
    counts: Path
    clips: tuple[ClipResult, ...]

    @property
    def frames(self) -> int:
        """Number of masks."""
        return sum(clip.frames for clip in self.clips)

    def __str__(self) -> str:
        clips = "1 clip" if len(self.clips) == 1 else f"{len(self.clips)} clips"
        return f"{self.frames} masks of {clips} in {self.out}; counts in {self.counts}"


@dataclass(frozen=True)
class EvaluationResult:
    """What ``dvos evaluate`` made.

    Attributes:
        prediction: Masks and counts, in ``predictions`` of the output folder.
        scores: Scores of the masks; ``scores.missing`` lists labelled frames
            that got none.
    """

    prediction: PredictResult
    scores: Scores

    def __str__(self) -> str:
        return f"{self.prediction}\n{self.scores}"


def predict(settings: PredictionSettings, load: LoadPredictor) -> PredictResult:
    """Segment every frame of an input.

    Writes ``<clip>/<frame>.png``, ``counts.csv`` and, as asked for, overlay
    videos, probabilities, numbered objects with a table of them, and the masks
    as run lengths. Started again it goes on at the next frame; a
    finished clip is passed over while input, checkpoint and settings are the
    same.

    Args:
        settings: What is segmented and how.
        load: Loads the network of the checkpoint.

    Raises:
        UsageError: If input or device does not exist.
        TableError: If a CSV has faults.
        CheckpointError: If the checkpoint cannot be used.
        MediaError: If clips cannot be read, a fault for each; the others are
            finished first.
        OutputError: If something cannot be written; what is done is kept.
        RunError: If memory runs out.
    """
    return _predict(settings, settings.input, settings.out, load)


def evaluate(settings: EvaluationSettings, load: LoadPredictor) -> EvaluationResult:
    """Predict the frames of labelled clips and score them against their masks.

    Writes ``predictions/`` as :func:`predict` does,
    and ``scores.csv``, ``scores.json`` and pictures as
    :func:`~dvos.scoring.score.score` does. Every frame of a clip is
    predicted, as later ones refer to earlier ones; the labelled are scored.

    Args:
        settings: What is predicted and scored, and how.
        load: Loads the network of the checkpoint.

    Raises:
        UsageError: If the frames of a truth folder are not given.
        DvosError: As predicting and scoring do.
    """
    source = settings.input or settings.truth
    if settings.input is None and source.is_dir():
        _check_frames(source)
    prediction = _predict(settings, source, settings.out / "predictions", load)
    scores = score(
        ScoringSettings(
            truth=settings.truth,
            predictions=prediction.out,
            out=settings.out,
            frames=settings.frames,
            images=None if source.suffix.lower() == ".csv" else source,
            overlay_interval=settings.overlay_interval,
            domain=settings.domain,
            # Photos follow each other in no order of time.
            temporal=not settings.stills,
            seed=settings.seed,
        )
    )
    return EvaluationResult(prediction, scores)


def _predict(
    options: PredictionOptions, source: Path, out: Path, load: LoadPredictor
) -> PredictResult:
    with FaultCollector() as faults:
        predictor = faults.collect(_load, options, load)
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
    check_places(clips, out, lambda clip: [out / clip.name, out / f"{clip.name}.mp4"])
    if options.format == "ctc":
        check_places(clips, out, lambda clip: [out / f"{clip.name}_RES"])
    own: list[Predictor | None] = [predictor] * len(clips)
    if isinstance(predictor, StartsFromMasks):
        # Before anything is written: each clip's first mask is found and looked at here.
        with FaultCollector() as faults:
            own = [faults.collect(predictor.of_clip, one, alone=len(clips) == 1) for one in clips]
    make_folder(out)
    fingerprint = _fingerprint(options)
    jobs = [
        ClipJob(clip, one, options, out, fingerprint)
        for clip, one in zip(clips, own, strict=True)
        if one is not None
    ]
    counts = out / "counts.csv"
    check_names_free(jobs)
    # Foreign files of these names are told before the work.
    _counts_of_others(counts, jobs)
    _rows_of_others(out / "totals.csv", TOTAL_COLUMNS, set())
    try:
        run_clips(jobs, description="predict")
    finally:
        # Also after a failure: the counts so far are worth having.
        rows = (finish_rows(job.clip.name, job.rows, smoothing=options.smoothing) for job in jobs)
        with exclusive(out):
            write_counts(counts, chain.from_iterable(rows), _counts_of_others(counts, jobs))
            _write_totals(out / "totals.csv", jobs)
    return PredictResult(out, counts, tuple(job.result() for job in jobs))


def _write_totals(path: Path, jobs: Sequence[ClipJob]) -> None:
    """Bring the totals up to date; there is no table where no clip has any."""
    rows = [row for job in jobs if job.begun and (row := job.totals()) is not None]
    own = {job.clip.name for job in jobs if job.begun}
    others = _rows_of_others(path, TOTAL_COLUMNS, own)
    if rows or others or path.exists():
        write_rows(path, TOTAL_COLUMNS, [*others, *(astuple(row) for row in rows)])


def _counts_of_others(counts: Path, jobs: Sequence[ClipJob]) -> list[list[str]]:
    """Rows of clips that other runs have put into the folder, whose masks are still there."""
    return _rows_of_others(counts, COUNT_COLUMNS, {job.clip.name for job in jobs if job.begun})


def _rows_of_others(path: Path, columns: Sequence[str], own: set[str]) -> list[list[str]]:
    def keep(row: Mapping[str, str]) -> bool:
        clip = row["clip"]
        return clip not in own and is_plain_name(clip) and (path.parent / clip).is_dir()

    return rows_beside(path, columns, keep)


def _load(options: PredictionOptions, load: LoadPredictor) -> Predictor:
    if not options.checkpoint.is_file():
        raise CheckpointError.at(
            options.checkpoint, "no such file", "a trained network", "check --checkpoint"
        )
    return load(options)


def _fingerprint(options: PredictionOptions) -> str:
    """Of the networks and of all options that masks and rows of frames depend on."""
    finder = options.first_mask_checkpoint
    found_by = None if finder is None else file_digest(finder)
    chosen = values_affecting(options, "result")
    return digest([_VERSION, file_digest(options.checkpoint), found_by, chosen])


def _check_frames(truth: Path) -> None:
    """See that a folder of truth, given as the input too, has folders ``frames``."""
    if not any(inner_folder(folder, "frames") for folder in (truth, *list_folders(truth))):
        raise UsageError.at(
            "input",
            f"not given, and {truth} holds no folder named frames",
            "the frames that the true masks belong to",
            "give them with --set input=FOLDER",
        )
