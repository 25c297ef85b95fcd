"""Labelling one clip: what of it is finished, and the files of its frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from dvos.config.selftraining import PseudoLabelSettings
from dvos.files import digest, is_plain_name
from dvos.media.frames import FrameSource
from dvos.media.image import write_image
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import write_mask
from dvos.prediction.inputs import ClipInput
from dvos.prediction.job import note_rows
from dvos.prediction.predictor import FramePrediction
from dvos.runner import ClipManifest, Row
from dvos.selftraining.filter import filter_frame, with_consistency
from dvos.selftraining.probe_fitting import View

_log = logging.getLogger(__name__)

#: Image of a frame to its probability by the feature probe, float32 (H, W).
Probe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError("no name of a file")
    return name


class LabelRow(BaseModel):
    """The row of a frame; shares are told of those that were looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    frame: Annotated[str, AfterValidator(_plain)]
    frame_index: int = Field(ge=0)
    accepted: bool
    reason: str
    object: FiniteFloat | None = None
    background: FiniteFloat | None = None
    unknown: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        shares = (self.object, self.background, self.unknown)
        if None in shares and (self.accepted or set(shares) != {None}):
            raise ValueError("shares are missing")
        return self


def result_folders(out: Path, clip: ClipInput) -> tuple[Path, Path | None]:
    """Folders of a clip's masks and of its frames; no second where they are image files already."""
    are_images = clip.files[0].suffix.lower() in IMAGE_SUFFIXES
    return out / "masks" / clip.name, None if are_images else out / "frames" / clip.name


class ClipJob:
    """Labels one clip; keeps to :class:`dvos.prediction.job.ClipWork`.

    Its ``fingerprint`` is that of all that the labels depend on besides the clip's files. After
    :meth:`run` there are ``rows``, one for each finished frame as in ``pseudo_labels.json``,
    ``damage``, what of a video could not be decoded, and ``intensity``, what became of samples of
    more than 8 bit.
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
        self.masks, self.frames = result_folders(settings.out, clip)
        self.rows: list[Row] = []
        self.damage: list[str] = []
        self.intensity = clip.intensity
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
            self._settings.out / ".progress" / f"{self.clip.name}.jsonl",
            source=self.clip.source,
            fingerprint=digest([self._fingerprint, self.clip.fingerprint()]),
            files=digest(self.clip.stamps()),
            row=LabelRow,
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
        self.damage, self.intensity = manifest.damage, manifest.intensity
        for note in self.damage:
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
        index = frame.frame_index - self.clip.first
        row: Row = {"frame": frame.name, "frame_index": index, "accepted": False}
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
