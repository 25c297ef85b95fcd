"""What of a clip is finished, so that a killed run goes on at the next frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dvos.errors import MediaError, OutputError
from dvos.files import write_text
from dvos.prediction.inputs import ClipInput

__all__ = ["ClipLedger", "frames_left"]

Row = dict[str, Any]


class ClipLedger:
    """One row for each finished frame of a clip; a context manager while it grows.

    The file holds a JSON line with the fingerprint, one for each frame, in
    order, and a closing one. A line that a kill left torn ends the reading:
    its frame is predicted again.

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
        if not isinstance(value, dict):
            break
        lines.append(value)
    return lines


def frames_left(clip: ClipInput, open_ledger: Callable[[], ClipLedger]) -> int | None:
    """Frames of a clip that are not finished; None where it does not state its number."""
    try:
        ledger = open_ledger()
        if ledger.finished:
            return 0
        count = 1 if clip.still else clip.frame_count()
    except MediaError:
        return None  # reported when the clip's turn comes
    return None if count is None else max(0, count - len(ledger.rows))
