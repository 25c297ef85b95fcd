"""``dvos import`` and ``export``: what annotators wrote as a data folder, and in other formats."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dvos.config.labelling import ExportSettings, ImportSettings
from dvos.errors import FaultCollector, MediaError, OutputError, UsageError
from dvos.files import absolute, make_folder, temporary_folder, write_bytes
from dvos.formats.known import FORMATS, open_source
from dvos.formats.labels import LabelledObject, LabelledSource
from dvos.formats.sheets import plain_names, put, sheets
from dvos.media.mask import IGNORE, read_mask, write_mask
from dvos.media.mask_values import DECLARATION
from dvos.tables import ClipRow, read_clips, write_clips

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportResult:
    """What was read and written."""

    source: Path
    title: str  # name of its format
    out: Path | None  # the data folder, if anything was written
    stills: Path | None  # folder of labelled stills, images and masks, if there are any
    clips: Path | None  # table of clips, if there are any
    pictures: int  # how many there are, frames of videos too
    empty: int  # how many of them have no object
    videos: int
    objects: dict[str, int]  # how many each class has

    def __str__(self) -> str:
        told = [f"{count} of {name or 'one class'}" for name, count in self.objects.items()]
        videos = f" of {self.videos} videos and photos" if self.videos else ""
        where = f"{self.source}: {self.title}, {self.pictures} pictures{videos}, "
        where += f"{self.empty} without objects; objects: {', '.join(told) or 'none'}"
        return where + (f"; written to {self.out}" if self.out else "")


def import_labels(settings: ImportSettings) -> ImportResult:
    """Read labels of another program and write them as a data folder.

    A UsageError if it holds several classes and none is chosen, else a fault for each thing wrong.
    """
    source = open_source(settings.source, name=settings.format, images=settings.images)
    source = choose_classes(source, settings.classes)
    result = examine(source) if settings.dry_run else write_data_folder(source, settings.out)
    tell_notes(source)
    return result


def examine(source: LabelledSource) -> ImportResult:
    """Read a source whole and write nothing; a fault for each picture not found or drawn."""
    with FaultCollector(MediaError) as faults:
        for picture in source.pictures:
            faults.collect(lambda each: [one.draw() for one in each.objects()], picture)
        faults.collect(_check_files, source)
    return _result(source, None)


def choose_classes(source: LabelledSource, classes: str | None) -> LabelledSource:
    """A source with objects of the classes asked for, in commas; a UsageError if one is lacking."""
    counts = source.classes()
    listed = ", ".join(f"{name or 'unnamed'} ({n})" for name, n in counts.most_common())
    if classes is None:
        if len(counts) > 1:
            remedy = f"give --classes, such as --classes {next(iter(counts)) or 'unnamed'}"
            found = f"holds objects of several classes: {listed}"
            raise UsageError.at(source.path, found, "which of them are the objects", remedy)
        return source
    wanted = {name.strip() for name in classes.split(",")}
    if missing := sorted(wanted - counts.keys()):
        found = f"has no objects of class {', '.join(missing)}"
        raise UsageError.at(source.path, found, f"of {listed or 'none'}")

    def chosen(objects: Callable[[], Iterable[LabelledObject]]) -> list[LabelledObject]:
        # A region of unknown label may be of no class.
        return [one for one in objects() if one.label in wanted or (one.unknown and not one.label)]

    pictures = [replace(one, objects=partial(chosen, one.objects)) for one in source.pictures]
    return replace(source, pictures=pictures)


def tell_notes(source: LabelledSource) -> None:
    """Say what was not taken as it stands, a line for each kind."""
    for line in source.notes.lines():
        _log.warning("%s: %s", source.path, line)


def _check_files(source: LabelledSource) -> None:
    with FaultCollector(MediaError) as faults:
        for picture in source.pictures:
            if picture.path is None and picture.film is None:
                remedy = "put it beside the annotations, or name its folder with --images"
                faults.add(source.path, f"the picture {picture.name} was not found", "", remedy)


def write_data_folder(source: LabelledSource, out: Path, *, pictures: bool = True) -> ImportResult:
    """Write a source as ``annotated``, ``clips`` and ``clips.csv``; all its classes are one.

    What is there already and the same stays, so that an import goes on. Without ``pictures`` only
    masks are written. Raises with a fault for each picture or place that is wrong.
    """
    if pictures:
        _check_files(source)
    if any(source.parents.values()):
        source.notes.add("divisions, which a table of clips does not tell")
    make_folder(out)
    rows: list[ClipRow] = []
    declared = f"{IGNORE}\n".encode()
    with FaultCollector() as faults:
        for sheet in sheets(source, IGNORE - 1):
            if not (sheet.video or sheet.picture.labelled):
                source.notes.add("photos that are not labelled, left out", sheet.picture.name)
                continue
            folder = out / "clips" / sheet.video if sheet.video else out / "annotated"
            mask = folder / "masks" / f"{sheet.name}.png" if sheet.picture.labelled else None
            if mask is not None:
                # So that no other value is taken for "unknown".
                put(mask.with_name(DECLARATION), declared, write_bytes, Path.read_bytes)
                if (labels := faults.collect(sheet.labels, IGNORE)) is not None:
                    faults.collect(put, mask, labels.astype(np.uint16), write_mask, read_mask)
            if not pictures:
                continue
            frames = folder / ("frames" if sheet.video else "images")
            image = faults.collect(sheet.place_file, frames)
            if sheet.video and image is not None:
                fid, label = sheet.picture.frame, int(sheet.picture.labelled)
                rows.append(ClipRow("", sheet.video, fid, frames / image, mask, label))
    if rows:
        put(out / "clips.csv", _placed(rows), write_clips, lambda path: _placed(read_clips(path)))
    return _result(source, out)


def _placed(rows: Iterable[ClipRow]) -> list[ClipRow]:
    """Rows that name their files alike, whatever the current folder."""

    def moved(path: Path | None) -> Any:
        return path and Path(absolute(str(path)))

    return [replace(row, image=moved(row.image), mask=moved(row.mask)) for row in rows]


def _result(source: LabelledSource, out: Path | None) -> ImportResult:
    videos = {one.video for one in source.pictures if one.video}
    photos = any(one.labelled for one in source.pictures if not one.video)
    objects: Counter[str] = Counter()
    empty = 0
    for picture in source.pictures:
        own = [one.label for one in picture.objects() if not one.unknown]
        objects.update(own)
        empty += picture.labelled and not own
    return ImportResult(
        source=source.path,
        title=FORMATS[source.format].title,
        out=out,
        stills=out / "annotated" if out and photos else None,
        clips=out / "clips.csv" if out and videos else None,
        pictures=len(source.pictures),
        empty=empty,
        videos=len(videos),
        objects=dict(objects.most_common()),
    )


def take_sources(
    sources: Iterable[Path], classes: str | None, place: Path
) -> tuple[list[Path], list[Path]]:
    """Import each source into a folder in ``place``; gives folders of stills, and tables."""
    paths, found = list(sources), []
    with FaultCollector() as faults:
        for path, name in zip(paths, plain_names(list(map(str, paths))), strict=True):
            settings = ImportSettings(source=path, out=place / name, classes=classes)
            if (result := faults.collect(import_labels, settings)) is not None:
                found.append(result)
    for one in found:
        _log.warning("%s", one)
    return [one.stills for one in found if one.stills], [one.clips for one in found if one.clips]


def take_truth(path: Path, classes: str | None, place: Path) -> Path:
    """Write another program's labels as true masks in ``place``, flat or with a folder for a video.

    Pictures need not be there. A UsageError if it holds photos and videos, or classes unchosen.
    """
    source = choose_classes(open_source(path), classes)
    result = write_data_folder(source, place, pictures=False)
    tell_notes(source)
    _log.warning("%s", result)
    if result.stills and result.clips:
        remedy = "score them apart: import it, then score annotated/masks and clips.csv"
        raise UsageError.at(path, "holds photos and videos", "photos, or videos", remedy)
    return result.stills / "masks" if result.stills else place / "clips"


@dataclass(frozen=True)
class ExportResult:
    """What was written: a folder of a format, and how many pictures and objects it tells of."""

    out: Path
    title: str
    pictures: int
    objects: int

    def __str__(self) -> str:
        return f"{self.out}: {self.title}, {self.pictures} pictures, {self.objects} objects"


def export(settings: ExportSettings) -> ExportResult:
    """Write predictions, a data folder, or labels of any known format, in another format.

    The folder appears when all is written. An OutputError if it holds anything, else a MediaError.
    """
    source = open_source(settings.predictions, images=settings.images)
    if settings.classes is not None:
        source = choose_classes(source, settings.classes)
    known, out = FORMATS[settings.format], settings.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError.at(out, "is not empty", "a new folder", "choose another --out")
    with temporary_folder(make_folder(out.absolute().parent)) as folder:
        if known.write is None:
            write_data_folder(source, folder / "whole")
        else:
            known.write(source, make_folder(folder / "whole"))
            for name in () if known.classes else source.classes().keys() - {""}:
                source.notes.add(f"names of classes, which {known.title} does not tell", name)
        if out.exists():
            out.rmdir()
        (folder / "whole").rename(out)
    tell_notes(source)
    return ExportResult(out, known.title, len(source.pictures), sum(source.classes().values()))
