"""The formats by name, and which of them a file or folder is of."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dvos.errors import MediaError, UsageError, shortened
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
#: Folders of annotations that lie beside those of the pictures.
_BESIDE_PICTURES = ("annotations", "annotation", "labels", "json", "rois", "instances_txt")
#: Documents in one folder that are looked at to know its format.
_LOOKED_AT = 20


def recognise(
    path: Path, name: str | None = None, *, strays: bool = False
) -> tuple[Format, list[Path]] | None:
    """The format of a file or folder, which may have to be a given one; None if it is of none.

    With it come its documents, none of a format that is read as a folder. A MediaError if one
    cannot be read, unless, with ``strays``, others may lie there.
    """
    tried = [one for one in (FORMATS.values() if name is None else [FORMATS[name]]) if one.read]
    last = label_images.LABELS
    for each in tried:
        if not each.suffixes and each is not last and each.matches(path, None):
            return each, []
    suffixes = {suffix for one in tried for suffix in one.suffixes}
    documents = [path] if path.is_file() and path.suffix.lower() in suffixes else []
    for folder in [path, *list_folders(path)] if path.is_dir() else ():
        documents += list_files(folder, suffixes)
    fault: MediaError | None = None
    for document in documents[:_LOOKED_AT]:
        try:
            content = load_document(document)
        except MediaError as error:
            fault = error if not strays or path.is_file() else None
            continue
        for each in tried:
            if document.suffix.lower() in each.suffixes and each.matches(document, content):
                return each, [one for one in documents if one.suffix.lower() in each.suffixes]
    if fault is not None:
        raise fault
    # Last, as masks may lie beside documents that say more.
    return (last, []) if last in tried and last.matches(path, None) else None


def is_foreign(path: Path) -> bool:
    """Whether a file or folder is of another program, and no folder of masks as it stands."""
    found = recognise(path, strays=True)
    return found is not None and found[0].name not in ("dvos", "ctc", "labels")


def open_source(
    path: Path, *, name: str | None = None, images: Path | None = None
) -> LabelledSource:
    """Read what annotators wrote, with its pictures at any depth of ``images`` or beside it.

    Nothing is drawn yet. A UsageError if it is of no known format, else a MediaError of the place.
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
    format_, documents = found
    assert format_.read is not None
    told: list[tuple[Path, list[Picture]]] = []
    others: list[Path] = []
    for each in documents or [path]:
        content = load_document(each) if documents else None
        if not documents or format_.matches(each, content):
            with naming(each):
                told.append((each, list(format_.read(each, content, reading))))
        else:
            others.append(each)
    names = shortened([reading.name_of(each, "") for each in others])
    for each in others:
        note = f"files beside the others that are no {format_.title}, left out: {names}"
        reading.notes.add(note, each)
    pictures = list(_videos_apart(told, path))
    if not pictures:
        raise MediaError.at(path, f"holds no pictures ({format_.title})")
    return LabelledSource(path, format_.name, pictures, reading.notes, reading.parents)


def _videos_apart(told: Sequence[tuple[Path, Sequence[Picture]]], root: Path) -> Iterator[Picture]:
    """The pictures of documents below a folder; a video of a name in several is one in each."""
    owners: dict[str, list[Path]] = defaultdict(list)
    for document, pictures in told:
        for video in {one.video for one in pictures} - {""}:
            owners[video].append(document)
    for document, pictures in told:
        for one in pictures:
            others = owners.get(one.video, [])
            if len(others) < 2:
                yield one
                continue
            # Names are made of the last folders that differ.
            alone = [each.parent for each in others].count(document.parent) == 1
            place = (document.parent if alone else document.with_suffix("")).relative_to(root)
            yield replace(one, video=f"{place.as_posix()}/{one.video}")
