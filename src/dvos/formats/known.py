"""The formats by name, and which of them a file or folder is of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.errors import MediaError, UsageError
from dvos.formats import (
    coco,
    ctc,
    cvat,
    imagej,
    label_images,
    label_studio,
    labelme,
    mots,
    own,
    regions,
    yolo,
)
from dvos.formats.labels import LabelledSource, Picture
from dvos.formats.reading import Format, Reading, load_document, naming
from dvos.media.layout import list_files, list_folders

_ALL = (
    *(own.FORMAT, ctc.FORMAT, label_images.VOC, label_images.DAVIS, yolo.FORMAT),
    *(coco.COCO, cvat.FORMAT, labelme.FORMAT, imagej.FORMAT),
    *(label_studio.FORMAT, coco.YOUTUBE_VIS, mots.MOTS, mots.MOT),
    *(regions.GEOJSON, regions.CSV, label_images.LABELS),
)
#: By name, in the order in which they are tried.
FORMATS: dict[str, Format] = {one.name: one for one in _ALL}
_WITHOUT_CONTENT = (".zip", ".roi")
#: Folders of annotations that lie beside those of the pictures.
_BESIDE_PICTURES = ("annotations", "annotation", "labels", "json", "rois", "instances_txt")
#: Documents in one folder that are looked at to know its format.
_LOOKED_AT = 20


@dataclass(frozen=True)
class Recognised:
    """What a file or folder is."""

    path: Path
    format: Format
    documents: Sequence[Path] = ()  # none of a format that is read as a folder


def recognise(path: Path, name: str | None = None, *, strays: bool = False) -> Recognised | None:
    """The format of a file or folder, which may have to be a given one; None if it is of none.

    A MediaError if a document cannot be read, unless, with ``strays``, others may lie there.
    """
    tried = [one for one in (FORMATS.values() if name is None else [FORMATS[name]]) if one.read]
    last = label_images.LABELS
    for each in tried:
        if not each.suffixes and each is not last and each.matches(path, None):
            return Recognised(path, each)
    suffixes = {suffix for one in tried for suffix in one.suffixes}
    documents = [path] if path.is_file() and path.suffix.lower() in suffixes else []
    for folder in [path, *list_folders(path)] if path.is_dir() else ():
        documents += list_files(folder, suffixes)
    fault: MediaError | None = None
    for document in documents[:_LOOKED_AT]:
        try:
            content = _content(document)
        except MediaError as error:
            fault = error if not strays or path.is_file() else None
            continue
        for each in tried:
            if document.suffix.lower() in each.suffixes and each.matches(document, content):
                alike = [one for one in documents if one.suffix.lower() in each.suffixes]
                return Recognised(path, each, alike)
    if fault is not None:
        raise fault
    # Last, as masks may lie beside documents that say more.
    return Recognised(path, last) if last in tried and last.matches(path, None) else None


def is_foreign(path: Path) -> bool:
    """Whether a file or folder is of another program, and no folder of masks as it stands."""
    found = recognise(path, strays=True)
    return found is not None and found.format.name not in ("dvos", "ctc", "labels")


def _content(document: Path) -> Any:
    return None if document.suffix.lower() in _WITHOUT_CONTENT else load_document(document)


def open_source(
    path: Path, *, name: str | None = None, images: Path | None = None
) -> LabelledSource:
    """Read what annotators wrote, with its pictures at any depth of ``images`` or beside it.

    Nothing is drawn yet. A UsageError if it is of no known format, else a MediaError with the
    place.
    """
    if not path.exists():
        raise UsageError.at(path, "no such file or folder", remedy="check the path")
    found = recognise(path, name)
    if found is None:
        kinds = ", ".join(one.title for one in FORMATS.values() if one.read)
        expected = FORMATS[name].title if name else kinds
        remedy = "unpack it first" if path.suffix.lower() in (".zip", ".tar", ".gz") else ""
        raise UsageError.at(path, "is of no format that is known here", expected, remedy)
    root = path if path.is_dir() else path.parent
    if path.is_file() and root.name.lower() in _BESIDE_PICTURES:
        root = root.parent
    reading = Reading(root if images is None else images)
    pictures = list(_pictures(found, reading))
    if not pictures:
        raise MediaError.at(path, f"holds no pictures ({found.format.title})")
    return LabelledSource(path, found.format.name, pictures, reading.notes, reading.parents)


def _pictures(found: Recognised, reading: Reading) -> Iterator[Picture]:
    read = found.format.read
    assert read is not None
    if not found.documents:
        with naming(found.path):
            yield from read(found.path, None, reading)
    for document in found.documents:
        content = _content(document)
        if found.format.matches(document, content):
            with naming(document):
                yield from read(document, content, reading)
        else:
            note = f"files beside the others that are no {found.format.title}"
            reading.notes.add(note, document)
