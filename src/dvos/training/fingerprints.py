"""What a result depends on beside the settings: the files that these name, by what they hold.

A table counts with all that it lists. When a file was written does not count: a copy is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dvos.config.data import DataSettings
from dvos.config.show import Move
from dvos.errors import DvosError, FaultCollector
from dvos.files import absolute, digest, file_digest, file_stamp, known_digest, read_bytes
from dvos.formats.known import open_source
from dvos.media.layout import VIDEO_SUFFIXES, left_by_system
from dvos.media.mask_values import DECLARATION
from dvos.tables.cells import STORE_SUFFIX, read_cells, split_address

_MISSING = "missing"
#: Bytes of a clip store that tell it apart, and threads that read files.
_HEAD, _THREADS = 64, 4


def data_digests(*settings: BaseModel) -> dict[str, str]:
    """Fingerprints of all files, by their bytes, and folders, by names and sizes, in settings."""
    return {str(path): _fingerprint(path) for path in sorted({*_paths(settings)})}


def _paths(settings: Iterable[BaseModel]) -> Iterator[Path]:
    """Every path in settings."""
    values: list[Any] = [part.model_dump() for part in settings]
    while values:
        value = values.pop()
        if isinstance(value, dict | list | tuple):
            values += value.values() if isinstance(value, dict) else value
        elif isinstance(value, Path):
            yield value


def _fingerprint(path: Path) -> str:
    if not path.is_dir():
        return file_digest(path) if path.is_file() else _MISSING
    files = ((file.relative_to(path), file.stat().st_size) for file in _files_below(path))
    return digest(sorted([inside.as_posix(), size] for inside, size in files))


def _files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder at any depth, but what systems leave there."""
    for file in folder.rglob("*"):
        if file.is_file() and not any(map(left_by_system, file.relative_to(folder).parts)):
            yield file


def files_of(settings: Iterable[BaseModel]) -> Iterator[Path]:
    """The files that settings name, those in the folders, and those that the tables list."""
    settings = [*settings]
    for path in _paths(settings):
        yield from files_at(path)
    for source in (x for one in settings if isinstance(one, DataSettings) for x in one.sources):
        with suppress(DvosError):  # told when it is read
            pictures = open_source(source).pictures
            yield from (file for one in pictures for file in (one.path, one.film) if file)


def files_at(path: Path) -> Iterator[Path]:
    """A file, with what it lists if it is a table, or the files in a folder."""
    if path.is_dir():
        yield from _files_below(path)
        return
    yield path
    if path.suffix.lower() == ".csv":
        yield from _listed(path)


def declarations(mask: Path) -> tuple[Path, Path]:
    """Where a file may say what means "unknown" in a mask."""
    return mask.parent / DECLARATION, mask.parent.parent / DECLARATION


def _listed(table: Path) -> Iterator[Path]:
    """The images and masks that a table lists, and what may say "unknown" in these."""
    # What is wrong with it is told when it is read.
    with suppress(DvosError):
        for cells in read_cells(table, ("Image",), FaultCollector(), allow_empty=True):
            for name in ("Image", "Mask"):
                if cells.raw(name).strip() and (path := cells.frame(name)) != Path():
                    yield path if (address := split_address(path)) is None else address[0]
                    if name == "Mask" and address is None:
                        yield from declarations(path)


def content_digests(files: Iterable[Path]) -> dict[str, str]:
    """Fingerprints of files by what they hold, whenever that was written, by absolute path.

    A video, which may be large, counts by its size.
    """
    places = sorted({absolute(str(file)) for file in files})
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(places, pool.map(_content, places), strict=True))


def _content(place: str) -> str:
    path = Path(place)
    with suppress(OSError, DvosError):  # told when it is read
        size, _ = file_stamp(path)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return f"{size} bytes"
        if path.suffix.lower() == STORE_SUFFIX:
            # Its head holds checksums of all that follows.
            head = read_bytes(path, "a clip store", _HEAD)
            return digest([size, head.hex()])
        return known_digest(path)  # the trainings of one fit share their data
    return _MISSING


def changed_files(now: Mapping[str, str], known: Mapping[str, str], move: Move) -> list[str]:
    """The files of ``now`` that held something else when they were ``known``, before a move."""
    return [place for place, held in now.items() if not move.has_content(place, held, known)]


def other_files(
    now: Mapping[str, str], known: Mapping[str, str], move: Move
) -> Iterator[tuple[str, str]]:
    """Each file that is not as it was ``known``, before a move, and what became of it."""
    earlier = {place if place in known else move.earlier(place): place for place in now}
    found = dict.fromkeys(changed_files(now, known, move), "changed")
    there = {place for place, held in now.items() if held != _MISSING}
    new = {place for before, place in earlier.items() if before not in known}
    found |= dict.fromkeys(new & there, "is new")
    found |= {place: "is gone" for place in known if place not in earlier}
    yield from sorted(found.items())


@dataclass(frozen=True)
class KnownFiles:
    """What a run's folder keeps of the files that it depends on: where it lay, and digests."""

    out: str  # The run's folder, by its absolute path then.
    files: dict[str, str]  # As :func:`content_digests` gives them.
