"""What this program writes and reads: predictions, labelled stills, tables of clips."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dvos.errors import FaultCollector, MediaError, TableError, check_size
from dvos.files import find_path
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Size, label_objects
from dvos.formats.reading import Format, Reading
from dvos.media.clip_store import OpenStores, read_mask_at
from dvos.media.image import image_size
from dvos.media.layout import MASK_FOLDERS, pair_stills
from dvos.media.mask import (
    IGNORE,
    label_components,
    mask_ids,
    mask_size,
    object_pixels,
    read_label_image,
)
from dvos.media.mask_values import SEMANTIC
from dvos.tables import ClipRow, read_clips, read_counts
from dvos.tables.cells import read_cells, split_address

#: How many of its video a frame's name tells it to be.
_NUMBER = re.compile(r"\d{1,18}$", re.ASCII)
#: Where the mask of a predicted frame is looked for, by its name.
_PLACES = ("tracks/{}.png", "tracks/{}.tif", "instances/{}.png", "{}.png")


def _matches(path: Path, _: Any) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".csv"
    return (path / "counts.csv").is_file() or bool(_still_folders(path))


def _still_folders(path: Path) -> list[Path]:
    return [
        one
        for one in (path, path / "annotated", path / "validation")
        if (one / "images").is_dir() and any((one / name).is_dir() for name in MASK_FOLDERS)
    ]


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    if path.is_file():
        yield from _read_clips(path, reading)
    elif (path / "counts.csv").is_file():
        yield from _read_predictions(path, reading)
    else:
        for folder in _still_folders(path):
            with FaultCollector(MediaError) as faults:
                pairs = pair_stills(folder, faults)
            for photo, mask in pairs:
                name, size = photo.relative_to(path).as_posix(), image_size(photo)
                check_size(mask, mask_size(mask), size, photo)
                yield Picture(name, size, partial(_objects, mask, reading), photo)
        if (path / "clips.csv").is_file():
            yield from _read_clips(path / "clips.csv", reading)


def _read_clips(path: Path, reading: Reading) -> Iterator[Picture]:
    rows = read_clips(path)
    first = _first_frames(rows)
    with OpenStores() as stores, FaultCollector(MediaError) as faults:
        for row in rows:
            name, size = f"{row.vid}/{row.image.name}", stores.image_size(row.image)
            if row.mask is not None:
                faults.collect(check_size, row.mask, stores.mask_size(row.mask), size, row.image)
            objects = tuple if row.mask is None else partial(_objects, row.mask, reading)
            file, labelled = row.image if row.image.is_file() else None, row.mask is not None
            frame = row.fid - first[row.vid]
            yield Picture(name, size, objects, file, row.vid, frame, labelled)


def _first_frames(rows: Iterable[ClipRow]) -> dict[str, int]:
    """Of each clip the FID of its frame 0: not 0 where FIDs count the frames of a whole set.

    Its images tell by the numbers that their names end in, where all of them lie as far below.
    """
    ahead: dict[str, set[int]] = {}
    for row in rows:
        address, ending = split_address(row.image), _NUMBER.search(row.image.stem)
        number = address[1] if address else int(ending[0]) if ending else row.fid
        ahead.setdefault(row.vid, set()).add(row.fid - number)
    return {vid: max(0, *found) if len(found) == 1 else 0 for vid, found in ahead.items()}


def _read_predictions(path: Path, reading: Reading) -> Iterator[Picture]:
    films: dict[str, Path | None] = {}
    for row in read_counts(path / "counts.csv", ("clip", "frame_index", "frame")):
        # A copy may have taken the letters of its name and their accents apart.
        folder = find_path(path, row.clip) or path / row.clip
        found = (find_path(folder, place.format(row.frame)) for place in _PLACES)
        file = next(filter(None, found), folder / f"{row.frame}.png")
        kind = file.parent.name
        still = row.clip == row.frame and kind != "tracks"
        # Beside predictions lie masks, which are no pictures.
        given = reading.root != path
        photo = reading.find(f"{row.clip}/{row.frame}") if given else None
        if given and not still and row.clip not in films:
            films[row.clip] = reading.film(row.clip, path)
        if not still and row.clip not in reading.parents:
            reading.parents[row.clip] = read_parents(path / f"{row.clip}.tracks.csv")
        size = reading.size(photo, mask_size(file), file)
        name = f"{row.frame}{photo.suffix if photo else '.png'}"
        objects = partial(_objects, file, reading)
        if kind in ("tracks", "instances"):
            # What was painted as unknown on the page.
            unknown = IGNORE if kind == "tracks" and file.suffix == ".png" else None
            objects = partial(_numbered, file, size, unknown)
        name = name if still else f"{row.clip}/{name}"
        video, film = ("", None) if still else (row.clip, films.get(row.clip))
        yield Picture(name, size, objects, photo, video, row.frame_index, film=film)


def predicted(masks: Path, names: Mapping[str, str], size: Size) -> LabelledSource:
    """The finished frames of a clip, from ``instances/<frame>.png``; ``names`` are by frame."""
    pictures = [
        Picture(name, size, partial(_numbered, masks / "instances" / f"{frame}.png", size))
        for frame, name in names.items()
    ]
    return LabelledSource(masks, FORMAT.name, pictures)


def _numbered(file: Path, size: Size, unknown: int | None = None) -> list[LabelledObject]:
    labels = read_label_image(file)
    check_size(file, labels.shape, size, "its clip")
    return label_objects(labels, unknown=unknown)


def _objects(file: Path, reading: Reading) -> list[LabelledObject]:
    """The objects of a mask; of one that tells none apart, its connected components."""
    mask = read_mask_at(file)
    labels = mask_ids(mask, where=file).astype(np.int32)
    if mask.dtype != np.uint8 or SEMANTIC[2] not in mask or not np.isin(mask, SEMANTIC).all():
        return label_objects(labels, unknown=IGNORE)
    reading.notes.add("masks that tell no objects apart: what touches is one object", file)
    unknown = label_objects(np.where(labels == IGNORE, labels, 0), unknown=IGNORE)
    parts = label_objects(label_components(object_pixels(mask)).astype(np.int32))
    return [*(replace(one, id=None) for one in parts), *unknown]


def read_parents(table: Path) -> dict[int, int]:
    """The parent of each track that has one, of ``<clip>.tracks.csv``; none without the file."""
    return {id_: parent for id_, parent in read_tracks(table).items() if parent}


def read_tracks(table: Path) -> dict[int, int]:
    """Each track with its parent or 0, likewise."""
    if not table.is_file():
        return {}
    with FaultCollector(TableError) as faults:
        rows = read_cells(table, ("id", "parent"), faults, allow_empty=True)
        return {one.integer("id", minimum=1): one.integer("parent", minimum=0) for one in rows}


FORMAT = Format("dvos", "this program's own", _matches, _read)
