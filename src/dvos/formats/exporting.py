"""``dvos export``: predictions, or any labels, in another program's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dvos.config.formats import ExportSettings
from dvos.errors import OutputError, UsageError
from dvos.files import make_folder, temporary_folder
from dvos.formats.importing import choose_classes, tell_notes, write_data_folder
from dvos.formats.known import FORMATS, open_source


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

    The folder appears when all is written. An OutputError if it holds anything, a MediaError if the
    source cannot be read or the format cannot hold it.
    """
    source = open_source(settings.predictions, images=settings.images)
    if settings.classes is not None:
        source = choose_classes(source, settings.classes)
    known, out = FORMATS[settings.format], settings.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError.at(out, "is not empty", "a new folder", "choose another --out")
    if known.write is None and settings.format != "dvos":
        raise UsageError.at("format", f"{known.title} is read only", "another format")
    with temporary_folder(make_folder(out.absolute().parent)) as folder:
        if known.write is None:
            write_data_folder(source, folder / "whole", pictures=True)
        else:
            known.write(source, make_folder(folder / "whole"))
        if out.exists():
            out.rmdir()
        (folder / "whole").rename(out)
    tell_notes(source)
    objects = sum(source.classes().values())
    return ExportResult(out, known.title, len(source.pictures), objects)
