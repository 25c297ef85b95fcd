"""The network and the feature probe of a labelling run, loaded here or by a cluster's workers."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from dvos.config.base import values_affecting
from dvos.config.prediction import PredictorOptions
from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import RunError
from dvos.files import digest, exclusive, file_digest, is_plain_name
from dvos.media.frames import AnyFrames, FrameSource
from dvos.media.image import write_image
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import write_mask
from dvos.prediction.inputs import ClipInput
from dvos.prediction.job import held, note_rows, run_for_others
from dvos.prediction.predictor import FramePrediction, Views
from dvos.registry import features_of, predictor_of
from dvos.runner.manifest import ClipManifest, Row
from dvos.selftraining.filter import filter_frame, filter_pixels, with_consistency
from dvos.selftraining.probe import FeatureProbe
from dvos.selftraining.probe_fitting import NO_PROBE, PROBE, ProbeRecord, View, probe_for

_log = logging.getLogger(__name__)

#: Image of a frame to its probability by the feature probe, float32 (H, W).
Probe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class LabelRow(BaseModel):
    """The row of a frame; shares are told of those that were looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    frame: str
    frame_index: int = Field(ge=0)
    accepted: bool
    reason: str
    object: FiniteFloat | None = None
    background: FiniteFloat | None = None
    unknown: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not is_plain_name(self.frame):
            raise ValueError("no name of a file")
        shares = (self.object, self.background, self.unknown)
        if None in shares and (self.accepted or set(shares) != {None}):
            raise ValueError("shares are missing")
        return self


def result_folders(out: Path, clip: ClipInput) -> tuple[Path, Path | None]:
    """Folders of a clip's masks and of its frames; no second where they are image files already."""
    are_images = clip.files[0].suffix.lower() in IMAGE_SUFFIXES
    return out / "masks" / clip.name, None if are_images else out / "frames" / clip.name


@dataclass(eq=False)
class ClipJob:
    """Labels one clip; keeps to :class:`dvos.prediction.places.ClipWork`."""

    outcome: ClassVar[tuple[str, ...]] = ("rows", "damage", "intensity")
    clip: ClipInput
    settings: PseudoLabelSettings
    fingerprint: str  # Of all that the labels depend on besides the clip's files.
    view: View
    probe: Probe | None
    # After a run: a row for each finished frame as in ``pseudo_labels.json``, what of a video could
    # not be decoded, and what became of samples of more than 8 bit.
    rows: list[Row] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    intensity: str = ""

    def __post_init__(self) -> None:
        self.masks, self.frames = result_folders(self.settings.out, self.clip)
        self.intensity = self.clip.intensity

    def image_of(self, row: Row) -> Path:
        """The image file of a finished frame."""
        if self.frames is not None:
            return self.frames / f"{row['frame']}.{self.settings.frame_format}"
        return self.clip.files[row["frame_index"]]  # in the order of the indices

    def mask_of(self, row: Row) -> Path | None:
        """The mask of a finished frame; None where it was not accepted."""
        return self.masks / f"{row['frame']}.png" if row["accepted"] else None

    def places(self) -> list[Path]:
        """The folders of its masks and, of a video file, of its frames."""
        return [place for place in (self.masks, self.frames) if place is not None]

    def unreadable(self) -> list[str]:
        """What could not be decoded, after :meth:`run`: damage of a video, names of images."""
        if self.frames is not None:
            return self.damage
        # Not the notes of the source, which a continued run has only in part.
        found = {self.image_of(row) for row in self.rows}
        return [path.name for path in self.clip.files if path not in found]

    def manifest(self) -> ClipManifest:
        """What of the clip is finished."""

        def complete(row: Row) -> bool:
            if self.frames is None and row["frame_index"] >= len(self.clip.files):
                return False
            files = [self.mask_of(row), None if self.frames is None else self.image_of(row)]
            return all(path.is_file() for path in files if path is not None)

        return ClipManifest(
            self.settings.out / ".progress" / f"{self.clip.name}.jsonl",
            source=self.clip.source,
            fingerprint=digest([self.fingerprint, self.clip.fingerprint()]),
            files=digest(self.clip.stamps()),
            row=LabelRow,
            complete=complete,
        )

    def run(self) -> Iterator[None]:
        """Label what is left of the clip; a step for each frame, of which one may be unreadable."""
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
        self.damage, self.intensity = manifest.damage, manifest.intensity
        for note in self.damage:
            _log.warning("%s: %s", self.clip.name, note)

    def _labelled(self, source: FrameSource) -> Iterator[Row]:
        """Rows of the frames that are not finished, whose files are written."""
        first, neighbours = self.clip.first, self.settings.neighbours
        if self.rows:
            first += self.rows[-1]["frame_index"] + 1

        def wanted(index: int) -> bool:
            return index >= first and (index - self.clip.first) % self.settings.interval == 0

        # What the first frame is compared with must be predicted again.
        start = max(0, first + min([0, *neighbours]))
        with closing(self.view(source, start=start)) as predicted:
            compared = with_consistency(predicted, neighbours=neighbours, wanted=wanted)
            for frame, consistency in compared:
                if frame.frame_index >= first:
                    yield self._finished(frame, consistency)

    def _finished(self, frame: FramePrediction, consistency: NDArray[np.float32] | None) -> Row:
        """Write a frame's files and give its row."""
        index = frame.frame_index - self.clip.first
        row: Row = {"frame": frame.name, "frame_index": index, "accepted": False}
        mask = self.masks / f"{frame.name}.png"
        mask.unlink(missing_ok=True)  # a killed run with other settings may have left it
        if consistency is None:
            row["reason"] = "not looked at, as interval says"
        else:
            assert frame.std is not None
            probe = None if self.probe is None else self.probe(frame.image)
            criteria = self.settings.filter
            labels = filter_pixels(frame.probability, frame.std, consistency, probe, criteria)
            row |= filter_frame(labels, criteria)
            if row["accepted"]:
                write_mask(mask, labels)
        if self.frames is not None:
            write_image(self.image_of(row), frame.image)
        return row


_VERSION = 2  # raised whenever the same input and settings give other labels


def fingerprint_of(settings: PseudoLabelSettings, *products: str) -> str:
    """Of the checkpoint, and of the settings that affect some products."""
    chosen = values_affecting(settings, *products)
    return digest([_VERSION, file_digest(settings.checkpoint), chosen])


class Labeller:
    """What labels clips: the network in every view, and the reader of its features.

    A CheckpointError if the checkpoint does not do, a UsageError if there is no such device.
    """

    def __init__(self, settings: PseudoLabelSettings) -> None:
        shared = ("device", "precision", "batch", "tile", "reference_interval", "intensity")
        options = PredictorOptions(**{name: getattr(settings, name) for name in shared})
        self._settings = settings
        self.predictor = predictor_of(settings.checkpoint, options)
        self._views = Views(tuple(settings.scales), settings.flips)
        given = settings.checkpoint, settings.device
        self._reader = features_of(*given, tile=settings.tile) if settings.probe else None
        self._probe: Probe | None = None

    def view(self, source: AnyFrames, *, start: int) -> Generator[FramePrediction, None, None]:
        """Predict frames in every view, from the frame ``start`` on."""
        yield from self.predictor.segment_views(source, self._views, start=start)

    def fit_probe(self, clips: Sequence[ClipInput]) -> ProbeRecord:
        """Fit the probe on frames of all clips, or take up the one that is there, and use it.

        Of several runs on one folder that begin at once one fits it, and the others wait.
        """
        out, reader = self._settings.out, self._reader
        if reader is None:
            (out / PROBE).unlink(missing_ok=True)
            return NO_PROBE
        fingerprint, context = fingerprint_of(self._settings, "result"), self.predictor.context
        with exclusive(out, "probe"):
            probe, record = probe_for(
                clips, self._settings, fingerprint, view=self.view, reader=reader, context=context
            )
        self._probe = None if probe is None else partial(probe.of_frame, reader=reader)
        return record

    def load_probe(self, fitted: str | None) -> None:
        """Use the probe that another process fitted, by its digest; none by None."""
        self._probe = None
        if fitted is None:
            return
        path = self._settings.out / PROBE
        if not path.is_file() or file_digest(path) != fitted:
            remedy = "see that all machines have the same files, and run the same command again"
            raise RunError.at(path, "is not the probe that was fitted for this run", remedy=remedy)
        assert self._reader is not None
        self._probe = partial(FeatureProbe.load(path).of_frame, reader=self._reader)

    def job(self, clip: ClipInput, fingerprint: str) -> ClipJob:
        """The labelling of a clip; ``fingerprint`` as of :class:`ClipJob`."""
        return ClipJob(clip, self._settings, fingerprint, self.view, self._probe)


@dataclass(frozen=True)
class LabelTask:
    """Work for a worker: to fit the probe on clips, or with a fingerprint to label one."""

    settings: PseudoLabelSettings  # Of the run, with absolute paths.
    clips: tuple[ClipInput, ...]
    fingerprint: str = ""  # As of :class:`ClipJob`.
    probe: str | None = None  # Its digest; None where there is none.


def do_on_worker(task: LabelTask) -> Row:
    """The ``record`` of a fit; of a label what :func:`run_for_others` gives."""
    key = (file_digest(task.settings.checkpoint), task.settings.model_dump_json())
    with held(key, partial(Labeller, task.settings)) as labeller:
        if not task.fingerprint:
            return {"record": labeller.fit_probe(task.clips)}
        labeller.load_probe(task.probe)
        return run_for_others(labeller.job(task.clips[0], task.fingerprint))
