"""One clip on its way from frames to files, and what of it is finished."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dvos.config.prediction import PredictionOptions
from dvos.errors import MediaError, OutputError
from dvos.files import digest, remove_leftovers, write_text
from dvos.media.frames import FrameSource
from dvos.prediction.inputs import ClipInput
from dvos.prediction.predictor import Predictor, StartsFromMasks
from dvos.prediction.write import (
    FrameWriter,
    write_all,
    write_objects_table,
    write_overlay_picture,
    write_overlay_video,
    write_run_lengths,
)

_log = logging.getLogger(__name__)

Row = dict[str, Any]


class ClipManifest:
    """One row for each finished frame, so that a killed run goes on at the next.

    A context manager while it grows. The file holds a JSON line with the
    fingerprint, one for each frame, in order, and a closing one. A line that a
    kill left torn ends the reading: its frame is predicted again.

    Args:
        path: The file.
        fingerprint: Of all that the frames' files depend on.
        complete: Whether the files of a row are there; a row without them is
            void, and so are those after it.

    Attributes:
        rows: Rows of the finished frames.
        finished: Whether the clip is complete.
        stale: Rows of an earlier run with another fingerprint; its files are
            to be removed.
        damage: What of the clip could not be decoded, once it is finished.
    """

    def __init__(self, path: Path, *, fingerprint: str, complete: Callable[[Row], bool]) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._stream: Any = None
        self.rows: list[Row] = []
        self.stale: list[Row] = []
        self.finished = False
        self.damage: list[str] = []
        lines = _lines(path)
        if not lines:
            return
        rows = [line for line in lines[1:] if "frame" in line]
        if lines[0].get("fingerprint") != fingerprint:
            self.stale = rows
            return
        for row in rows:
            if not complete(row):
                break
            self.rows.append(row)
        closing = lines[-1]
        if "frames" in closing and closing["frames"] == len(self.rows):
            self.finished = True
            self.damage = closing["damage"]

    def __enter__(self) -> Self:
        # Written anew without what was void, then appended to.
        lines: list[Row] = [{"fingerprint": self._fingerprint}, *self.rows]
        write_text(self._path, "".join(_text(line) for line in lines))
        try:
            self._stream = open(self._path, "a", encoding="utf-8")
        except OSError as error:
            raise self._error(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def append(self, row: Row) -> None:
        """Note a frame whose files are complete."""
        self._write(row)
        self.rows.append(row)

    def finish(self, damage: list[str]) -> None:
        """Note that the clip is complete."""
        self._write({"frames": len(self.rows), "damage": damage})
        self.finished = True
        self.damage = damage

    def frames_left(self, clip: ClipInput) -> int | None:
        """Frames of its clip that are not finished; None where that states no number.

        Raises:
            MediaError: If a video cannot be opened.
        """
        if self.finished:
            return 0
        count = 1 if clip.still else clip.frame_count()
        return None if count is None else max(0, count - len(self.rows))

    def _write(self, line: Row) -> None:
        try:
            self._stream.write(_text(line))
            self._stream.flush()
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> OutputError:
        return OutputError.at(
            self._path,
            f"the record of finished frames cannot be kept ({error.strerror or error})",
            remedy="free space and permissions there and start again: it goes on from there",
        )


def _text(line: Row) -> str:
    return json.dumps(line, ensure_ascii=True) + "\n"


def _lines(path: Path) -> list[Row]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError.at(
            path, f"cannot be read ({error.strerror or error})", remedy="remove it"
        ) from error
    lines: list[Row] = []
    for line in data.splitlines(keepends=True):
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            break
        # A name with a path in it is not of this program, which removes files by these names.
        if not isinstance(value, dict) or Path(name := str(value.get("frame", ""))).name != name:
            break
        lines.append(value)
    return lines


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


class ClipJob:
    """Predicts what is left of a clip and makes what was asked for.

    Args:
        clip: The clip.
        predictor: Segments it.
        options: What is written.
        out: The output folder.
        fingerprint: Of all that the frames' files depend on beside the clip's
            own files and its first masks.

    Attributes:
        clip: The clip.
        rows: Rows of the frames finished so far.
    """

    def __init__(
        self,
        clip: ClipInput,
        predictor: Predictor,
        options: PredictionOptions,
        out: Path,
        fingerprint: str,
    ) -> None:
        self.clip = clip
        self.rows: list[Row] = []
        self._predictor = predictor
        self._writer = FrameWriter(out / clip.name, options, predictor.calibration, clip.first)
        picture = f"overlays/{clip.name}.jpg" if clip.still else f"{clip.name}.mp4"
        self._overlay = out / picture if options.overlay else None
        self._run_lengths = out / f"{clip.name}.json" if options.run_lengths else None
        self._objects = out / f"{clip.name}.objects.csv" if options.instances else None
        self._record = out / ".progress" / f"{clip.name}.jsonl"
        self._fingerprint = fingerprint
        self._damage: list[str] = []
        self._continued_at = 0

    def remaining(self) -> int | None:
        """Frames still to predict, if the clip states its number."""
        try:
            return self._manifest().frames_left(self.clip)
        except MediaError:
            return None  # reported when the clip's turn comes

    def run(self) -> Iterator[None]:
        """Predict what is left of the clip; a step for each frame.

        Raises:
            MediaError: If its frames cannot be read.
            OutputError: If something cannot be written; what is done is kept.
            RunError: If memory runs out.
        """
        manifest = self._manifest()
        self.rows = manifest.rows
        self._continued_at = len(manifest.rows)
        self._remove_stale(manifest)
        if manifest.finished and all(path.is_file() for path in self._of_whole_clip()):
            self._damage = manifest.damage
            return
        source = self.clip.open()
        if not manifest.finished:
            with manifest:
                yield from self._predict(source, manifest)
        self._damage = manifest.damage
        self._finish(source)

    def result(self) -> ClipResult:
        """What was made, after :meth:`run`."""
        return ClipResult(
            name=self.clip.name,
            masks=self._writer.folder,
            frames=len(self.rows),
            overlay=self._overlay,
            damage=tuple(self._damage),
            continued_at=self._continued_at,
        )

    def _predict(self, source: FrameSource, manifest: ClipManifest) -> Iterator[None]:
        start = self.clip.first
        if manifest.rows:
            start += manifest.rows[-1]["frame_index"] + 1
        predictions = self._predictor.segment(source, start=start)
        for row in write_all(predictions, self._writer):
            manifest.append(row)
            yield
        if not manifest.rows:
            raise MediaError.at(self.clip.name, "has no frames", "at least one")
        for note in source.damage:
            _log.warning("%s: %s", self.clip.name, note)
        manifest.finish(list(source.damage))

    def _finish(self, source: FrameSource) -> None:
        """Make what is not there of a clip's files, from the finished files of its frames.

        Made from them alone, it is the same after a continued run as after an
        unbroken one.
        """
        masks = self._writer.folder
        if self._overlay and not self._overlay.is_file():
            if self.clip.still:
                write_overlay_picture(
                    self._overlay, next(iter(source.frames(self.clip.first))), masks
                )
            else:
                write_overlay_video(self._overlay, source, masks)
        if self._run_lengths and not self._run_lengths.is_file():
            names = [row["frame"] for row in self.rows]
            write_run_lengths(self._run_lengths, names, masks, source.size)
        if self._objects and not self._objects.is_file():
            write_objects_table(self._objects, self.rows, masks)

    def _of_whole_clip(self) -> list[Path]:
        return [path for path in (self._overlay, self._run_lengths, self._objects) if path]

    def _manifest(self) -> ClipManifest:
        mask_files: list[tuple[str, int, int]] = []
        if isinstance(self._predictor, StartsFromMasks):
            for path in self._predictor.mask_files:
                metadata = path.stat()
                mask_files.append((path.name, metadata.st_size, metadata.st_mtime_ns))
        return ClipManifest(
            self._record,
            fingerprint=digest([self._fingerprint, mask_files, self.clip.fingerprint()]),
            complete=lambda row: self._writer.is_complete(row["frame"]),
        )

    def _remove_stale(self, manifest: ClipManifest) -> None:
        """Remove what an earlier run left half-written, or with other input or settings."""
        if not manifest.finished:
            remove_leftovers(self._writer.folder)
        for row in manifest.stale:
            self._writer.remove(row["frame"])
        if not manifest.finished:
            for path in self._of_whole_clip():
                path.unlink(missing_ok=True)
