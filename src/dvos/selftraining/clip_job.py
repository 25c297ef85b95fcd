"""One clip on its way from frames to pseudo-labels, and what of it is finished."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import digest
from dvos.media.frames import FrameSource
from dvos.media.image import write_image
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import write_mask
from dvos.prediction.inputs import ClipInput
from dvos.prediction.ledger import ClipLedger, frames_left
from dvos.selftraining.accept import Judgement
from dvos.selftraining.evidence import Evidence, gather_evidence
from dvos.selftraining.views import ViewedFrame

__all__ = ["ClipJob", "Judge", "Opine", "Row", "View", "frames_folder", "masks_folder"]

_log = logging.getLogger(__name__)

#: A frame's entry in the ledger and in ``pseudo_labels.json``.
Row = dict[str, Any]


class View(Protocol):
    """Predicts a clip in every view; see :func:`dvos.selftraining.views.view_clip`."""

    def __call__(
        self, source: FrameSource, *, start: int = 0
    ) -> Generator[ViewedFrame, None, None]:
        """Give the frames from ``start`` on."""


#: Mean, spread and agreement of a frame, and the second opinion on it if there is one,
#: to its labels; see :func:`dvos.selftraining.accept.judge`.
Judge = Callable[
    [NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None],
    Judgement,
]

#: Image of a frame to the second opinion on it; see :func:`dvos.selftraining.opinion.opinion_on`.
Opine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def masks_folder(out: Path, clip: ClipInput) -> Path:
    """Folder of a clip's masks in the output folder."""
    return out / "masks" / clip.name


def frames_folder(out: Path, clip: ClipInput) -> Path | None:
    """Folder of a clip's frames; None where they are image files already."""
    if clip.files[0].suffix.lower() in IMAGE_SUFFIXES:
        return None
    return out / "frames" / clip.name


class ClipJob:
    """Labels one clip.

    Args:
        clip: The clip.
        out: The output folder.
        fingerprint: Of all that the labels depend on besides the clip's files.
        view: Predicts it.
        opine: Gives the second opinion; None where there is none.
        judge: The rule.
        neighbours: Offsets of the frames a frame is compared with.
        interval: Every so many frames one is judged, the first included.
        frame_format: ``jpg`` or ``png``, of the frames of a video file.

    Attributes:
        clip: As given.
        rows: A row for each finished frame.
    """

    def __init__(
        self,
        clip: ClipInput,
        *,
        out: Path,
        fingerprint: str,
        view: View,
        opine: Opine | None,
        judge: Judge,
        neighbours: Sequence[int],
        interval: int,
        frame_format: str,
    ) -> None:
        self.clip = clip
        self.rows: list[Row] = []
        self._damage: list[str] = []
        self._out = out
        self._fingerprint = fingerprint
        self._view = view
        self._opine = opine
        self._judge = judge
        self._neighbours = tuple(neighbours)
        self._interval = interval
        self._frame_format = frame_format

    @property
    def masks(self) -> Path:
        """Folder of the clip's masks."""
        return masks_folder(self._out, self.clip)

    @property
    def frames(self) -> Path | None:
        """Folder of the clip's frames; None where they are image files already."""
        return frames_folder(self._out, self.clip)

    def image_of(self, row: Row) -> Path:
        """The image file of a finished frame."""
        if self.frames is not None:
            return self.frames / f"{row['frame']}.{self._frame_format}"
        # The files are listed in the order of the frame indices.
        return self.clip.files[row["frame_index"]]

    def mask_of(self, row: Row) -> Path | None:
        """The mask of a finished frame; None where it was not accepted."""
        return self.masks / f"{row['frame']}.png" if row["accepted"] else None

    def unreadable(self) -> list[str]:
        """What could not be decoded, after :meth:`run`: damage of a video, names of images."""
        if self.frames is not None:
            return self._damage
        # Not the notes of the source, which a continued run has only in part.
        found = {self.image_of(row) for row in self.rows}
        return [path.name for path in self.clip.files if path not in found]

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self._ledger().finished

    def remaining(self) -> int | None:
        """Frames left to do, if the clip states its number."""
        return frames_left(self.clip, self._ledger)

    def run(self) -> Iterator[None]:
        """Label what is left of the clip; a step for each frame.

        Raises:
            MediaError: If its frames cannot be read.
            RunError: If memory runs out.
        """
        ledger = self._ledger()
        for row in ledger.stale:
            for name in row.get("files", []):
                (self._out / name).unlink(missing_ok=True)
        self.rows = ledger.rows
        if not ledger.finished:
            source = self.clip.open()
            with ledger:
                for evidence in self._evidence(source, len(ledger.rows)):
                    ledger.append(self._finished(evidence))
                    yield
                if not ledger.rows:
                    raise MediaError.at(self.clip.name, "has no frames", "at least one")
                ledger.finish(list(source.damage))
        self._damage = ledger.damage
        for note in self._damage:
            _log.warning("%s: %s", self.clip.name, note)

    def _evidence(self, source: FrameSource, done: int) -> Iterator[Evidence]:
        """Evidence of the frames that are not finished."""
        first = self.clip.first
        if done:
            first += self.rows[-1]["frame_index"] + 1
        # What the first frame is compared with must be predicted again.
        start = max(0, first + min([0, *self._neighbours]))
        with closing(self._view(source, start=start)) as viewed:
            for evidence in gather_evidence(
                viewed,
                neighbours=self._neighbours,
                wanted=lambda index: index >= first and self._is_judged(index),
            ):
                if evidence.frame.frame_index >= first:
                    yield evidence

    def _is_judged(self, frame_index: int) -> bool:
        return (frame_index - self.clip.first) % self._interval == 0

    def _finished(self, evidence: Evidence) -> Row:
        """Write a frame's files and give its row."""
        frame = evidence.frame
        row: Row = {
            "frame": frame.name,
            "frame_index": frame.frame_index - self.clip.first,
            "accepted": False,
            "files": [],
        }
        mask = self.masks / f"{frame.name}.png"
        # One that a killed run with other settings wrote but did not note.
        mask.unlink(missing_ok=True)
        if evidence.agreement is None:
            row["reason"] = "not looked at, as interval says"
        else:
            opinion = None if self._opine is None else self._opine(frame.image)
            judgement = self._judge(frame.mean, frame.spread, evidence.agreement, opinion)
            row |= _summary(judgement)
            if judgement.accepted:
                write_mask(mask, judgement.labels)
                row["files"].append(f"masks/{self.clip.name}/{mask.name}")
        if self.frames is not None:
            write_image(self.image_of(row), frame.image)
            row["files"].append(f"frames/{self.clip.name}/{self.image_of(row).name}")
        return row

    def _ledger(self) -> ClipLedger:
        return ClipLedger(
            self._out / ".progress" / f"{self.clip.name}.jsonl",
            fingerprint=digest([self._fingerprint, self.clip.fingerprint()]),
            complete=lambda row: all((self._out / name).is_file() for name in row["files"]),
        )


def _summary(judgement: Judgement) -> Row:
    return {
        "accepted": judgement.accepted,
        "reason": judgement.reason,
        "object": round(judgement.object_share, 6),
        "background": round(judgement.background_share, 6),
        "unknown": round(judgement.unknown_share, 6),
    }
