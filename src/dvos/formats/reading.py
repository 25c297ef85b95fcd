"""What readers share: documents parsed within bounds, pictures found, faults with their place."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dvos.errors import DvosError, MediaError, check_size
from dvos.files import composed, parse_json, read_bytes, stem_of
from dvos.formats.labels import LabelledSource, Notes, Picture, Size
from dvos.media.image import image_size
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, left_by_system
from dvos.media.limits import MOST_PIXELS

#: Largest document, bytes, and deepest nesting of XML.
_MOST_BYTES, _DEEPEST = 2**31, 100
#: What parsers and arithmetic on values of any kind may raise.
_FAULTS = (
    *(ValueError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError, OSError),
    *(MemoryError, EOFError, struct.error, zlib.error, zipfile.BadZipFile),
)


@contextmanager
def naming(where: str | Path) -> Iterator[None]:
    """Turn what is wrong with values in the block into one line that names the place.

    Raises:
        MediaError: If anything is.
    """
    try:
        yield
    except DvosError:
        raise
    except KeyError as error:
        raise MediaError.at(where, f"lacks {error}", remedy="export it again") from error
    except _FAULTS as error:
        found = str(error) or type(error).__name__
        raise MediaError.at(where, found, remedy="export it again, or correct it") from error


def load_document(path: Path) -> Any:
    """The content of a JSON, XML or text file, by its ending.

    Raises:
        MediaError: If it cannot be read, or is none.
    """
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise MediaError.at(path, "is too large", f"at most {_MOST_BYTES:,} bytes", "part it")
    data = read_bytes(path, "a file of annotations")
    with naming(path):
        if path.suffix.lower() == ".xml":
            return parse_xml(data)
        text = data.decode("utf-8-sig")
        return parse_json(text) if path.suffix.lower() == ".json" else text


def parse_xml(data: bytes) -> Element:
    """The root of an XML document without entities of its own.

    Raises:
        ValueError: If it is none, declares a document type, or is nested too deep.
    """
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which no annotation needs")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no XML ({error})") from error
    return builder.close()


def number(value: Any) -> float:
    """A finite number, or one written as text; a ValueError if it is none."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{_short(value)} stands where a number should")
    return found


def whole(value: Any, least: int = 0) -> int:
    """A whole number of at least ``least``; a ValueError if it is none."""
    found = number(value)
    if found != int(found) or not least <= found < 2**53:
        raise ValueError(f"{_short(value)} stands where a whole number from {least} on should")
    return int(found)


def text(value: Any) -> str:
    """A text that is not empty; a ValueError if it is none."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{_short(value)} stands where a text should")
    return value


def items(value: Any) -> list[Any]:
    """A list; a ValueError if it is none."""
    if not isinstance(value, list):
        raise ValueError(f"{_short(value)} stands where a list should")
    return value


def fields(value: Any) -> Mapping[str, Any]:
    """A mapping; a ValueError if it is none."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{_short(value)} stands where a mapping should")
    return value


def _short(value: Any) -> str:
    found = repr(value)
    return found if len(found) <= 60 else f"{found[:60]} ..."


def picture_size(height: Any, width: Any) -> Size:
    """A (height, width) that a file states; a ValueError if it is none."""
    size = whole(height, 1), whole(width, 1)
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"a picture of {size[1]} x {size[0]} pixels")
    return size


class Reading:
    """One reading of a source: where its pictures and videos are, and what was not taken as it is.

    Args:
        root: Folder that holds the pictures, at any depth.

    Attributes:
        root: As given.
        notes: What was not taken as it stands.
        parents: Of each video, of an id the one that it comes from by a division.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parents: dict[str, dict[int, int]] = {}
        self.notes = Notes()

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Images and videos below the root by stem; folders that are links are not entered."""
        found: dict[str, list[Path]] = {}
        for folder, inner, names in os.walk(self.root):
            inner[:] = sorted(name for name in inner if not left_by_system(name))
            for name in sorted(names):
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
                if suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not left_by_system(name):
                    path = Path(folder, name)
                    found.setdefault(stem_of(path), []).append(path)
        return found

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """The file that a document names, wherever it lay on the machine it was written on.

        Args:
            name: A name, path or address; what of its folders fits a file below the root decides.
                Without an ending, that of any image.
            beside: The document.

        Raises:
            MediaError: If several fit as well.
        """
        parts = [part for part in re.split(r"[/\\]+", composed(name)) if part]
        if not parts:
            return None
        stem = Path(parts[-1]).stem
        fitting = [one for one in self.files.get(stem, []) if composed(one.name) == parts[-1]]
        fitting = fitting or self.files.get(stem, []) or self.files.get(parts[-1], [])

        def score(path: Path) -> tuple[int, bool, bool]:
            own = [composed(part) for part in path.parts]
            same = 0
            while same < min(len(own), len(parts)) - 1 and own[-2 - same] == parts[-2 - same]:
                same += 1
            near = beside is not None and beside.parent in path.parents
            folder = path.parent.name.lower()
            return same, near, beside is not None and folder in beside.stem.lower()

        if len(fitting) < 2:
            return fitting[0] if fitting else None
        best = max(map(score, fitting))
        chosen = [path for path in fitting if score(path) == best]
        if len(chosen) > 1:
            raise MediaError.at(
                beside or self.root,
                f"{name} may be {chosen[0]} or {chosen[1]}",
                "one file of that name below the folder",
                "name a smaller folder with --images",
            )
        return chosen[0]

    def name_of(self, path: Path | None) -> str:
        """A file's name with the folders below the root; empty of none."""
        if path is None:
            return ""
        return path.relative_to(self.root).as_posix() if self.root in path.parents else path.name

    def film(self, name: str, beside: Path) -> Path | None:
        """The video file that a document names, as :meth:`find` finds it."""
        path = self.find(name, beside) if name else None
        return path if path is not None and path.suffix.lower() in VIDEO_SUFFIXES else None

    def size(self, path: Path | None, stated: Size | None, where: str) -> Size:
        """(height, width) of a picture as shown, the one that coordinates are of.

        Args:
            path: Its file, if it was found.
            stated: What the document says, if it says anything.
            where: Its place in the document, for messages.

        Raises:
            MediaError: If it is not known, or of another size than stated.
        """
        if path is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            if stated is None:
                remedy = "put it beside the annotations, or name its folder with --images"
                raise MediaError.at(where, "its picture was not found", "", remedy)
            return stated
        shown = image_size(path)
        if stated is not None and stated == shown[::-1] != shown:
            self.notes.add("pictures whose stated width and height have changed places", where)
        elif stated is not None:
            check_size(where, stated, shown, path, "it is of another picture, or of another copy")
        return shown


@dataclass(frozen=True)
class Format:
    """An annotators' format.

    Attributes:
        name: As users give it.
        title: As messages name it.
        matches: Of a document its path and content, of a folder its path and None: whether it is
            of this format.
        read: Of the same, and the reading, the pictures in it. What is wrong with an object may
            come out when it is asked for.
        suffixes: Of its documents; none where a folder is read as a whole.
        write: Writes a source into a folder.
    """

    name: str
    title: str
    matches: Callable[[Path, Any], bool] = lambda _, __: False
    read: Callable[[Path, Any, Reading], Iterable[Picture]] | None = None
    suffixes: tuple[str, ...] = ()
    write: Callable[[LabelledSource, Path], None] | None = None
