"""Writing files so that nothing half-written ever bears a final name.

A file is written under a temporary name in its own folder and renamed when complete: a reader,
a resumed run or another job sees the old file, the new one, or none.
"""

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

from dvos.errors import CheckpointError, FaultCollector, MediaError, OutputError, UsageError
from dvos.locks import OPEN_FILES_CAN_GO, lock, open_file, open_to_lock

#: Begins names of files still being written; the next run removes what a killed one left.
TEMPORARY_PREFIX = ".writing-"
# Then comes the machine: locks do not reach across machines on every file system.
_MACHINE = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
_OF_MACHINE = re.compile(re.escape(TEMPORARY_PREFIX) + "([0-9a-f]{8})-")
#: Seconds after which a file that another machine does not write on is given up.
_GIVEN_UP = 86_400.0
#: For so many seconds an empty file or a folder may be one that is about to be locked; where files
#: are closed before they get their names, any file may be one that was just written.
_NEW = 1.0 if OPEN_FILES_CAN_GO else 60.0
_swept: set[str] = set()
_sweeping = threading.Lock()

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL


def make_folder(path: Path) -> Path:
    """Make ``path`` and its parents; an OutputError if no file can be made in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=TEMPORARY_PREFIX, dir=path):
            pass
    except OSError as error:
        raise _output_error(path, error) from error
    return path


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Remove what killed runs were writing in a folder, and ``below`` it if wanted."""
    pattern = f"{TEMPORARY_PREFIX}*"
    with suppress(OSError):
        for path in list(folder.rglob(pattern) if below else folder.glob(pattern)):
            machine = _OF_MACHINE.match(path.name)
            if machine and machine[1] != _MACHINE:
                if path.is_file() and time.time() - path.stat().st_mtime > _GIVEN_UP:
                    path.unlink(missing_ok=True)
                continue
            with suppress(OSError):
                with locked(path):
                    known = path.stat()
                is_new = machine is not None and time.time() - known.st_mtime < _NEW
                if is_new and OPEN_FILES_CAN_GO and (path.is_dir() or known.st_size == 0):
                    time.sleep(_NEW)  # it may be about to be locked
                    with locked(path):
                        pass
                # What could be locked is nobody's, and stays so: such names are used once.
                if path.is_dir():
                    shutil.rmtree(path)
                elif OPEN_FILES_CAN_GO or not is_new:
                    path.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock by which a living process marks what it writes; else raise an OSError."""
    handle = open_to_lock(path)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


@contextmanager
def exclusive(folder: Path, what: str = "tables") -> Iterator[None]:
    """Hold ``what`` only one process may do at a time in an output folder; others wait for it.

    On a file system without locks nothing is held. An OutputError if it cannot be written.
    """
    path = folder / ".progress" / f"{what}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open_file(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _output_error(path, error) from error
    try:
        with suppress(OSError):
            lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder in ``parent`` for a while, removed at the end or by the next run after a kill."""
    remove_leftovers(parent)
    path = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{_MACHINE}-", dir=parent))
    try:
        with ExitStack() as stack:
            with suppress(OSError):  # a file system without locks
                stack.enter_context(locked(path))
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same suffix to write to; rename it to ``path`` on success.

    An OutputError if the folder or file cannot be written or the disk is full.
    """
    with _temporary_file(path) as (name, _):
        yield Path(name)


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[str, int]]:
    """Name and handle of a locked file beside ``path``, which takes its place at the end."""
    # Text, not paths: a table of cutouts may have some hundred thousand of these files.
    folder, final = os.path.split(path)
    kind = final[final.rindex(".") :] if "." in final[1:] else ""
    name = os.path.join(folder, f"{TEMPORARY_PREFIX}{_MACHINE}-{secrets.token_hex(6)}{kind}")  # noqa: PTH118
    try:
        full = absolute(folder)
        if full not in _swept:
            os.makedirs(full, exist_ok=True)  # noqa: PTH103
            # Threads that begin here at once wait: their files are not leftovers.
            with _sweeping:
                if full not in _swept:
                    remove_leftovers(Path(full))
                    _swept.add(full)
        try:
            handle = open_file(name, _NEW_FILE)
        except FileNotFoundError:  # the folder was removed since
            os.makedirs(full, exist_ok=True)  # noqa: PTH103
            handle = open_file(name, _NEW_FILE)
        try:
            if OPEN_FILES_CAN_GO:
                with suppress(OSError):  # a file system without locks
                    lock(handle)
            yield name, handle
            if OPEN_FILES_CAN_GO:
                os.replace(name, path)  # noqa: PTH105
        finally:
            os.close(handle)
        if not OPEN_FILES_CAN_GO:
            os.replace(name, path)  # noqa: PTH105
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        if isinstance(error, OSError):
            raise _output_error(path, error) from error
        raise


class BlockWriter(ABC):
    """A writer that is a context manager: :meth:`_opened` is what its block stands in."""

    @abstractmethod
    def _opened(self) -> AbstractContextManager[None]: ...

    def __enter__(self) -> Self:
        self._block = self._opened()
        self._block.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)


def absent(path: Path) -> str:
    """How a message says that there is no file at ``path``."""
    if path.is_dir():
        return "is a folder"
    if not path.is_symlink():
        return "no such file"
    return f"is a link to {path.readlink()}, which is not there"


#: Options or arguments, as a user writes them, with what they give: None where not given.
Given = Iterable[tuple[str, Path | None]]


def check_given(inputs: Given, networks: Given = ()) -> None:
    """Tell, all at once and before any work, of what a command is given and is not there.

    A UsageError, or a CheckpointError if nothing but files of ``networks`` is missing.
    """
    gone = [(name, path) for name, path in inputs if path and not path.exists()]
    with FaultCollector(UsageError if gone else CheckpointError) as faults:
        for name, path in gone:
            found = absent(path) if path.is_symlink() else "no such file or folder"
            faults.add(path, found, remedy=f"check the path of {name}")
        for name, file in networks:
            if file and not file.is_file():
                within = (file / inner for inner in ("best.safetensors", "train/best.safetensors"))
                near = next((f"did you mean {one}?" for one in within if one.is_file()), "")
                faults.add(file, absent(file), "a trained network's file", near or f"check {name}")


def refuse_foreign(paths: Iterable[Path], maker: str) -> None:
    """Raise an OutputError if something stands where ``maker`` is to write for the first time."""
    with FaultCollector(OutputError) as faults:
        for path in paths:
            if os.path.lexists(path):
                found = f"is there, and {maker} is not known to have made it"
                faults.add(path, found, remedy="move it, or choose another place")


def read_bytes(path: Path, what: str = "an image file", size: int = -1) -> bytes:
    """A file's bytes, or its first ``size``; a MediaError if it is missing, empty or unreadable."""
    try:
        # A buffer would read more than the head of a file, and the whole needs none.
        with open(path, "rb", buffering=0) as stream:
            if data := stream.read(size):
                return data
        found = "the file is empty (0 bytes)"
        remedy = "copy the file again from its source or export it again"
    except FileNotFoundError:
        found, remedy = absent(path), "check the path"
    except IsADirectoryError:
        found, remedy = "is a folder", "name a file in it"
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
        remedy = "check the path and the file's permissions"
    raise MediaError.at(path, found, what, remedy)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with _temporary_file(path) as (_, handle):
        _write(handle, data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8; of file names that are none their bytes."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def append_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Append whole lines, as UTF-8, never through a link; ``sync`` outlasts a power cut.

    An OutputError if that fails; the file is as it was then.
    """
    try:
        handle = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            size = os.fstat(handle).st_size
            try:
                _write(handle, text.encode("utf-8", "surrogateescape"))
                if sync:
                    os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)  # half a line would spoil the next one
                raise
        finally:
            os.close(handle)
    except OSError as error:
        raise _output_error(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as indented JSON."""
    # What is no text in a file name is escaped as JSON escapes it.
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def composed(name: str) -> str:
    """A name with each accented letter as one character: some write its accent as another."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stem_of(path: Path) -> str:
    """The name without ending that files are matched by, :func:`composed`."""
    return composed(path.stem)


def find_path(
    folder: Path | str, name: str, is_there: Callable[[str | Path], bool] = os.path.exists
) -> Path | None:
    """What lies at ``name``, inside a folder or absolute, however its accents are written; or None.

    ``is_there`` is of ``os.path``, which also answers for names that the system refuses.
    """
    path = os.path.join(folder, name)  # noqa: PTH118 (a fifth of pathlib's time)
    if is_there(path):
        return Path(path)
    place = Path(path)
    if path.isascii():
        return None
    found = Path(place.anchor)
    try:
        for part in place.parts[bool(place.anchor) :]:
            names = [part] if (found / part).exists() else os.listdir(found)  # noqa: PTH208
            found /= next(one for one in names if composed(one) == composed(part))
    except (OSError, ValueError, StopIteration):
        return None
    return found if is_there(found) else None


def real_path(path: Path) -> Path:
    """The absolute path without links; unlike ``resolve``, links in a circle are no error."""
    return Path(os.path.realpath(path))


def absolute(name: str) -> str:
    """The path that ``os.path.abspath`` gives, which is slow for some hundred thousand names."""
    is_plain = name[:1] == "/" != name[-1:] and "/." not in name and "//" not in name
    return name if is_plain else os.path.abspath(name)  # noqa: PTH100


def is_plain_name(name: str) -> bool:
    """Whether a name from a table, manifest or archive may become that of a file or folder."""
    signs = "/\\\0:" if sys.platform == "win32" else "/\\\0"
    return name[:1] not in ("", ".") and not any(sign in name for sign in signs)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; a ValueError if it is none, no UTF-8 or nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def check_file_name(path: Path, name: str = "") -> None:
    """Raise a MediaError if ``name``, or else a path's own, is no valid Unicode, as tables need."""
    try:
        (name or path.name).encode()
    except UnicodeEncodeError:
        found = "its name is not valid Unicode"
        raise MediaError.at(path, found, "a name in UTF-8", "rename it") from None


def digest(value: Any) -> str:
    """Fingerprint of a JSON-like value (paths as text), 32 hex digits."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def file_stamp(path: Path) -> list[int]:
    """Size and time of change: tells an edited file apart without reading it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def file_digest(path: Path) -> str:
    """Fingerprint of a file's bytes, 32 hex digits, in constant memory."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def known_digest(path: Path) -> str:
    """The :func:`file_digest`, worked out once as long as size and time of change are the same."""
    return _digest_at(path, *file_stamp(path))


@cache
def _digest_at(path: Path, *stamp: int) -> str:
    del stamp
    return file_digest(path)


def _write(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _output_error(path: Path, error: OSError) -> OutputError:
    remedy = "choose another place with --out, or free space and permissions there"
    if isinstance(error, FileExistsError | NotADirectoryError):
        file = next(filter(Path.is_file, (path, *path.parents)), None)
        if file is not None:
            return OutputError.at(file, "cannot be written (is a file)", "a folder", remedy)
    if isinstance(error, IsADirectoryError):
        return OutputError.at(path, "cannot be written (is a folder)", "a file", remedy)
    return OutputError.at(path, f"cannot be written ({error.strerror or error})", "", remedy)
