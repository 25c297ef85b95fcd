"""``dvos predict``: videos in; masks, counts and overlay videos out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvos.config.prediction import PredictionOptions, PredictionSettings
from dvos.errors import CheckpointError, FaultCollector, Gathered, MediaError, UsageError
from dvos.files import digest, file_digest, make_folder
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.job import ClipJob, ClipOutputs, ClipResult
from dvos.prediction.predictor import Predictor, load_predictor
from dvos.prediction.smoothing import finish_rows
from dvos.prediction.writing import FrameWriter
from dvos.runner import progress
from dvos.tables import CountRow, write_counts

__all__ = ["ClipResult", "PredictResult", "predict", "predict_clips"]

#: Raised whenever the same input and settings give other masks or rows than before.
_VERSION = 3

#: Options that neither masks nor the rows of single frames depend on.
_WITHOUT_EFFECT = frozenset(
    {
        "checkpoint",
        "device",
        "batch",
        "overlay",
        "run_lengths",
        "smoothing",
        # Their content counts, not where it lies.
        "first_mask",
        "first_mask_checkpoint",
    }
)


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


def predict(settings: PredictionSettings) -> PredictResult:
    """Segment every frame of an input.

    Writes ``<clip>/<frame>.png``, ``counts.csv`` and, as asked for, overlay
    videos, probabilities, numbered objects with a table of them, and the masks
    as run lengths. Started again it goes on at the next frame; a
    finished clip is passed over while input, checkpoint and settings are the
    same.

    Raises:
        UsageError: If input or device does not exist.
        TableError: If a CSV has faults.
        CheckpointError: If the checkpoint cannot be used.
        MediaError: If clips cannot be read, a fault for each; the others are
            finished first.
        OutputError: If something cannot be written; what is done is kept.
        RunError: If memory runs out.
    """
    return predict_clips(settings, settings.input, settings.out)


def predict_clips(options: PredictionOptions, source: Path, out: Path) -> PredictResult:
    """As :func:`predict`, with input and output given apart from the options."""
    predictor: Predictor | None = None
    with Gathered() as gathered:
        with gathered:
            predictor = _predictor(options)
        with gathered:
            clips = find_clips(
                source,
                stills=options.stills,
                context=predictor.context if predictor and options.stills else 0,
                pan_step=options.pan_step,
                seed=options.seed,
                frame_rate=options.frame_rate,
            )
    assert predictor is not None
    from dvos.prediction.xmem.clips import clip_predictors

    _check_places(clips, out)
    # Before anything is written: each clip's first mask is found and looked at here.
    predictors = clip_predictors(predictor, clips)
    make_folder(out)
    common = _fingerprint(options)
    jobs = [
        _job(clip, own, options, out, common) for clip, own in zip(clips, predictors, strict=True)
    ]
    return _run(jobs, out, smoothing=options.smoothing)


def _predictor(options: PredictionOptions) -> Predictor:
    if not options.checkpoint.is_file():
        raise CheckpointError.at(
            options.checkpoint, "no such file", "a trained network", "check --checkpoint"
        )
    return load_predictor(
        options.checkpoint,
        options.device,
        scale=options.scale,
        tile=options.tile,
        threshold=options.threshold,
        augment=options.augment,
        augment_scales=options.augment_scales,
        precision=options.precision,
        batch=options.batch,
        reference_interval=options.reference_interval,
        first_mask=options.first_mask,
        first_mask_checkpoint=options.first_mask_checkpoint,
        xmem=options.xmem,
    )


def _job(
    clip: ClipInput, predictor: Predictor, options: PredictionOptions, out: Path, common: str
) -> ClipJob:
    from dvos.prediction.xmem.clips import first_mask_fingerprint

    picture = f"overlays/{clip.name}.jpg" if clip.still else f"{clip.name}.mp4"
    return ClipJob(
        clip=clip,
        predictor=predictor,
        writer=FrameWriter(
            folder=out / clip.name,
            probabilities=options.probabilities,
            minimum_area=options.minimum_object_area,
            instances=options.instances,
            object_width=options.object_width,
            border=options.border_objects,
            knowledge=predictor.knowledge,
            ground_sampling_distance=options.ground_sampling_distance,
            first_index=clip.first,
        ),
        outputs=ClipOutputs(
            overlay=out / picture if options.overlay else None,
            run_lengths=out / f"{clip.name}.json" if options.run_lengths else None,
            objects=out / f"{clip.name}.objects.csv" if options.instances else None,
        ),
        record=out / ".progress" / f"{clip.name}.jsonl",
        fingerprint=digest([common, first_mask_fingerprint(predictor)]),
    )


def _run(jobs: Sequence[ClipJob], out: Path, *, smoothing: int) -> PredictResult:
    results: list[ClipResult] = []
    rows: list[CountRow] = []
    counts = out / "counts.csv"

    def frames() -> Iterator[None]:
        for job in jobs:
            try:
                yield from job.run()
            except MediaError as error:
                # One bad clip must not cost the others.
                faults.extend(error.faults)
                continue
            finally:
                finished = finish_rows(job.rows, smoothing=smoothing)
                rows.extend(CountRow(clip=job.clip.name, **row) for row in finished)
            results.append(job.result())

    with FaultCollector(MediaError) as faults:
        try:
            for _ in progress(frames(), description="predict", total=_total(jobs), unit="frame"):
                pass
        finally:
            # Also after a failure: the counts so far are worth having.
            write_counts(counts, rows)
    return PredictResult(out, counts, tuple(results))


def _check_places(clips: Sequence[ClipInput], out: Path) -> None:
    """Refuse an output folder in which results would replace the input itself."""
    with FaultCollector(UsageError) as faults:
        for clip in clips:
            masks, video = (out / clip.name).resolve(), (out / f"{clip.name}.mp4").resolve()
            for path in clip.files:
                place = path.resolve()
                if place.parent == masks or place == video:
                    faults.add(
                        out,
                        f"the results of clip {clip.name!r} would replace its frames, as {path}",
                        "a folder apart from the input",
                        "choose another --out",
                    )
                    break


def _total(jobs: Sequence[ClipJob]) -> int | None:
    """Frames still to predict; None where a clip does not state its number."""
    remaining = [job.remaining() for job in jobs]
    known = [number for number in remaining if number is not None]
    return sum(known) if len(known) == len(remaining) else None


def _fingerprint(options: PredictionOptions) -> str:
    """Of the checkpoint and of all options that masks and rows of frames depend on."""
    chosen = options.model_dump(
        mode="json", include=set(PredictionOptions.model_fields) - _WITHOUT_EFFECT
    )
    finder = options.first_mask_checkpoint
    found_by = None if finder is None else file_digest(finder)
    return digest([_VERSION, file_digest(options.checkpoint), found_by, chosen])
