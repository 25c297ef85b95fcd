"""YOLO segmentation: ``data.yaml``, and a text of polygons for each picture.

See https://docs.ultralytics.com/datasets/segment/. A row is a class and corners as shares of width
and height, or a box of four. ``images/X`` goes with ``labels/X``, ``X/images`` with ``X/labels``.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dvos.config.strict_yaml import parse_yaml
from dvos.errors import MediaError
from dvos.files import absent, stem_of, write_text
from dvos.formats import checked
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size
from dvos.formats.raster import BRIDGED, box, bridged, fill, ring
from dvos.formats.reading import Format, Reading, drawing, load_document, naming
from dvos.formats.sheets import labelled, sheets
from dvos.media.image import image_size
from dvos.media.layout import IMAGE_SUFFIXES, check_stems, list_files, list_folders
from dvos.media.mask import LARGEST_32

_TABLES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
#: A label text of more is none.
_MOST_BYTES = 2**26


def _matches(path: Path, _: Any) -> bool:
    if path.is_file():
        return path.name.lower() in _TABLES
    texts = (list_files(labels, {".txt"}) for _, labels in _folders(path, path))
    return _table(path) is not None or any(texts)


def _table(path: Path) -> Path | None:
    return next((path / name for name in _TABLES if (path / name).is_file()), None)


def _folders(root: Path, photos: Path) -> list[tuple[Path, Path]]:
    """Folders of images, each with that of its labels, at any of the usual depths."""
    found = []
    for part in (root, *list_folders(root)):
        for labels in (part / "labels", *list_folders(part / "labels")):
            below = labels.relative_to(part / "labels")
            places = [part / "images" / below]
            if photos != root and list_files(labels, {".txt"}):
                places += [photos / part.relative_to(root) / "images" / below]
                places += [photos / below, photos]
            images = (place for place in places if list_files(place, IMAGE_SUFFIXES))
            if labels.is_dir() and (first := next(images, None)):
                found.append((first, labels))
    return found


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    """A picture for each image; one without a text, or with an empty one, has no objects."""
    table = path if path.is_file() else _table(path)
    root = path.parent if path.is_file() else path
    names = {} if table is None else _names(table)
    folders = _folders(root, reading.root)
    if not folders:
        expected = "folders images and labels beside each other"
        remedy = "put the pictures there, or name their folder with --images"
        raise MediaError.at(path, "has no pictures beside its labels", expected, remedy)
    if len(folders) > 1:
        parts = ", ".join(reading.name_of(images, "") for images, _ in folders)
        reading.notes.add(f"parts of the data set read together: {parts}")
    for images, labels in folders:
        texts = {stem_of(one): one for one in list_files(labels, {".txt"})}
        files = list_files(images, IMAGE_SUFFIXES)
        check_stems(files, texts)
        for file in files:
            size, name = image_size(file), reading.name_of(file, "")
            rows = texts.pop(stem_of(file), None)
            reading.once(rows or labels, file)
            yield Picture(name, size, partial(_objects, rows, names, size, reading), file)
        texts.pop("classes", None)
        for lone in texts.values():
            raise MediaError.at(lone, f"no image of that name in {images}", "", "add it")


def _names(table: Path) -> dict[int, str]:
    """Classes by index, of a list or a mapping."""
    with naming(table):
        values = parse_yaml(table.read_text(encoding="utf-8"))
        given = values.get("names") if isinstance(values, Mapping) else None
        if isinstance(given, list):
            return {index: checked.text(str(name), "names") for index, name in enumerate(given)}
        if isinstance(given, Mapping):
            return {
                checked.whole(index, "names"): checked.text(str(name), "names")
                for index, name in given.items()
            }
        raise ValueError("its names are neither a list nor a mapping of classes")


def _objects(
    rows: Path | None, names: Mapping[int, str], size: Size, reading: Reading
) -> Iterator[LabelledObject]:
    if rows is None or (rows.is_file() and not rows.stat().st_size):
        return
    if not rows.is_file():
        raise MediaError.at(rows, absent(rows), "a text of labels")
    if rows.stat().st_size > _MOST_BYTES:
        raise MediaError.at(rows, "is too large for a text of labels")
    for place, row in enumerate(load_document(rows).splitlines(), 1):
        cells = row.split()
        if not cells:
            continue
        with naming(f"{rows} row {place}"):
            index = checked.whole(cells[0], "class")
            if names and index not in names:
                raise ValueError(f"class {index} is not among the {len(names)} of data.yaml")
            values = [checked.number(cell, "corners") for cell in cells[1:]]
            if len(values) == 4:
                reading.notes.add("rows that are boxes, taken for filled rectangles", rows, place)
            elif len(values) < 6 or len(values) % 2:
                raise ValueError(f"{len(cells)} numbers, a class and 4 or 6, 8 ... are needed")
            if max(map(abs, values)) > 2:
                raise ValueError("corners that are no shares of width and height")
            label = names.get(index, f"class {index}")
            yield LabelledObject(label, drawing(f"{rows} row {place}", _draw, values, size))


def _draw(values: Sequence[float], size: Size) -> Region:
    corners = np.reshape(values, (-1, 2)) * size[::-1]
    if len(values) > 4:
        return fill([ring(corners)], size)
    (x, y), (across, down) = corners.tolist()
    return fill([box(x - across / 2, y - down / 2, across, down)], size)


def _write(source: LabelledSource, out: Path) -> None:
    classes = {name: index for index, name in enumerate(sorted(source.classes()))}
    for sheet in labelled(sheets(source, LARGEST_32, "flat")):
        rows = ""
        for one, number, region in sheet.shapes():
            path, joins = bridged(region)
            if joins:
                source.notes.add(BRIDGED, sheet.name, number)
            shares = (path / np.array(sheet.picture.size[::-1])).ravel().tolist()
            corners = " ".join(f"{share:.9g}" for share in shares)
            rows += f"{classes[one.label]} {corners}\n"
        write_text(out / "labels/train" / f"{sheet.name}.txt", rows)
        sheet.place_file(out / "images/train")
    names = {index: name or "object" for name, index in classes.items()}
    table = {"path": ".", "train": "images/train", "val": "images/train", "names": names}
    write_text(out / "data.yaml", yaml.safe_dump(table, sort_keys=False, allow_unicode=True))


FORMAT = Format("yolo", "YOLO segmentation", _matches, _read, write=_write)
