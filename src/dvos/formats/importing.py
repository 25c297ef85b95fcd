"""``dvos import``: what annotators wrote, as a data folder that every command reads."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dvos.config.formats import ImportSettings
from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.files import make_folder, write_text
from dvos.formats.known import FORMATS, open_source
from dvos.formats.labels import LabelledObject, LabelledSource, Picture
from dvos.formats.sheets import Sheet, other_file, plain_names, sheets
from dvos.media.image import read_image, write_image
from dvos.media.mask import IGNORE, read_mask, write_mask
from dvos.media.mask_values import DECLARATION
from dvos.media.video import VideoFile, VideoFrame
from dvos.tables import ClipRow, read_clips, write_clips

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportResult:
    """What was read and written.

    Attributes:
        source: What was read.
        title: Name of its format.
        out: The data folder; None where nothing was written.
        stills: Folder of labelled stills, ``images`` and ``masks``; None where there are none.
        clips: Table of clips; None where there are none.
        pictures: How many pictures there are, frames of videos too.
        empty: How many of them have no object.
        videos: How many videos.
        objects: How many objects each class has.
    """

    source: Path
    title: str
    out: Path | None
    stills: Path | None
    clips: Path | None
    pictures: int
    empty: int
    videos: int
    objects: dict[str, int]

    def __str__(self) -> str:
        told = [f"{count} of {name or 'one class'}" for name, count in self.objects.items()]
        videos = f" of {self.videos} videos and photos" if self.videos else ""
        where = f"{self.source}: {self.title}, {self.pictures} pictures{videos}, "
        where += f"{self.empty} without objects; objects: {', '.join(told) or 'none'}"
        return where + (f"; written to {self.out}" if self.out else "")


def import_labels(settings: ImportSettings) -> ImportResult:
    """Read labels of another program and write them as a data folder.

    Raises:
        UsageError: If the source is of no known format, or holds several classes and none is
            chosen.
        MediaError: With a fault for each picture or annotation that cannot be read.
        OutputError: If something else stands where a file is to be written.
    """
    source = open_source(settings.source, name=settings.format, images=settings.images)
    source = choose_classes(source, settings.classes)
    result = examine(source) if settings.dry_run else write_data_folder(source, settings.out)
    tell_notes(source)
    return result


def examine(source: LabelledSource) -> ImportResult:
    """Read a source whole and write nothing.

    Raises:
        MediaError: With a fault for each picture that is not found or cannot be drawn.
    """
    with FaultCollector(MediaError) as faults:
        for picture in source.pictures:
            faults.collect(_draw_all, picture)
        faults.collect(check_files, source)
    return _result(source, None)


def choose_classes(source: LabelledSource, classes: str | None) -> LabelledSource:
    """A source with objects of the classes asked for, in commas.

    Raises:
        UsageError: If there are several and none is asked for, or one asked for is not there.
    """
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

    pictures = [
        replace(one, objects=partial(_chosen, one.objects, wanted)) for one in source.pictures
    ]
    return replace(source, pictures=pictures)


def _chosen(
    objects: Callable[[], Sequence[LabelledObject]], wanted: Set[str]
) -> list[LabelledObject]:
    # A region of unknown label may be of no class.
    return [one for one in objects() if one.label in wanted or (one.unknown and not one.label)]


def tell_notes(source: LabelledSource) -> None:
    """Say what was not taken as it stands, a line for each kind."""
    for line in source.notes.lines():
        _log.warning("%s: %s", source.path, line)


def _draw_all(picture: Picture) -> None:
    for one in picture.objects():
        one.draw()


def check_files(source: LabelledSource) -> None:
    """See that all pictures were found.

    Raises:
        MediaError: With a fault for each that was not.
    """
    with FaultCollector(MediaError) as faults:
        for picture in source.pictures:
            if picture.path is None and picture.film is None:
                remedy = "put it beside the annotations, or name its folder with --images"
                faults.add(source.path, f"the picture {picture.name} was not found", "", remedy)


def write_data_folder(source: LabelledSource, out: Path, *, pictures: bool = True) -> ImportResult:
    """Write a source as ``annotated``, ``clips`` and ``clips.csv``.

    What is there already and the same stays, so that an import that was stopped goes on.

    Args:
        source: Of one class, or of several that are to be one.
        out: The data folder.
        pictures: Whether photos and frames are wanted; without them only masks are written.

    Raises:
        MediaError: With a fault for each picture that is not found or cannot be drawn.
        OutputError: If something else stands where a file is to be written.
    """
    if pictures:
        check_files(source)
    if any(source.parents.values()):
        source.notes.add("divisions, which a table of clips does not tell")
    make_folder(out)
    rows: list[ClipRow] = []
    films: dict[Path, Iterator[VideoFrame]] = {}
    with FaultCollector() as faults:
        for sheet in sheets(source, IGNORE - 1):
            folder = out / "clips" / sheet.video if sheet.video else out / "annotated"
            mask = folder / "masks" / f"{sheet.name}.png" if sheet.picture.labelled else None
            if mask is not None:
                _declare(folder / "masks")
                faults.collect(_write_ids, sheet, mask)
            if not pictures:
                continue
            frames = folder / ("frames" if sheet.video else "images")
            image = faults.collect(_write_picture, sheet, frames, films)
            if sheet.video and image is not None:
                fid, label = sheet.picture.frame, int(sheet.picture.labelled)
                rows.append(ClipRow("", sheet.video, fid, image, mask, label))
    table = out / "clips.csv"
    if rows and not table.exists():
        write_clips(table, rows)
    elif rows and read_clips(table) != rows:
        raise other_file(table)
    return _result(source, out)


def _write_ids(sheet: Sheet, path: Path) -> None:
    ids = sheet.labels(IGNORE).astype(np.uint16)
    if not path.exists():
        write_mask(path, ids)
    elif not np.array_equal(read_mask(path), ids):
        raise other_file(path)


def _write_picture(sheet: Sheet, folder: Path, films: dict[Path, Iterator[VideoFrame]]) -> Path:
    """Have a photo or frame in a folder: its own file, or of a video file a PNG."""
    film, number = sheet.picture.film, sheet.picture.frame
    if film is None:
        return folder / sheet.place_file(folder)
    if film not in films:
        films[film] = VideoFile(film).frames(number)
    frame = next((one for one in films[film] if one.frame_index >= number), None)
    if frame is None or frame.frame_index != number:
        found = f"has no frame {number}, which is labelled"
        raise MediaError.at(film, found, "the video that was labelled")
    path = folder / f"{sheet.name}.png"
    if not path.exists():
        write_image(path, frame.image)
    elif not np.array_equal(read_image(path), frame.image):
        raise other_file(path)
    return path


def _declare(folder: Path) -> None:
    """Say which value means "unknown" in a folder of masks, so that no other is taken for it."""
    path, text = folder / DECLARATION, f"{IGNORE}\n"
    if not path.exists():
        write_text(path, text)
    elif path.read_text(encoding="utf-8", errors="replace") != text:
        raise other_file(path)


def _result(source: LabelledSource, out: Path | None) -> ImportResult:
    videos = {one.video for one in source.pictures}
    objects: Counter[str] = Counter()
    empty = 0
    for picture in source.pictures:
        own = [one.label for one in picture.objects() if not one.unknown]
        objects.update(own)
        empty += picture.labelled and not own
    return ImportResult(
        source.path,
        FORMATS[source.format].title,
        out,
        out / "annotated" if out and "" in videos else None,
        out / "clips.csv" if out and videos - {""} else None,
        len(source.pictures),
        empty,
        len(videos - {""}),
        dict(objects.most_common()),
    )


def take_sources(
    sources: Iterable[Path], classes: str | None, place: Path
) -> tuple[list[Path], list[Path]]:
    """Import sources for a command that takes them as they are, each into a folder of its own.

    Args:
        sources: Files and folders of annotators.
        classes: Those of the objects, in commas; None where there is one.
        place: Folder for these folders.

    Returns:
        Folders of labelled stills, and tables of clips.

    Raises:
        DvosError: As :func:`import_labels`, with a fault for each thing that is wrong.
    """
    paths, results = list(sources), []
    with FaultCollector() as faults:
        for path, name in zip(paths, plain_names(list(map(str, paths))), strict=True):
            settings = ImportSettings(source=path, out=place / name, classes=classes)
            results.append(faults.collect(import_labels, settings))
    found = [one for one in results if one is not None]
    for one in found:
        _log.warning("%s", one)
    return [one.stills for one in found if one.stills], [one.clips for one in found if one.clips]


def take_truth(path: Path, classes: str | None, place: Path) -> Path:
    """Write what another program labelled as a folder of true masks; pictures need not be there.

    Args:
        path: File or folder.
        classes: Those of the objects, in commas; None where there is one.
        place: Folder for the masks.

    Returns:
        A flat folder of masks of photos, or one with a folder for each video.

    Raises:
        UsageError: If it holds photos and videos, or several classes and none is chosen.
        DvosError: As :func:`import_labels`.
    """
    source = choose_classes(open_source(path), classes)
    result = write_data_folder(source, place, pictures=False)
    tell_notes(source)
    _log.warning("%s", result)
    if result.stills and result.clips:
        remedy = "score them apart: import it, then score annotated/masks and clips.csv"
        raise UsageError.at(path, "holds photos and videos", "photos, or videos", remedy)
    return result.stills / "masks" if result.stills else place / "clips"
