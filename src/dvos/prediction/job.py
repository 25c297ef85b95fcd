"""One clip on its way from frames to files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.errors import MediaError
from dvos.files import digest, remove_leftovers
from dvos.media.frames import FrameSource
from dvos.prediction.inputs import ClipInput
from dvos.prediction.ledger import ClipLedger, frames_left
from dvos.prediction.object_table import object_files, write_objects_table
from dvos.prediction.overlays import write_overlay_picture, write_overlay_video
from dvos.prediction.predictor import Predictor
from dvos.prediction.run_lengths import write_run_lengths
from dvos.prediction.writing import FrameWriter, write_all

__all__ = ["ClipJob", "ClipOutputs", "ClipResult"]

_log = logging.getLogger(__name__)

Rows = Sequence[dict[str, Any]]


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
class ClipOutputs:
    """What is made of a finished clip beside its masks; None = not asked for.

    Attributes:
        overlay: Overlay video, or overlay picture of a still.
        run_lengths: The masks in one file.
        objects: The table of the objects.
    """

    overlay: Path | None = None
    run_lengths: Path | None = None
    objects: Path | None = None

    @property
    def asked_for(self) -> list[Path]:
        """Those that are to be made."""
        return [path for path in (self.overlay, self.run_lengths, self.objects) if path]

    def are_there(self) -> bool:
        """Whether all asked for exist."""
        return all(path.is_file() for path in self.asked_for)

    def make(self, clip: ClipInput, source: FrameSource, writer: FrameWriter, rows: Rows) -> None:
        """Make what is not there, from the finished files of the frames.

        Made from them alone, it is the same after a continued run as after an
        unbroken one.

        Raises:
            MediaError: If a frame or one of its files cannot be read.
            OutputError: If something cannot be written.
        """
        if self.overlay and not self.overlay.is_file():
            if clip.still:
                photo = next(iter(source.frames(clip.first)))
                write_overlay_picture(self.overlay, photo, writer.folder)
            else:
                write_overlay_video(self.overlay, source, writer.folder)
        if self.run_lengths and not self.run_lengths.is_file():
            names = [row["frame"] for row in rows]
            write_run_lengths(self.run_lengths, names, writer.folder, source.size)
        if self.objects and not self.objects.is_file():
            write_objects_table(self.objects, rows, writer.folder)


class ClipJob:
    """Predicts what is left of a clip and makes what was asked for.

    Args:
        clip: The clip.
        predictor: Segments it.
        writer: Writes and measures its frames.
        outputs: What is made of the finished clip.
        record: File that notes the finished frames.
        fingerprint: Of all that the frames' files depend on beside the clip's own.

    Attributes:
        clip: The clip.
        rows: Rows of the frames finished so far.
    """

    def __init__(
        self,
        *,
        clip: ClipInput,
        predictor: Predictor,
        writer: FrameWriter,
        outputs: ClipOutputs,
        record: Path,
        fingerprint: str,
    ) -> None:
        self.clip = clip
        self.rows: list[dict[str, Any]] = []
        self._predictor = predictor
        self._writer = writer
        self._outputs = outputs
        self._record = record
        self._fingerprint = fingerprint
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
        if ledger.finished and self._outputs.are_there():
            self._damage = ledger.damage
            return
        source = self.clip.open()
        if not ledger.finished:
            with ledger:
                yield from self._predict(source, ledger)
        self._damage = ledger.damage
        self._outputs.make(self.clip, source, self._writer, self.rows)

    def result(self) -> ClipResult:
        """What was made, after :meth:`run`."""
        return ClipResult(
            name=self.clip.name,
            masks=self._writer.folder,
            frames=len(self.rows),
            overlay=self._outputs.overlay,
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
        return ClipLedger(self._record, fingerprint=fingerprint, complete=self._has_files)

    def _has_files(self, row: dict[str, Any]) -> bool:
        needed = [self._mask(row)]
        if self._writer.probabilities:
            needed.append(self._probability(row))
        if self._writer.instances:
            needed += object_files(self._writer.folder, row["frame"])
        return all(path.is_file() for path in needed)

    def _mask(self, row: dict[str, Any]) -> Path:
        return self._writer.folder / f"{row['frame']}.png"

    def _probability(self, row: dict[str, Any]) -> Path:
        return self._writer.folder / "probabilities" / f"{row['frame']}.png"

    def _remove_stale(self, ledger: ClipLedger) -> None:
        """Remove what an earlier run left half-written, or with other input or settings."""
        if not ledger.finished:
            remove_leftovers(self._writer.folder)
        for row in ledger.stale:
            self._mask(row).unlink(missing_ok=True)
            self._probability(row).unlink(missing_ok=True)
            for path in object_files(self._writer.folder, row["frame"]):
                path.unlink(missing_ok=True)
        if not ledger.finished:
            for path in self._outputs.asked_for:
                path.unlink(missing_ok=True)
