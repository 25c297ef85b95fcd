"""The journal of a mask: every edit, on disk before it is acknowledged, and so the way back."""

import base64
import glob
import hashlib
import itertools
import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from dvos.errors import OutputError
from dvos.files import append_text, parse_json, write_text
from dvos.labelling.edits import Ids, Patch

#: The last lines of a journal whose mask file holds everything.
_SETTLED = re.compile(rb'"file": "[0-9a-f]+"}\n{"at": [0-9]+, "saved": true}\n\Z')

#: What is told of a mask that somebody else wrote.
CHANGED = "was changed by another program"

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One edit."""

    token: str  # names it, so that an edit sent twice is made once
    patch: Patch
    group: str = ""  # names the change of a whole clip that it is a part of; empty by hand


def content_digest(ids: Ids) -> str:
    """Fingerprint of a mask's size and ids."""
    made = hashlib.blake2b(str(ids.shape).encode(), digest_size=16)
    made.update(ids.astype("<u2", copy=False).data)
    return made.hexdigest()


@dataclass
class Journal:
    """The edits of one mask, in a file of JSON lines that grows.

    A line ``file`` says what the mask file is about to hold, ``saved`` that it does; so it is known
    after a kill which edits the file has.
    """

    path: Path
    revision: int = 0  # grows with every edit, undo and redo, and never falls
    done: list[Entry] = field(default_factory=list)  # that can be undone, the latest last
    undone: list[Entry] = field(default_factory=list)  # that can be made again, the next one last
    tokens: set[str] = field(default_factory=set)  # of everything that was acknowledged
    began: int = 0  # the revision that it began at, where another program's mask held
    held: list[str] = field(default_factory=list)  # digests of what the mask file may hold by now
    begun: bool = False  # whether the file says what the first edit began from
    behind: bool = False  # whether the mask file lacked edits when the journal was opened

    @classmethod
    def open(cls, path: Path, ids: Ids, is_saved: bool) -> Self:
        """Read a journal, and make again, in the mask's ``ids``, what its file does not have.

        Where another program changed the mask, that holds: the old journal is set aside.
        """
        journal, lines = cls(path), read_lines(path)
        if not lines:
            return journal
        try:
            digest = content_digest(ids)
            held = max((line["at"] for line in lines if line.get("file") == digest), default=None)
            latest = max(line["at"] for line in lines)
            if held is not None and (is_saved or not any("saved" in line for line in lines)):
                for line in lines:
                    journal._take(line, ids if line["at"] > held else None)
                journal.began, journal.held = lines[0]["at"], [digest]
                journal.begun, journal.behind = True, journal.revision > held
                return journal
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _untrusted(path, f"cannot be trusted ({error})") from error
        journal.revision = latest
        return journal.set_aside()

    def set_aside(self) -> Self:
        """Begin anew where another program changed the mask, which holds; gives that journal."""
        if self.path.exists():
            # In a folder of its own: the name itself may be as long as a file's can be.
            numbers = (f"{number}.old" for number in itertools.count(self.revision))
            places = (self.path.parent / number / self.path.name for number in numbers)
            aside = next(place for place in places if not place.exists())
            aside.parent.mkdir(exist_ok=True)
            self.path.replace(aside)
            text = f"{CHANGED}: it holds, undo begins anew"
            _log.warning("%s: the mask %s (%s)", self.path.stem, text, aside)
        return type(self)(self.path, self.revision + 1, began=self.revision + 1)

    def begin(self, ids: Ids) -> None:
        """Note what the first edit begins from."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.saving(content_digest(ids), self.revision)
        self.begun = True

    def edit(self, entry: Entry) -> None:
        """Note an edit."""
        change = {"box": entry.patch.box, "xor": base64.b64encode(entry.patch.data).decode()}
        self._step("edit", entry.token, change | ({"group": entry.group} if entry.group else {}))

    def step(self, kind: Literal["undo", "redo"], token: str) -> Patch:
        """Note that an edit is undone or made again; gives its patch, which is to be applied."""
        patch = (self.done if kind == "undo" else self.undone)[-1].patch
        self._step(kind, token, {})
        return patch

    def saving(self, digest: str, revision: int) -> None:
        """Note what the mask file is about to hold, as of a revision."""
        self._append({"at": revision, "file": digest})
        self.held.append(digest)

    def has_noted(self, digest: str) -> bool:
        """Whether the mask file held this once, also by the journals that were set aside."""
        if digest in self.held:
            return True
        aside = self.path.parent.glob(f"*.old/{glob.escape(self.path.name)}")
        noted = f'"file": "{digest}"'.encode()
        return any(noted in path.read_bytes() for path in (self.path, *aside) if path.exists())

    def saved(self) -> None:
        """Note that the mask file holds what was told."""
        del self.held[:-1]
        self._append({"at": self.revision, "saved": True})

    def _step(self, kind: str, token: str, change: dict[str, Any]) -> None:
        line = {"at": self.revision + 1, kind: token, **change}
        self._append(line, sync=True)
        self._take(line, None)

    def _append(self, line: dict[str, Any], *, sync: bool = False) -> None:
        append_text(self.path, f"{json.dumps(line)}\n", sync=sync)

    def _take(self, line: dict[str, Any], ids: Ids | None) -> None:
        """Follow a line; ``ids`` are those that its change is yet to be made in."""
        if "edit" in line:
            patch = Patch(tuple(line["box"]), base64.b64decode(line["xor"], validate=True))
            self.done.append(Entry(line["edit"], patch, line.get("group", "")))
            self.undone.clear()
        elif "undo" in line:
            self.undone.append(self.done.pop())
            patch = self.undone[-1].patch
        elif "redo" in line:
            self.done.append(self.undone.pop())
            patch = self.done[-1].patch
        else:
            self.revision = max(self.revision, line["at"])
            return
        self.tokens.add(line.get("edit") or line.get("undo") or line["redo"])
        self.revision = line["at"]
        if ids is not None:
            patch.apply(ids)


def is_settled(path: Path) -> bool:
    """Whether a journal ends with what the mask file holds, or there is none."""
    with suppress(FileNotFoundError), open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - 200))
        return _SETTLED.search(stream.read()) is not None
    return True


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal; a last one that a kill left torn was not acknowledged, and goes."""
    if not path.exists():
        return []
    whole, end, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        write_text(path, (whole + end).decode())
    try:
        lines = [parse_json(line) for line in whole.splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is no object")
    except ValueError as error:
        raise _untrusted(path, f"cannot be read ({error})") from error
    return lines


def _untrusted(path: Path, found: str) -> OutputError:
    return OutputError.at(path, found, "the journal of edits", "move it away")
