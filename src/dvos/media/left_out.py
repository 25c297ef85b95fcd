"""What lies in a folder and is not used is told: silence would look like success."""

import logging
from collections.abc import Collection
from pathlib import Path

from dvos.errors import shortened
from dvos.media.layout import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    is_of_masks,
    list_files,
    list_folders,
)
from dvos.tables import STORE_SUFFIX

_MEDIA = frozenset({*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, STORE_SUFFIX})
#: What a run leaves in the folder that it writes.
_RECORDS = (".progress", "run.json", "stages.json")


def tell_left_out(
    folder: Path, used: Collection[Path], remedy: str, known: Collection[str] = ()
) -> None:
    """Warn of pictures, videos and stores of a folder, two levels deep, that are not ``used``.

    Masks lie beside their frames; folders of ``known`` names or that a run wrote are not looked at.
    """
    left: list[str] = []
    for inner in [folder, *_parts(folder)]:
        is_made = any((inner / name).exists() for name in _RECORDS)
        if inner != folder and (is_made or inner.name in known):
            continue
        places = [inner] if inner == folder else [inner, *_parts(inner)]
        files = [file for place in places for file in list_files(place, _MEDIA)]
        unused = [file for file in files if file not in used]
        if inner != folder and unused and len(unused) == len(files):
            left.append(inner.name)
        else:
            left += [str(file.relative_to(folder)) for file in unused]
    if left:
        logging.getLogger(__name__).warning("%s: left out: %s; %s", folder, shortened(left), remedy)


def _parts(folder: Path) -> list[Path]:
    return [part for part in list_folders(folder) if not is_of_masks(part)]
