"""``dvos predict``: videos in; masks, counts and overlay videos out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.config.prediction import PredictionOptions, PredictionSettings
from dvos.errors import CheckpointError, FaultCollector, MediaError, UsageError
from dvos.files import digest, file_digest, make_folder
from dvos.media.video import FrameSource
from dvos.prediction.inputs import ClipInput, find_clips
from dvos.prediction.ledger import ClipLedger, frames_left
from dvos.prediction.predictor import Predictor, load_predictor
from dvos.prediction.writing import (
    COUNT_COLUMNS,
    FrameWriter,
    write_all,
    write_overlay_picture,
    write_overlay_video,
)
from dvos.runner import progress
from dvos.tables import write_rows

__all__ = ["ClipResult", "PredictResult", "predict", "predict_clips"]

_log = logging.getLogger(__name__)

#: Raised whenever the same input and settings give other masks than before.
_VERSION = 1


@dataclass(frozen=True)
class ClipResult:
    """What was made of a clip.

    Attributes:
        name: Of the clip.
        masks: Folder of its masks.
        frames: Number of masks.
        overlay: Overlay video, or overlay picture of a still, if asked for.
        damage: What of its frames could not be decoded.
        continued_at: Frames that an earlier run had finished; equal to
            ``frames`` where nothing was left to do.
    """

    name: str
    masks: Path
    frames: int
    overlay: Path | None
    damage: tuple[str, ...]
    continued_at: int


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
    videos and probabilities. Started again it goes on at the next frame; a
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
    if not options.checkpoint.is_file():
        raise CheckpointError.at(
            options.checkpoint, "no such file", "a trained network", "check --checkpoint"
        )
    predictor = load_predictor(
        options.checkpoint,
        options.device,
        scale=options.scale,
        tile=options.tile,
        threshold=options.threshold,
        augment=options.augment,
        precision=options.precision,
        batch=options.batch,
        reference_interval=options.reference_interval,
    )
    clips = find_clips(
        source,
        stills=options.stills,
        context=predictor.context if options.stills else 0,
        pan_step=options.pan_step,
        seed=options.seed,
        frame_rate=options.frame_rate,
    )
    _check_places(clips, out)
    make_folder(out)
    common = _fingerprint(options)
    jobs = [
        _ClipJob(
            clip=clip,
            predictor=predictor,
            out=out,
            fingerprint=common,
            probabilities=options.probabilities,
            overlay=options.overlay,
            minimum_area=options.minimum_object_area,
        )
        for clip in clips
    ]
    return _run(jobs, out)


def _run(jobs: Sequence[_ClipJob], out: Path) -> PredictResult:
    results: list[ClipResult] = []
    rows: list[dict[str, Any]] = []
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
                rows.extend({"clip": job.clip.name, **row} for row in job.rows)
            results.append(job.result())

    with FaultCollector(MediaError) as faults:
        try:
            for _ in progress(frames(), description="predict", total=_total(jobs), unit="frame"):
                pass
        finally:
            # Also after a failure: the counts so far are worth having.
            write_rows(counts, COUNT_COLUMNS, [[r[name] for name in COUNT_COLUMNS] for r in rows])
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


def _total(jobs: Sequence[_ClipJob]) -> int | None:
    """Frames still to predict; None where a clip does not state its number."""
    remaining = [job.remaining() for job in jobs]
    known = [number for number in remaining if number is not None]
    return sum(known) if len(known) == len(remaining) else None


def _fingerprint(options: PredictionOptions) -> str:
    """Of the checkpoint and of all options that masks and counts depend on.

    Device, batch and the kind of output are left out: they do not change a
    mask.
    """
    names = ("scale", "tile", "threshold", "augment", "precision", "reference_interval",
             "pan_step", "minimum_object_area", "probabilities", "frame_rate", "seed")  # fmt: skip
    chosen = {name: getattr(options, name) for name in names}
    return digest([_VERSION, file_digest(options.checkpoint), chosen])


class _ClipJob:
    """One clip on its way from frames to files."""

    def __init__(
        self,
        *,
        clip: ClipInput,
        predictor: Predictor,
        out: Path,
        fingerprint: str,
        probabilities: bool,
        overlay: bool,
        minimum_area: int,
    ) -> None:
        self.clip = clip
        self.masks = out / clip.name
        self.rows: list[dict[str, Any]] = []
        self._predictor = predictor
        self._fingerprint = fingerprint
        self._ledger_path = out / ".progress" / f"{clip.name}.jsonl"
        self._picture: Path | None = None
        if overlay:
            name = f"overlays/{clip.name}.jpg" if clip.still else f"{clip.name}.mp4"
            self._picture = out / name
        self._writer = FrameWriter(
            folder=self.masks,
            probabilities=probabilities,
            minimum_area=minimum_area,
            first_index=clip.first,
        )
        self._damage: list[str] = []
        self._continued_at = 0

    def remaining(self) -> int | None:
        """Frames still to predict, if the clip states its number."""
        return frames_left(self.clip, self._ledger)

    def run(self) -> Iterator[None]:
        """Predict what is left of the clip; a step for each frame."""
        ledger = self._ledger()
        self.rows = ledger.rows
        self._continued_at = len(ledger.rows)
        self._remove_stale(ledger)
        if ledger.finished and self._has_picture():
            self._damage = ledger.damage
            return
        source = self.clip.open()
        if not ledger.finished:
            with ledger:
                yield from self._predict(source, ledger)
        self._damage = ledger.damage
        if not self._has_picture():
            self._draw(source)

    def result(self) -> ClipResult:
        """What was made, after :meth:`run`."""
        return ClipResult(
            name=self.clip.name,
            masks=self.masks,
            frames=len(self.rows),
            overlay=self._picture,
            damage=tuple(self._damage),
            continued_at=self._continued_at,
        )

    def _predict(self, source: FrameSource, ledger: ClipLedger) -> Iterator[None]:
        start = self.clip.first
        if ledger.rows:
            start += ledger.rows[-1]["frame_index"] + 1
        predictions = self._predictor.segment(source, start=start)
        for row in write_all(predictions, self._writer):
            ledger.append(row)
            yield
        if not ledger.rows:
            raise MediaError.at(self.clip.name, "has no frames", "at least one")
        for note in source.damage:
            _log.warning("%s: %s", self.clip.name, note)
        ledger.finish(list(source.damage))

    def _ledger(self) -> ClipLedger:
        fingerprint = digest([self._fingerprint, self.clip.fingerprint()])
        return ClipLedger(self._ledger_path, fingerprint=fingerprint, complete=self._has_mask)

    def _has_mask(self, row: dict[str, Any]) -> bool:
        return (self.masks / f"{row['frame']}.png").is_file()

    def _has_picture(self) -> bool:
        return self._picture is None or self._picture.is_file()

    def _draw(self, source: FrameSource) -> None:
        if self._picture is None:
            return
        if self.clip.still:
            photo = next(iter(source.frames(self.clip.first)))
            write_overlay_picture(self._picture, photo, self.masks)
        else:
            write_overlay_video(self._picture, source, self.masks)

    def _remove_stale(self, ledger: ClipLedger) -> None:
        """Remove what an earlier run with other input or settings left."""
        for row in ledger.stale:
            (self.masks / f"{row['frame']}.png").unlink(missing_ok=True)
            (self.masks / "probabilities" / f"{row['frame']}.png").unlink(missing_ok=True)
        if self._picture is not None and not ledger.finished:
            self._picture.unlink(missing_ok=True)
