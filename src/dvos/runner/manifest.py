"""Records of finished work beside the outputs: JSON lines, from which a stopped run goes on.

Archives and the file systems of Macs may write an accented letter as two characters: results whose
names a copy has taken apart get them back, else they would be made again beside what is there.
"""

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from dvos.errors import OutputError
from dvos.files import (
    absolute,
    append_text,
    composed,
    find_path,
    is_plain_name,
    parse_json,
    write_text,
)

T = TypeVar("T")
Row = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task(Generic[T]):
    """One piece of work."""

    key: str  # Stable name, unique in the stage.
    item: T  # What the function is called with; must pickle.
    fingerprint: str  # Digest of everything that the result depends on.
    # What a result read back must be, without its files: a type that pydantic checks. One that is
    # not, of another release perhaps, is work not yet done.
    result: Any = dict
    source: Path | None = None  # What it is made of, if others of that name must be told apart.


class Manifest:
    """What is finished of some tasks, a line for each; a later line replaces an earlier one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = str(path.parent.absolute())
        lines = _read_lines(path, _is_task)
        self._entries = {line["key"]: line for line in lines if line is not None}
        self._unsound = None in lines or path.is_symlink()
        files = [file for entry in self._entries.values() for file in entry["files"]]
        on_disk = names_on_disk(self._folder, (name for name, _ in files))
        for file in files if on_disk else ():
            file[0] = on_disk.get(file[0], file[0])

    def finished(self, task: Task[Any]) -> Row | None:
        """The result of ``task`` if it is complete and unchanged."""
        entry = self._entries.get(task.key)
        if entry is None or entry["fingerprint"] != task.fingerprint:
            return None
        try:
            for name, size in entry["files"]:
                if os.stat(f"{self._folder}/{name}").st_size != size:  # noqa: PTH116
                    return None
        except (OSError, ValueError):
            return None
        if not _is_of(task.result, entry["result"]):
            _warn(self._path, "results lack what this release needs: that work is done again")
            return None
        return self._result(entry)

    def is_other(self, task: Task[Any]) -> bool:
        """Whether files stand here of a task of this name that was another one."""
        entry = self._entries.get(task.key)
        if entry is None or entry["fingerprint"] == task.fingerprint:
            return False
        return any(os.path.lexists(f"{self._folder}/{name}") for name, _ in entry["files"])

    def other_source(self, task: Task[Any]) -> str | None:
        """Where the files of another task of this name are from, if not from the task's source."""
        known = self._entries[task.key].get("source") if self.is_other(task) else None
        return _other_place(known, _places(task.source, self._path))

    def knows_none(self, tasks: Sequence[Task[Any]]) -> bool:
        """Whether all that is noted was made of other sources than the tasks'."""
        known = {str(x) for entry in self._entries.values() for x in entry.get("source", ())}
        places = (place for task in tasks for place in _places(task.source, self._path))
        if not known or not known.isdisjoint(places):
            return False
        # A source that was moved is the same.
        return not any(self.finished(task) for task in tasks)

    def begin(self) -> None:
        """Make the file, which tells whose the work is; leave out what cannot be trusted."""
        if self._unsound:
            write_text(self._path, "".join(_line(known) for known in self._entries.values()))
            self._unsound = False
        append_text(self._path, "")

    def append(self, task: Task[Any], result: Row) -> Row:
        """Note ``task`` as finished, safely on disk; give the result as it will be read back."""
        names = map(str, result.get("files", []))
        files = [[self._relative(name), os.stat(name).st_size] for name in names]  # noqa: PTH116
        entry = {
            "key": task.key,
            "fingerprint": task.fingerprint,
            "result": {name: value for name, value in result.items() if name != "files"},
            "files": files,
            "source": _places(task.source, self._path),
        }
        self.begin()
        line = _line(entry)
        append_text(self._path, line, sync=True)
        return self._result(parse_json(line))

    def _result(self, entry: Row) -> Row:
        files = [absolute(f"{self._folder}/{name}") for name, _ in entry["files"]]
        return {**entry["result"], "files": files}

    def _relative(self, name: str) -> str:
        # One task may have written hundreds of thousands of files: text is joined and cut.
        whole, folder = absolute(name), f"{self._folder}/"
        return whole[len(folder) :] if whole.startswith(folder) else os.path.relpath(whole, folder)


class ClipManifest:
    """What is finished of a clip: a line for each frame, in order, between a first and a last.

    The first holds the fingerprint of all that the frames' files depend on, the last what could not
    be decoded, of which lines between tell as it is met. Reading ends at a line that is spoilt, no
    ``row`` or not ``complete``.
    """

    def __init__(
        self,
        path: Path,
        *,
        fingerprint: str,
        source: Path,
        complete: Callable[[Row], bool],
        files: str = "",
        row: Any = dict,
    ) -> None:
        self._path = path
        places = _places(source, path)
        self._first = {"fingerprint": fingerprint, "source": places, "files": files}
        self.is_new = not os.path.lexists(path)  # Whether no run has begun with the clip.
        # The source of an earlier run, where it was another one with other files.
        self.other: str | None = None
        # Whether an earlier run read other files there: edited since, or on another disk.
        self.replaced = False
        self.rows: list[Row] = []  # Of the finished frames.
        # Rows of an earlier run, with plain names, whose files are to be removed.
        self.stale: list[Row] = []
        self.finished = False
        self._made: list[str] = []  # Whatever runs are to have made, from the record's folder.
        self._tells_made = True  # No earlier release did.
        self.damage: list[str] = []  # What could not be decoded, as far as runs have come.
        self.intensity = "full"  # What became of samples of more than 8 bit, then.
        lines = _read_lines(path, _is_of_clip)
        if not lines:
            return
        first = lines[0] or {}
        made = first.get("made")
        self._tells_made = isinstance(made, list)
        self._made = [*map(str, made)] if isinstance(made, list) else []
        if first.get("fingerprint") != fingerprint:
            self.other = _other_place(first.get("source"), places)
            self.stale = [line for line in lines if line is not None and "frame" in line]
            before = first.get("files")
            changed = isinstance(before, str) and before not in ("", files)
            self.replaced = changed and self.other is None and bool(self.stale)
            return
        damaged = [line for line in lines if line is not None and "damaged" in line]
        for line in (line for line in lines[1:] if line is None or "damaged" not in line):
            if line is None or "frame" not in line:
                break
            if not _is_of(row, line):
                _warn(path, "rows lack what this release needs: those frames are done again")
                break
            if not complete(line):
                break
            self.rows.append(line)
        self.damage = [note for line in damaged for note in line["damaged"]]
        last = lines[-1]
        if last is not None and last.get("frames") == len(self.rows) == len(lines) - 2 - len(
            damaged
        ):
            self.finished = True
            self.damage = last["damage"]
            self.intensity = str(last.get("intensity", "full"))

    @property
    def tells_made(self) -> bool:
        """Whether it tells of every place if an earlier run was to make what stands there."""
        return self.is_new or self._tells_made

    def has_made(self, place: Path) -> bool:
        """Whether an earlier run is known to have been to make what stands at a place."""
        return self._place(place) in self._made

    def begin(self, places: Iterable[Path] = ()) -> None:
        """Write the file anew, without what was void, and with the places of all that is made."""
        if self.stale:  # what was made of what is void is removed: what is left is known
            self._made, self._tells_made = [], True
        self._made, self.stale = sorted({*self._made, *map(self._place, places)}), []
        # Of what an earlier release has begun not all is known.
        made = {"made": self._made} if self._made and self._tells_made else {}
        lines: list[Row] = [self._first | made, *self.rows]
        if self.finished:
            lines.append(self._last())
        elif self.damage:
            lines.insert(1, {"damaged": self.damage})
        write_text(self._path, "".join(map(_line, lines)))

    def _place(self, path: Path) -> str:
        return composed(Path(os.path.relpath(path, self._path.parent)).as_posix())

    def _last(self) -> Row:
        return {"frames": len(self.rows), "damage": self.damage, "intensity": self.intensity}

    def append(self, row: Row) -> None:
        """Note a frame whose files are complete."""
        append_text(self._path, _line(row))
        self.rows.append(row)

    def note_damage(self, damage: Iterable[str]) -> None:
        """Note what could not be decoded so far, of which a run that goes on may meet nothing."""
        if new := [note for note in dict.fromkeys(damage) if note not in self.damage]:
            append_text(self._path, _line({"damaged": new}))
            self.damage += new

    def finish(self, damage: Iterable[str], intensity: str = "full") -> None:
        """Note that the clip is complete; ``damage`` is what this run met."""
        self.damage = list(dict.fromkeys((*self.damage, *damage)))
        self.finished, self.intensity = True, intensity
        append_text(self._path, _line(self._last()))


def _places(source: Path | None, record: Path) -> list[str]:
    """Where a source lies, and from a record: results may be moved together with their input."""
    if source is None:
        return []
    written = os.path.abspath(source), os.path.relpath(source, record.parent)  # noqa: PTH100
    return [composed(place) for place in written]


def _other_place(known: Any, places: list[str]) -> str | None:
    """The first of the places that a record tells, if it is none of these."""
    other = isinstance(known, list) and known and not {*map(str, known)} & {*places}
    return str(known[0]) if other else None


def read_clip_record(path: Path) -> tuple[list[str], list[Row]]:
    """What a clip was read from, the likeliest place first, and the rows of its frames."""
    lines = [line for line in _read_lines(path, _is_of_clip) if line is not None]
    sources = lines[0].get("source") if lines else None
    rows = [line for line in lines if "frame" in line]
    return [*map(str, sources)] if isinstance(sources, list) else [], rows


def read_record(path: Path, kind: type[T]) -> T | None:
    """A JSON file that notes finished work, of a type that pydantic reads; None if it is not there.

    One that cannot be trusted is none either, which the user is told.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        _warn(path, "cannot be trusted: what it notes counts as not done")
        return None


_adapter = cache(TypeAdapter)


def _is_of(kind: Any, value: Row) -> bool:
    try:
        _adapter(kind).validate_python(value)
    except ValueError:
        return False
    return True


def _is_task(entry: Row) -> bool:
    match entry:
        case {"key": str(), "fingerprint": str(), "result": dict(), "files": list(files)}:
            return all(isinstance(one, list) and [*map(type, one)] == [str, int] for one in files)
    return False


def _is_of_clip(entry: Row) -> bool:
    match entry:
        case {"frame": str(name), "frame_index": int()}:
            # A name with a path in it is not of this program, which removes files by these names.
            return is_plain_name(name)
        case {"fingerprint": str()} | {"frames": int(), "damage": list()} | {"damaged": list()}:
            return True
    return False


@cache
def _warn(path: Path, text: str) -> None:
    """Tell something of a file, once."""
    _log.warning("%s: %s", path, text)


def _line(entry: Row) -> str:
    """An entry as a line, closed by a checksum that tells a spoilt one."""
    text = json.dumps(entry, ensure_ascii=True)
    return f'{text[:-1]}, "crc": {zlib.crc32(text.encode())}}}\n'


def _read_lines(path: Path, is_sound: Callable[[Row], bool]) -> list[Row | None]:
    """The entries of a file of lines, None for each that is spoilt, which the user is told."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
        raise OutputError.at(path, found, remedy="remove it") from error
    entries = [_entry(line, is_sound) for line in data.splitlines(keepends=True)]
    if spoilt := entries[: len(entries) - (not data.endswith(b"\n"))].count(None):
        _warn(path, f"{spoilt} lines cannot be trusted: that work is done again")
    return entries


def _entry(line: bytes, is_sound: Callable[[Row], bool]) -> Row | None:
    try:
        entry: Row = parse_json(line)
        del entry["crc"]
        return entry if _line(entry) == line.decode() and is_sound(entry) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


#: What is made of a clip bears its name, and one of these behind it.
_OF_CLIP = ("", ".mp4", ".jpg", ".json", ".objects.csv", ".tracks.csv", ".regions.csv", "_RES")
#: Folders of an output folder that hold what is made of its clips.
_HOLDERS = ("", "overlays", "masks", "frames")


def restore_names(
    folder: Path, is_own: Callable[[str], bool] = lambda _: True, *, below: bool = False
) -> None:
    """Rename what ``is_own``, and all ``below`` it, to composed names that are free."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            own = composed(name)
            if not is_own(own):
                continue
            path = folder / own
            if own != name and not os.path.lexists(path):
                (folder / name).rename(path)
            if below and path.is_dir() and not path.is_symlink():
                restore_names(path, below=True)


def restore_clips(out: Path) -> None:
    """Restore the names of all clips with a record of finished work in an output folder."""
    records = out / ".progress"
    restore_names(records)
    # A record escapes all that is not ASCII; most have none, and nothing is looked through.
    own: set[str] = set()
    for path in records.glob("*.jsonl"):
        with suppress(OSError):  # told by whoever needs it
            if not path.name.isascii() or b"\\u" in path.read_bytes():
                own |= {path.stem + ending for ending in _OF_CLIP}
    for holder in _HOLDERS if own else ():
        restore_names(out / holder, own.__contains__, below=True)


def names_on_disk(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Of names relative to a folder that are not ASCII, those under which the files lie, if any."""

    @cache
    def listed(head: str) -> tuple[Path, dict[str, str]]:
        place = find_path(folder, head, os.path.isdir) or Path(folder, head)
        inside = os.listdir(place) if place.is_dir() else []  # noqa: PTH208
        return place, {composed(one): one for one in inside} | {one: one for one in inside}

    found: dict[str, str] = {}
    for name in names:
        if not name.isascii():
            head, tail = os.path.split(name)
            place, inside = listed(head)
            known = inside.get(tail) or inside.get(composed(tail), tail)
            found[name] = os.path.relpath(place / known, folder)
    return found
