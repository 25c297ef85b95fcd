"""The record of finished tasks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from dvos.errors import OutputError

__all__ = ["Ledger", "Task"]

T = TypeVar("T")


@dataclass(frozen=True)
class Task(Generic[T]):
    """One piece of work.

    Attributes:
        key: Stable name, unique in the stage.
        item: What the function is called with; must pickle.
        fingerprint: Digest of everything that the result depends on.
    """

    key: str
    item: T
    fingerprint: str


class Ledger:
    """What is finished: a JSON line per task, appended by the parent alone.

    A later line for a key replaces an earlier one. A line that a kill left
    torn is passed over, which makes its task run again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent.absolute()
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise self._error(error) from error
        self._torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            try:
                entry = json.loads(line)
                fields = {name: entry[name] for name in ("fingerprint", "result", "files")}
                self._entries[entry["key"]] = fields
            except (ValueError, KeyError, TypeError):
                continue

    def finished(self, task: Task[Any]) -> dict[str, Any] | None:
        """The result of ``task`` if it is complete and unchanged."""
        entry = self._entries.get(task.key)
        if entry is None or entry["fingerprint"] != task.fingerprint:
            return None
        for name, size in entry["files"]:
            try:
                if (self._folder / name).stat().st_size != size:
                    return None
            except OSError:
                return None
        return self._result(entry)

    def append(self, task: Task[Any], result: dict[str, Any]) -> dict[str, Any]:
        """Note ``task`` as finished, safely on disk; give the result as it will be read back."""
        files = [
            [os.path.relpath(name, self._folder), Path(name).stat().st_size]
            for name in result.get("files", [])
        ]
        entry = {
            "key": task.key,
            "fingerprint": task.fingerprint,
            "result": {name: value for name, value in result.items() if name != "files"},
            "files": files,
        }
        line = json.dumps(entry, ensure_ascii=True).encode() + b"\n"
        try:
            with open(self._path, "ab") as stream:
                stream.write(b"\n" + line if self._torn else line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise self._error(error) from error
        self._torn = False
        return self._result(json.loads(line))

    def _result(self, entry: dict[str, Any]) -> dict[str, Any]:
        files = [os.path.normpath(self._folder / name) for name, _ in entry["files"]]
        return {**entry["result"], "files": files}

    def _error(self, error: OSError) -> OutputError:
        return OutputError.at(
            self._path,
            f"the record of finished work cannot be kept ({error.strerror or error})",
            remedy="free space and permissions there, or choose another place",
        )
