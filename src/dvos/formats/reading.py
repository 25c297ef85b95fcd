"""What readers share: documents parsed within bounds, pictures found, faults with their place."""

import filecmp
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from json import JSONDecodeError
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from dvos.errors import DvosError, MediaError, check_size
from dvos.files import composed, parse_json, read_bytes, real_path, stem_of
from dvos.formats.labels import LabelledSource, Notes, Picture, Region, Size, joined
from dvos.media.image import image_size
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_of_masks, left_by_system

#: Largest document, bytes, and deepest nesting of XML.
_MOST_BYTES, _DEEPEST = 2**31, 100
#: Names of folders of label images that do not say "mask", and of those that frames lie in alone.
_LABELS, _INNER = ("tracks", "instances", "annotations"), ("frames", "images", "img1")
#: What parsers and arithmetic on values of any kind may raise.
_FAULTS = (
    *(ValueError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError, OSError),
    *(MemoryError, EOFError, struct.error, zlib.error, zipfile.BadZipFile),
)


@contextmanager
def naming(where: str | Path) -> Iterator[None]:
    """Turn what is wrong with values in the block into a MediaError that names the place."""
    try:
        yield
    except DvosError:
        raise
    except KeyError as error:
        raise MediaError.at(where, f"lacks {error}", remedy="export it again") from error
    except JSONDecodeError as error:
        remedy = "export it again"
        raise MediaError.at(where, f"is no JSON ({error})", remedy=remedy) from error
    except _FAULTS as error:
        raise MediaError.at(where, str(error) or type(error).__name__) from error


def drawing(where: str, draw: Callable[..., Region], *values: Any) -> Callable[[], Region]:
    """What draws an object when it is asked to, and names the place if that cannot be done."""

    def named() -> Region:
        with naming(where):
            return draw(*values)

    return named


def together(draws: Sequence[Callable[[], Region]]) -> Callable[[], Region]:
    """What draws an object of several parts."""
    return lambda: joined(draw() for draw in draws)


def stem_without(path: Path, endings: Iterable[str]) -> str:
    """The name of a file without its suffix and the ending that says what it is."""
    stem = stem_of(path)
    return next((stem.removesuffix(end) for end in endings if stem.endswith(end)), stem)


def load_document(path: Path) -> Any:
    """The content of a JSON, XML or text file, by its ending, or a MediaError; None of ROIs."""
    if path.suffix.lower() in (".zip", ".roi"):
        return None
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise MediaError.at(path, "is too large", f"at most {_MOST_BYTES:,} bytes", "part it")
    data = read_bytes(path, "a file of annotations")
    with naming(path):
        if path.suffix.lower() == ".xml":
            return parse_xml(data)
        try:
            text = data.decode("utf-8-sig")
            return parse_json(text) if path.suffix.lower() == ".json" else text
        except UnicodeDecodeError as error:
            raise ValueError(f"it is no text in UTF-8, from byte {error.start} on") from error
        except JSONDecodeError as error:
            raise ValueError(f"it is no JSON ({error})") from error


class _BoundedBuilder(TreeBuilder):
    depth = 0

    def doctype(self, *_: object) -> None:
        raise ValueError("it declares a document type, which no annotation needs")

    def start(self, *element: Any) -> Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        return super().start(*element)

    def end(self, tag: str) -> Element:
        self.depth -= 1
        return super().end(tag)


def parse_xml(data: bytes) -> Element:
    """The root of an XML document; a ValueError if it declares a type or is nested too deep."""
    parser = XMLParser(target=_BoundedBuilder())
    try:
        parser.feed(data)
        root: Element = parser.close()
    except (ParseError, LookupError) as error:  # the latter of an encoding that is not known
        raise ValueError(f"it is no XML ({error})") from error
    return root


def _files_below(root: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Images and videos below a folder by stem, and the folders there that are links."""
    found: dict[str, list[Path]] = {}
    links: list[Path] = []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not left_by_system(name))
        links += [path for path in (Path(folder, name) for name in inner) if path.is_symlink()]
        for path in (Path(folder, name) for name in sorted(names) if not left_by_system(name)):
            if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                found.setdefault(stem_of(path), []).append(path)
    return found, links


def _fitting(
    files: Mapping[str, list[Path]], name: str, kinds: Container[str], root: Path
) -> list[Path]:
    """The files of a name, else those that have it as their stem, or another ending than it.

    A mask, by its folder's name below the root, is a picture only where nothing else is.
    """
    # What follows a dot and has no letter is a number, such as of plot.2, and no ending.
    ending = Path(name).suffix
    stems = (Path(name).stem if any(map(str.isalpha, ending)) else name, name)
    found = [[one for one in files.get(stem, []) if one.suffix.lower() in kinds] for stem in stems]
    pictures = [[one for one in each if not _is_label(one.parent, root)] for each in found]
    alike, named = pictures if any(pictures) else found
    return [one for one in alike if composed(one.name) == name] or named or alike


def _is_label(folder: Path, root: Path) -> bool:
    """Whether prediction, labelling and data sets have masks in such a folder, not pictures."""
    return folder != root and (is_of_masks(folder) or folder.name.lower() in _LABELS)


def _equal(first: Path, second: Path) -> bool:
    """Whether two files hold the same; not if one cannot be read, which is told where it is."""
    with suppress(OSError):
        return filecmp.cmp(first, second, shallow=False)
    return False


def _alike(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of two lists agree, from their beginning."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in pairs)


class Reading:
    """One reading of a source, whose pictures lie below a folder; parents and notes as of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parents: dict[str, dict[int, int]] = {}
        self.notes = Notes()
        self._told: dict[str, object] = {}

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Images and videos below the root by stem; folders that are links are not entered."""
        return self._below[0]

    @cached_property
    def _below(self) -> tuple[dict[str, list[Path]], list[Path]]:
        return _files_below(self.root)

    @cached_property
    def _linked(self) -> dict[str, list[Path]]:
        """Likewise those in folders that are links, where a picture is looked for last."""
        found: dict[str, list[Path]] = {}
        for link in {real_path(link): link for link in self._below[1]}.values():
            for stem, paths in _files_below(link)[0].items():
                found.setdefault(stem, []).extend(paths)
        return found

    def once(self, where: object, picture: object) -> None:
        """Refuse to take a picture, told by its file or name, twice; a MediaError names both."""
        if (first := self._told.get(str(picture))) is not None:
            found, remedy = f"is of {picture}, as {first} is", "join them, or remove one of the two"
            raise MediaError.at(str(where), found, "each picture once", remedy)
        self._told[str(picture)] = where

    def find(
        self, name: str, beside: Path | None = None, kinds: Container[str] = IMAGE_SUFFIXES
    ) -> Path | None:
        """The image that a document names, wherever it lay on the machine it was written on.

        Of a path or address decides what of its folders fits a file below the root, then which lies
        beside the document; without an ending, any of these ``kinds``. In folders that are links it
        is looked for if it is nowhere else. A MediaError if several fit as well.
        """
        parts = [part for part in re.split(r"[/\\]+", composed(name)) if part]
        if not parts:
            return None
        last = parts[-1]
        fitting = _fitting(self.files, last, kinds, self.root)
        fitting = fitting or _fitting(self._linked, last, kinds, self.root)

        def score(path: Path) -> tuple[int, bool, bool]:
            own = [composed(part) for part in path.parts[-2::-1]]
            # Such as of VIDEO/frames/f.png, where a document has VIDEO/f.png.
            inner = own[1:] if own and own[0].lower() in _INNER else own
            same = max(_alike(each, parts[-2::-1]) for each in (own, inner))
            near = beside is not None and beside.parent in path.parents
            folder = re.escape(path.parent.name.lower())
            words = rf"(?<![^\W_]){folder}(?![^\W_])"
            named = folder and beside is not None and re.search(words, beside.stem.lower())
            return same, near, bool(named)

        best = max(map(score, fitting), default=None)
        chosen = [path for path in fitting if score(path) == best]
        # Such as what an import into this very folder has linked or copied.
        chosen.sort(key=lambda path: len(path.parts))
        chosen = [chosen[0], *(x for x in chosen[1:] if not _equal(chosen[0], x))] if chosen else []
        if len(chosen) > 1:
            found = f"{name} may be {chosen[0]} or {chosen[1]}"
            expected = "one file of that name below the folder"
            remedy = "name a smaller folder with --images"
            raise MediaError.at(beside or self.root, found, expected, remedy)
        return chosen[0] if chosen else None

    def name_of(self, path: Path | None, otherwise: str) -> str:
        """A file's name with the folders below the root; of no file what it was called."""
        if path is None:
            return otherwise
        return path.relative_to(self.root).as_posix() if self.root in path.parents else path.name

    def film(self, name: str, beside: Path) -> Path | None:
        """The video file that a document names, as :meth:`find` finds images."""
        return self.find(name, beside, VIDEO_SUFFIXES)

    def size(self, path: Path | None, stated: Size | None, where: object) -> Size:
        """(height, width) of a picture as shown: of its file, or else as the document states it.

        A MediaError, with the place in the document, if it is not known, or not of the size stated.
        """
        if path is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            if stated is None:
                remedy = "put it beside the annotations, or name its folder with --images"
                raise MediaError.at(str(where), "its picture was not found", "", remedy)
            return stated
        shown = image_size(path)
        if stated is not None and stated == shown[::-1] != shown:
            self.notes.add("pictures whose stated width and height have changed places", str(where))
        elif stated is not None:
            remedy = "it is of another picture, or of another copy"
            check_size(str(where), stated, shown, path, remedy)
        return shown


@dataclass(frozen=True)
class Format:
    """An annotators' format, read by documents of some suffixes or, without, as a whole folder."""

    name: str  # as users give it
    title: str  # as messages name it
    #: Whether a document, of its path and content, or a folder, of its path and None, is of it.
    matches: Callable[[Path, Any], object] = lambda _, __: False
    #: The pictures in it, of the same.
    read: Callable[[Path, Any, Reading], Iterable[Picture]] | None = None
    suffixes: tuple[str, ...] = ()
    #: Writes a source into a folder.
    write: Callable[[LabelledSource, Path], None] | None = None
    classes: bool = True  # whether it holds what they are called
